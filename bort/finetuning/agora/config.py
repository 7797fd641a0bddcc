"""What can be set about Agora: its variant, how Θ is pruned, what points are made of, and who labels them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from bort.errors import ConfigurationError
from bort.finetuning.config import FinetuningConfig
from bort.tasks.task import Task

VARIANTS = ("best", "paper")
PRUNING = ("lcs", "halving")
LABELS = ("hard", "soft")
PRIORS = ("train", "even", "metric")
#: Metrics that weigh classes alike, however frequent they are.
EVEN_METRICS = ("matthews_correlation", "macro_f1")
SOURCES = ("steering", "train", "random")
GENERATORS = ("retrieve", "contextual", "substitute", "insert", "swap", "delete", "spans", "mix", "pair_swap")
LABELLERS = ("features", "finetune", "directory")
REFUSED = ("raise", "plain")
#: What the benchmark compares; Agora first, because its steps are what the others get.
ARMS = ("agora", "paper", "plain", "distill", "random")
#: Sets of hyperparameters that one run of Agora may start with; it trains up to |Θ|(|Θ| + 1)/2 models.
MOST_SETS = 64


@dataclass
class LabellerConfig:
    """The model that labels new points.

    Args:
        kind: ``features``: a logistic regression on what the frozen encoder makes of a text; ``finetune``: the encoder fine-tuned;
            ``directory``: a classifier that is fine-tuned already.
        path: Its directory, for ``directory``.
        encoder: What the other kinds are made from; the pipelines put the teacher here.
        accuracy: It is refused unless its accuracy on steering examples is above this; the paper's 2/3.
        skill: It is refused, too, unless its Matthews correlation there (for any number of classes) is above this: where 70 % of
            the labels are the same, an accuracy above 2/3 proves nothing. A constant answer has 0.
        refused: ``raise`` ends the run; ``plain`` goes on without new points, which leaves plain fine-tuning.
        theta: Settings of fine-tuning that differ for it, for ``finetune``.
    """

    kind: str = "features"
    path: str | None = None
    encoder: str | None = None
    accuracy: float = 2 / 3
    skill: float = 0.05
    refused: str = "raise"
    theta: dict[str, Any] = field(default_factory=lambda: {"learning_rate": 1e-4, "epochs": 3})

    def check(self) -> None:
        """Checks what can be judged without reading a model.

        Raises:
            ConfigurationError: A value cannot be used.
        """
        for name, accepted in (("kind", LABELLERS), ("refused", REFUSED)):
            if getattr(self, name) not in accepted:
                raise ConfigurationError(f"agora.labeller.{name}", getattr(self, name), f"use one of {', '.join(accepted)}")
        if self.kind == "directory" and not self.path:
            raise ConfigurationError("agora.labeller.path", self.path, "name the directory of a fine-tuned classifier")
        for name in ("accuracy", "skill"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ConfigurationError(f"agora.labeller.{name}", value, "a number from 0 to 1 is needed")
        FinetuningConfig().with_theta(self.theta)


@dataclass
class AgoraConfig:
    """How Agora is run. Where a value is ``None``, the variant decides; :meth:`settled` fills it in.

    Args:
        enabled: Whether `bort finetune` runs Agora.
        variant: ``paper``: as far as the algorithm is recovered; ``best``: what worked best here.
        prune: How hyperparameter sets leave Θ: ``lcs`` or ``halving``; see :mod:`bort.finetuning.agora.prune`.
        replay: How often an iteration is done again before Θ is pruned.
        labels: ``hard``: the labeller's most likely class; ``soft``: its probabilities.
        distil: Share of the labeller's probabilities in the targets of the train examples themselves, in [0, 1].
        mistakes: What points are made from: what the best model gets wrong in ``steering``, what it gets wrong in ``train``
            although it saw it, or, with no regard to mistakes, ``random`` train examples.
        before: Points made of random train examples before the first iteration, so that every training has some.
        generators: Which make the points, in turn; ``a+b`` applies one after the other.
        per_mistake: Points made of each mistake.
        least: Points made in an iteration, at least: where mistakes are few, each makes more.
        most: Points made in an iteration, at most, whatever the number of mistakes.
        similarity: A point is dropped that shares this much or more with an example of train or steering or with another point.
        distinct: A point is dropped that shares less than this with the mistake it was made from.
        confidence: A point is dropped of whose label the labeller is less sure than this.
        balance: Whether points are dropped whose class would become too frequent, by the classes' shares of the prior.
        prior: How frequent classes are for the targets of train and points: ``train``: as they are in train; ``even``: equally
            frequent; ``metric``: as the task's first metric wants it: even where it weighs classes alike, as Matthews'
            correlation does, and for F1 such that the likelier class is that which the best threshold would choose.
        warm_start: Whether each model starts from the best one so far instead of from the encoder.
        early: Share of its steps that a training of the first iteration has, in (0, 1], where there are several θ; what this saves
            is added to the trainings of the next, which have more points.
        latest: Whether the latest iteration is returned that is within one standard error of the best steering score: of few
            steering examples the very best score is mostly luck, and later iterations have more points.
        sentences: Sentences of the corpus that ``retrieve`` chooses from.
        steps: Optimiser steps of one training, however many points there are; ``finetuning.epochs`` over train where absent.
        judgements: How often in a training the steering score is taken.
        symmetric: Names of tasks whose pairs may change places without changing the label.
        labeller: The model that labels.
    """

    enabled: bool = False
    variant: str = "best"
    prune: str | None = None
    replay: int = 0
    labels: str | None = None
    distil: float | None = None
    mistakes: list[str] | None = None
    before: int | None = None
    generators: list[str] | None = None
    per_mistake: int | None = None
    least: int | None = None
    most: int | None = None
    similarity: float | None = None
    distinct: float | None = None
    confidence: float | None = None
    balance: bool | None = None
    prior: str | None = None
    early: float | None = None
    latest: bool | None = None
    warm_start: bool | None = None
    sentences: int = 8000
    steps: int | None = None
    judgements: int = 3
    symmetric: list[str] = field(default_factory=lambda: ["glue-mrpc", "glue-qqp", "glue-stsb"])
    labeller: LabellerConfig = field(default_factory=LabellerConfig)

    def settled(self) -> AgoraConfig:
        """Returns these settings with the variant's own in every place that was left open."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        preset = PRESETS[self.variant]
        return AgoraConfig(**{name: preset[name] if value is None and name in preset else value for name, value in values.items()})

    def as_variant(self, variant: str) -> AgoraConfig:
        """Returns a variant as it is by itself: whatever variants decide is left to it."""
        open_: dict[str, Any] = dict.fromkeys(PRESETS[variant])
        return replace(self, **open_, variant=variant).settled()

    def plain(self) -> AgoraConfig:
        """Returns these settings, which have to be settled, without anything that only points or a labeller make sense of."""
        return replace(self, prior="train", early=1.0, latest=False)

    def retrieves(self) -> bool:
        """Whether any of the generators takes sentences from a corpus."""
        return any("retrieve" in name.split("+") for name in self.settled().generators or [])

    def even(self, task: Task) -> bool:
        """Whether classes count as equally frequent for a task."""
        return self.prior == "even" or (self.prior == "metric" and task.primary in EVEN_METRICS)

    def for_f1(self, task: Task) -> bool:
        """Whether targets are to choose the classes that F1 wants chosen."""
        return self.prior == "metric" and task.primary == "f1"

    def check(self) -> None:
        """Checks every value.

        Raises:
            ConfigurationError: A value cannot be used.
        """
        if self.variant not in VARIANTS:
            raise ConfigurationError("agora.variant", self.variant, f"use one of {', '.join(VARIANTS)}")
        self.labeller.check()
        whole = self.settled()
        for name, accepted in (("prune", PRUNING), ("labels", LABELS), ("prior", PRIORS)):
            if getattr(whole, name) not in accepted:
                raise ConfigurationError(f"agora.{name}", getattr(whole, name), f"use one of {', '.join(accepted)}")
        parts = [part for entry in whole.generators or [] for part in entry.split("+")]
        for name, values, known in (("mistakes", whole.mistakes, list(SOURCES)), ("generators", parts, list(GENERATORS))):
            unknown = [value for value in values or [] if value not in known]
            if unknown or not values:
                raise ConfigurationError(f"agora.{name}", unknown[0] if unknown else values, f"use some of {', '.join(known)}")
        lowest = {"replay": 0, "per_mistake": 1, "least": 0, "before": 0, "most": 1, "judgements": 1, "sentences": 1, "steps": 1}
        for name, least in lowest.items():
            value = getattr(whole, name)
            if value is not None and value < least:
                raise ConfigurationError(f"agora.{name}", value, f"a whole number of at least {least} is needed")
        for name in ("similarity", "distinct", "confidence", "distil", "early"):
            value = getattr(whole, name)
            if not math.isfinite(value) or not 0 <= value <= 1:
                raise ConfigurationError(f"agora.{name}", value, "a number from 0 to 1 is needed")
        if whole.early == 0:
            raise ConfigurationError("agora.early", 0, "a share above 0 is needed")
        if whole.distinct >= whole.similarity:  # type: ignore[operator]
            raise ConfigurationError("agora.distinct", whole.distinct, "it has to be below agora.similarity")


#: What each variant puts in the place of ``None``; ``paper`` has the plainest choice of what is not recovered.
PRESETS: dict[str, Mapping[str, Any]] = {
    "paper": {
        "prune": "lcs",
        "labels": "hard",
        "distil": 0.0,
        "mistakes": ["steering"],
        "before": 0,
        "generators": ["substitute", "insert", "swap", "delete"],
        "per_mistake": 2,
        "least": 0,
        "most": 400,
        "similarity": 0.8,
        "distinct": 0.1,
        "confidence": 0.0,
        "balance": False,
        "prior": "train",
        "early": 1.0,
        "latest": False,
        "warm_start": False,
    },
    "best": {
        "prune": "lcs",
        "labels": "soft",
        "distil": 0.5,
        "mistakes": ["steering", "train"],
        "before": 200,
        "generators": ["substitute", "mix+substitute"],
        "per_mistake": 4,
        "least": 300,
        "most": 400,
        "similarity": 0.85,
        "distinct": 0.0,
        "confidence": 0.0,
        "balance": True,
        "prior": "metric",
        "early": 0.5,
        "latest": True,
        "warm_start": False,
    },
}


def theta_grid(config: FinetuningConfig) -> list[dict[str, Any]]:
    """Returns Θ: every combination of the choices in ``finetuning.search``, in their order; one set where it is empty.

    Raises:
        ConfigurationError: A setting is a range, of which there is no list of all values, or there are too many combinations.
    """
    for name, wanted in config.search.items():
        if isinstance(wanted, Mapping):
            raise ConfigurationError(
                f"finetuning.search.{name}", dict(wanted), "Agora goes through all of Θ, so give a list of choices"
            )
    size = math.prod(len(wanted) for wanted in config.search.values())
    if size > MOST_SETS:
        trainings = size * (size + 1) // 2
        accepted = f"Agora trains up to {trainings:,} models for {size} sets; give at most {MOST_SETS} combinations"
        raise ConfigurationError("finetuning.search", sorted(config.search), accepted)
    return [dict(zip(config.search, values, strict=True)) for values in itertools.product(*config.search.values())]


def check_agora(task: Task, config: AgoraConfig, finetuning: FinetuningConfig) -> None:
    """Refuses what Agora cannot work with, before any model is loaded.

    Raises:
        ConfigurationError: A setting cannot be used, or the task is of a kind that Agora is not for.
    """
    config.check()
    theta_grid(finetuning)
    if task.kind != "classification":
        accepted = f"Agora is for classification, and {task.name} is a {task.kind}"
        raise ConfigurationError("finetuning", "agora", accepted)
    if config.settled().warm_start and finetuning.freeze:
        raise ConfigurationError(
            "agora.warm_start", True, "a model whose lower layers are frozen starts from the encoder every time"
        )


@dataclass
class AgoraBenchmarkConfig:
    """What `bort benchmark agora` compares.

    Args:
        tasks: The tasks by the names that ``task=`` has, such as ``glue/cola``; for each the settings that differ.
        only: Those of them to compare on; all where empty.
        glue: The directory of GLUE's own layout, for the tasks below ``glue/``; as their recipes have it where absent.
        sizes: Train examples of each setting.
        steering: Steering examples, at most; a setting has as many as train examples, since who has few labels has few of both.
        seeds: One draw of train and steering examples, and one run of each arm on it, for each.
        arms: The methods compared; each has as many optimiser steps as the dearest variant of Agora.
        steps: Optimiser steps of one training by train examples; the entry of the largest size that is not above counts.
        confidence: Of the intervals over seeds.
    """

    tasks: dict[str, Any] = field(default_factory=dict)
    only: list[str] = field(default_factory=list)
    glue: str | None = None
    sizes: list[int] = field(default_factory=lambda: [100, 500, 2000])
    steering: int = 500
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2, 3, 4])
    arms: list[str] = field(default_factory=lambda: list(ARMS))
    steps: dict[int, int] = field(default_factory=dict)
    confidence: float = 0.95

    def check(self) -> None:
        """Checks what can be judged without reading a task.

        Raises:
            ConfigurationError: A value cannot be used.
        """
        if not self.tasks:
            raise ConfigurationError(
                "agora_benchmark.tasks", self.tasks, "name at least one task, as agora_benchmark.tasks.NAME={}"
            )
        for name in self.only:
            if name not in self.tasks:
                raise ConfigurationError("agora_benchmark.only", name, f"use some of {', '.join(self.tasks)}")
        for name in ("sizes", "seeds", "arms"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise ConfigurationError(f"agora_benchmark.{name}", values, "at least one entry, each once, is needed")
        for arm in self.arms:
            if arm not in ARMS:
                raise ConfigurationError("agora_benchmark.arms", arm, f"use some of {', '.join(ARMS)}")
        if min(self.sizes) < 4 or self.steering < 4:
            raise ConfigurationError("agora_benchmark.sizes", self.sizes, "at least 4 examples are needed to train and to steer")
        if any(size < 1 or steps < 1 for size, steps in self.steps.items()):
            raise ConfigurationError("agora_benchmark.steps", self.steps, "positive whole numbers: {train examples: steps}")

    def steps_of(self, size: int, default: int | None) -> int | None:
        """Returns the optimiser steps of one training on ``size`` examples."""
        fitting = [least for least in self.steps if least <= size]
        return self.steps[max(fitting)] if fitting else default

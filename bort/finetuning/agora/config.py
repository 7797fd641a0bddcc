"""Settings of Agora: its variant, the pruning of Θ, the sources of points, and their labeler."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any

from annotated_types import Ge, Interval, MinLen

from bort.errors import ConfigurationError
from bort.finetuning.config import FinetuningConfig
from bort.settings import DISTINCT, OneOf, Rule, check_settings
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
_GENERATOR = Rule(
    f"one of {', '.join(GENERATORS)}, or several joined by +", lambda names: all(name in GENERATORS for name in names.split("+"))
)


@dataclass
class LabelerConfig:
    """The model that labels new points."""

    kind: Annotated[str, OneOf(*LABELLERS)] = "features"
    """``features``: a logistic regression on the frozen encoder's features; ``finetune``: the encoder
    fine-tuned; ``directory``: an already fine-tuned classifier.
    """

    path: str | None = None
    """Directory of the classifier, for ``directory``."""

    encoder: str | None = None
    """Encoder of the other kinds; the pipelines set the teacher."""

    accuracy: Annotated[float, Interval(ge=0, le=1)] = 2 / 3
    """The labeler is refused unless its accuracy on steering examples exceeds this; the paper's 2/3."""

    skill: Annotated[float, Interval(ge=0, le=1)] = 0.05
    """The labeler is also refused unless its Matthews correlation on steering examples (for any number of
    classes) exceeds this: if 70 % of the labels are equal, an accuracy above 2/3 proves nothing. A constant
    answer has 0.
    """

    refused: Annotated[str, OneOf(*REFUSED)] = "raise"
    """With a refused labeler, ``raise`` ends the run; ``plain`` continues without new points, which is plain
    fine-tuning.
    """

    theta: dict[str, Any] = field(default_factory=lambda: {"learning_rate": 1e-4, "epochs": 3})
    """Fine-tuning settings of the labeler that differ, for ``finetune``."""

    def check(self, key: str) -> None:
        """Refuse a classifier without a directory, and a θ out of its ranges."""
        if self.kind == "directory" and not self.path:
            accepted = f"the directory of a fine-tuned classifier with {key}.kind=directory"
            raise ConfigurationError(f"{key}.path", self.path, accepted)
        FinetuningConfig().with_theta(self.theta)


@dataclass
class AgoraConfig:
    """Settings of Agora; :meth:`settled` replaces each ``None`` by the variant's value."""

    enabled: bool = False
    """Whether `bort finetune` runs Agora."""

    variant: Annotated[str, OneOf(*VARIANTS)] = "best"
    """``paper``: the algorithm as far as it is recovered; ``best``: the best variant measured here."""

    prune: Annotated[str, OneOf(*PRUNING)] | None = None
    """Pruning of Θ: ``lcs`` or ``halving``; see :mod:`bort.finetuning.agora.prune`."""

    replay: Annotated[int, Ge(0)] = 0
    """Repetitions of an iteration before Θ is pruned."""

    labels: Annotated[str, OneOf(*LABELS)] | None = None
    """``hard``: the labeler's most likely class; ``soft``: its probabilities."""

    distil: Annotated[float, Interval(ge=0, le=1)] | None = None
    """Share of the labeler's probabilities in the targets of the train examples themselves."""

    mistakes: Annotated[list[Annotated[str, OneOf(*SOURCES)]], MinLen(1)] | None = None
    """Sources of points: the best model's mistakes in ``steering``, its mistakes in ``train`` although it was
    trained on them, or, independent of mistakes, ``random`` train examples.
    """

    before: Annotated[int, Ge(0)] | None = None
    """Points made of random train examples before the first iteration, so that every training has some."""

    generators: Annotated[list[Annotated[str, _GENERATOR]], MinLen(1)] | None = None
    """Generators of the points, in turn; ``a+b`` applies one after the other."""

    per_mistake: Annotated[int, Ge(1)] | None = None
    """Points made of each mistake."""

    least: Annotated[int, Ge(0)] | None = None
    """Smallest number of points of an iteration: with few mistakes, each yields more."""

    most: Annotated[int, Ge(1)] | None = None
    """Largest number of points of an iteration."""

    similarity: Annotated[float, Interval(ge=0, le=1)] | None = None
    """A point is dropped if it shares this much or more with an example of train or steering or with another
    point.
    """

    distinct: Annotated[float, Interval(ge=0, le=1)] | None = None
    """A point is dropped if it shares less than this with the mistake it was made from."""

    confidence: Annotated[float, Interval(ge=0, le=1)] | None = None
    """A point is dropped if the labeler's probability of its label is below this."""

    balance: bool | None = None
    """Whether points are dropped whose class would become more frequent than the prior."""

    prior: Annotated[str, OneOf(*PRIORS)] | None = None
    """Class frequencies for the targets of train and points: ``train``: those of train; ``even``: equal;
    ``metric``: those that suit the task's first metric: equal if it weighs classes alike, as Matthews'
    correlation does, and for F1 such that the likelier class is the one that the best threshold would choose.
    """

    early: Annotated[float, Interval(gt=0, le=1)] | None = None
    """Share of its steps that a training of the first iteration has, if Θ has several θ; the steps saved are
    added to the trainings of the next, which have more points.
    """

    latest: bool | None = None
    """Whether the latest iteration within one standard error of the best steering score is returned: on few
    steering examples the very best score is mostly luck, and later iterations have more points.
    """

    warm_start: bool | None = None
    """Whether each model starts from the best one so far instead of from the encoder."""

    sentences: Annotated[int, Ge(1)] = 8000
    """Sentences of the corpus that ``retrieve`` chooses from."""

    steps: Annotated[int, Ge(1)] | None = None
    """Optimizer steps of one training, independent of the number of points; ``null`` for
    ``finetuning.epochs`` over train.
    """

    judgements: Annotated[int, Ge(1)] = 3
    """Number of evaluations of the steering score in a training."""

    symmetric: list[str] = field(default_factory=lambda: ["glue-mrpc", "glue-qqp", "glue-stsb"])
    """Names of tasks whose pairs may be swapped without changing the label."""

    labeller: LabelerConfig = field(default_factory=LabelerConfig)
    """The model that labels."""

    def settled(self) -> AgoraConfig:
        """Return these settings with the variant's own in every place that was left open."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        preset = PRESETS[self.variant]
        return AgoraConfig(**{name: preset[name] if value is None and name in preset else value for name, value in values.items()})

    def as_variant(self, variant: str) -> AgoraConfig:
        """Return a variant as it is by itself: whatever variants decide is left to it."""
        open_: dict[str, Any] = dict.fromkeys(PRESETS[variant])
        return replace(self, **open_, variant=variant).settled()

    def plain(self) -> AgoraConfig:
        """Return these settings, which have to be settled, without anything that only points or a labeller make sense of."""
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

    def check(self, key: str) -> None:
        """Refuse points that would have to be more distinct than they are similar."""
        settled = self.settled()
        if settled.distinct >= settled.similarity:  # type: ignore[operator]
            accepted = f"< {key}.similarity={settled.similarity}"
            raise ConfigurationError(f"{key}.distinct", settled.distinct, accepted)


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
    """Return Θ: every combination of the choices in ``finetuning.search``, in their order; one set where it is empty.

    Raises:
        ConfigurationError: A setting is a range, of which there is no list of all values, or there are too many combinations.
    """
    for name, wanted in config.search.items():
        if isinstance(wanted, Mapping):
            raise ConfigurationError(f"finetuning.search.{name}", dict(wanted), "a list of choices, as Agora goes through all of Θ")
    size = math.prod(len(wanted) for wanted in config.search.values())
    if size > MOST_SETS:
        trainings = size * (size + 1) // 2
        accepted = f"a search of at most {MOST_SETS} combinations: Agora trains up to {trainings:,} models for {size} sets"
        raise ConfigurationError("finetuning.search", sorted(config.search), accepted)
    return [dict(zip(config.search, values, strict=True)) for values in itertools.product(*config.search.values())]


def check_agora(task: Task, config: AgoraConfig, finetuning: FinetuningConfig) -> None:
    """Refuse what Agora cannot work with, before any model is loaded.

    Raises:
        ConfigurationError: A setting cannot be used, or the task is of a kind that Agora is not for.
    """
    check_settings(config, "agora")
    theta_grid(finetuning)
    if task.kind != "classification":
        accepted = f"another choice, as {task.name} is a {task.kind}, and Agora is for classification"
        raise ConfigurationError("finetuning", "agora", accepted)
    if config.settled().warm_start and finetuning.freeze:
        raise ConfigurationError(
            "agora.warm_start",
            True,
            "false with finetuning.freeze > 0: a model with frozen layers starts from the encoder every time",
        )


@dataclass
class AgoraBenchmarkConfig:
    """Settings of `bort benchmark agora`."""

    tasks: dict[str, Any] = field(default_factory=dict)
    """The tasks by their names in ``task=``, such as ``glue/cola``, each with the settings that differ."""

    only: list[str] = field(default_factory=list)
    """The subset of tasks to compare on; all if empty."""

    glue: str | None = None
    """Directory of GLUE's own layout, for the tasks below ``glue/``; ``null`` for that of their recipes."""

    sizes: Annotated[list[Annotated[int, Ge(4)]], MinLen(1), DISTINCT] = field(default_factory=lambda: [100, 500, 2000])
    """Train examples of each setting."""

    steering: Annotated[int, Ge(4)] = 500
    """Largest number of steering examples; a setting has as many as train examples, since labels that are
    scarce are scarce for both.
    """

    seeds: Annotated[list[int], MinLen(1), DISTINCT] = field(default_factory=lambda: [0, 1, 2, 3, 4])
    """Seeds, each with one draw of train and steering examples and one run of each arm on it."""

    arms: Annotated[list[Annotated[str, OneOf(*ARMS)]], MinLen(1), DISTINCT] = field(default_factory=lambda: list(ARMS))
    """The methods compared; each has as many optimizer steps as the most expensive variant of Agora."""

    steps: dict[int, Annotated[int, Ge(1)]] = field(default_factory=dict)
    """Optimizer steps of one training by train examples; the entry of the largest size not above a setting's
    applies.
    """

    confidence: Annotated[float, Interval(gt=0, lt=1)] = 0.95
    """Level of the intervals over seeds."""

    def check(self, key: str) -> None:
        """Refuse a comparison on no task, or on one that is not configured."""
        if not self.tasks:
            accepted = f"a non-empty mapping: {key}.tasks.NAME={{}}"
            raise ConfigurationError(f"{key}.tasks", self.tasks, accepted)
        for name in self.only:
            if name not in self.tasks:
                raise ConfigurationError(f"{key}.only", name, f"one of {', '.join(self.tasks)}")
        if any(size < 1 for size in self.steps):
            raise ConfigurationError(f"{key}.steps", self.steps, "a mapping from train examples >= 1 to steps")

    def steps_of(self, size: int, default: int | None) -> int | None:
        """Return the optimiser steps of one training on ``size`` examples."""
        fitting = [least for least in self.steps if least <= size]
        return self.steps[max(fitting)] if fitting else default

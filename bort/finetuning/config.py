"""Settings of fine-tuning: the defaults of θ, Θ to search, the seeds to score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any

from annotated_types import Ge, Gt, Interval, MinLen

from bort.baselines.names import BASELINES
from bort.errors import ConfigurationError
from bort.settings import DISTINCT, OneOf, check_settings, check_value

POOLINGS = ("first", "mean")
#: Settings that Θ may range over.
THETA = ("learning_rate", "weight_decay", "warmup", "batch_size", "epochs", "dropout", "head_rate", "layer_rate", "freeze")


@dataclass
class FinetuningConfig:
    """Settings of the fine-tuning of an encoder and its score."""

    learning_rate: Annotated[float, Gt(0)] = 1e-4
    """Peak learning rate of AdamW, reached after the warm-up; it falls linearly to 0."""

    weight_decay: Annotated[float, Ge(0)] = 0.01
    """Decoupled weight decay; biases and norms are exempt."""

    warmup: Annotated[float, Interval(ge=0, lt=1)] = 0.1
    """Share of the steps with a rising learning rate."""

    batch_size: Annotated[int, Ge(1)] = 16
    """Examples in a step."""

    epochs: Annotated[int, Ge(1)] = 3
    """Largest number of passes over train."""

    patience: Annotated[int, Ge(1)] | None = None
    """Epochs without a better steering score before training stops; ``null`` for never. The score is noisy
    from epoch to epoch: one bad epoch is no reason to stop.
    """

    pooling: Annotated[str, OneOf(*POOLINGS)] = "first"
    """``first``: the classifier of transformers on the first token; ``mean``: a linear layer on the mean of
    all tokens, which no stock class expresses for BERT, so that such a model is loaded with
    ``bort.finetuning.load_classifier``.
    """

    freeze: Annotated[int, Ge(0)] = 0
    """Frozen bottom layers, the embeddings with them; 0 trains everything."""

    head_rate: Annotated[float, Gt(0)] = 1.0
    """Learning rate of the new head as a multiple of ``learning_rate``. A faster head gains nothing and
    sometimes saturates the pooler, which leaves a seed at chance.
    """

    layer_rate: Annotated[float, Interval(gt=0, le=1)] = 1.0
    """Learning rate of each layer as a multiple of that of the layer above it; 1 for equal rates."""

    dropout: Annotated[float, Interval(ge=0, lt=1)] | None = None
    """Dropout probability in training; ``null`` for the model's own."""

    clip: Annotated[float, Ge(0)] = 1.0
    """Largest global norm of the gradient; 0 turns clipping off."""

    seeds: Annotated[list[int], MinLen(1), DISTINCT] = field(default_factory=lambda: [0, 1, 2, 3, 4])
    """Seeds, one scored run each; at least five for publication."""

    baselines: Annotated[list[Annotated[str, OneOf(*BASELINES)]], DISTINCT] = field(
        default_factory=lambda: list(BASELINES), metadata={"since": "0.2.0"}
    )
    """Models to score on the same splits, from the majority class to the frozen teacher; none if empty."""

    trials: Annotated[int, Ge(0)] = 0
    """θs tried on steering data before the seeds; 0 takes the values above."""

    trial_epochs: Annotated[int, Ge(1)] | None = None
    """Epochs of a trial; ``null`` for ``epochs``."""

    search: dict[str, Any] = field(default_factory=dict)
    """Θ: by name a list of choices, or ``{low, high, log}``."""

    pruning: bool = True
    """Whether a trial is stopped if its steering score is below the median of the finished ones at the same
    epoch.
    """

    round: Annotated[int, Ge(1)] = 1
    """Trials proposed together, each without the results of the others: as many workers can share the search,
    and any number of them reaches the same result.
    """

    teacher: str | None = None
    """Directory of a classifier fine-tuned on this task, whose logits train examples receive; ``null`` for
    none.
    """

    temperature: Annotated[float, Gt(0)] = 2.0
    """Temperature of the teacher's logits."""

    teacher_weight: Annotated[float, Interval(ge=0, le=1)] = 0.5
    """Weight of the teacher in the loss; the rest is the labels'."""

    confidence: Annotated[float, Interval(gt=0, lt=1)] = 0.95
    """Level of the intervals."""

    resamples: Annotated[int, Ge(1)] = 1000
    """Bootstrap resamples of the held-out examples, for the interval over examples."""

    models: dict[str, Any] = field(default_factory=dict)
    """Settings that differ for one model, by its role: ``teacher: {freeze: 4, trials: 2}``."""

    def check(self, key: str) -> None:
        """Refuse trials without a search, and a search or settings of single models out of their ranges."""
        if self.trials > 1 and not self.search:
            accepted = f"0 or 1 with an empty {key}.search"
            raise ConfigurationError(f"{key}.trials", self.trials, accepted)
        for name, wanted in self.search.items():
            _check_range(name, wanted)
        for role in self.models:
            self.for_model(role)

    def for_model(self, role: str) -> FinetuningConfig:
        """Return the settings of one model: these, with those under ``models.<role>`` in their place.

        Raises:
            ConfigurationError: A setting under ``models`` is not known or cannot be used.
        """
        known = {item.name for item in fields(self)} - {"models"}
        changes = self.models.get(role) or {}
        for name in changes:
            if name not in known:
                raise ConfigurationError(
                    f"finetuning.models.{role}.{name}", changes[name], f"the value of one of {', '.join(sorted(known))}"
                )
        config = replace(self, **changes, models={})
        check_settings(config, "finetuning")
        return config

    def theta(self) -> dict[str, Any]:
        """Return θ as the settings above have it."""
        return {name: getattr(self, name) for name in THETA}

    def with_theta(self, theta: Mapping[str, Any]) -> FinetuningConfig:
        """Return these settings with those of θ in their place.

        Raises:
            ConfigurationError: θ names something else, or a value cannot be used.
        """
        for name, value in theta.items():
            if name not in THETA:
                raise ConfigurationError(f"finetuning.{name}", value, f"the value of one of {', '.join(THETA)}")
            check_value(FinetuningConfig, name, value, f"finetuning.{name}")
        return replace(self, **theta)


def _check_range(name: str, wanted: Any) -> None:
    key = f"finetuning.search.{name}"
    if name not in THETA:
        raise ConfigurationError(key, wanted, f"the range of one of {', '.join(THETA)}")
    if isinstance(wanted, (list, tuple)):
        if not wanted:
            raise ConfigurationError(key, wanted, "a non-empty list")
        for value in wanted:
            check_value(FinetuningConfig, name, value, key)
        return
    if not isinstance(wanted, Mapping) or not {"low", "high"} <= set(wanted) or set(wanted) - {"low", "high", "log"}:
        raise ConfigurationError(key, wanted, "a list, or low, high and optionally log")
    for end in ("low", "high"):
        if wanted[end] is None:
            raise ConfigurationError(f"{key}.{end}", None, "a number")
        check_value(FinetuningConfig, name, wanted[end], f"{key}.{end}")
    if wanted["low"] > wanted["high"] or (wanted.get("log") and wanted["low"] <= 0):
        raise ConfigurationError(key, wanted, "low <= high, and low > 0 on a logarithmic scale")

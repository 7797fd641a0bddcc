"""What can be set about fine-tuning: the defaults of θ, Θ to search, the seeds to score."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol

from bort.errors import ConfigurationError

POOLINGS = ("first", "mean")
#: Settings that Θ may range over.
THETA = ("learning_rate", "weight_decay", "warmup", "batch_size", "epochs", "dropout", "head_rate", "layer_rate", "freeze")
_WHOLE = ("batch_size", "epochs", "freeze")


class Impl(Protocol):
    """Settings that change only the speed; distillation's ``ImplConfig`` fits."""

    @property
    def device(self) -> str:
        """``auto``, ``cpu``, ``cuda`` …."""

    @property
    def precision(self) -> str:
        """Lightning's name of a precision, such as ``32``."""

    @property
    def threads(self) -> int | None:
        """Threads of torch; left alone where ``None``."""


@dataclass
class FinetuningConfig:
    """How an encoder is fine-tuned and scored.

    Args:
        learning_rate: Peak rate of AdamW, reached after the warm-up; falls linearly to 0.
        weight_decay: Decoupled decay of weights; biases and norms are spared.
        warmup: Share of the steps with a rising rate, in [0, 1).
        batch_size: Examples in a step.
        epochs: Passes over train, at most.
        patience: Epochs without a better steering score before training stops; never where absent.
        pooling: ``first``: the classifier of transformers on the first token; ``mean``: a linear layer on the mean of all tokens,
            which no stock class expresses for BERT, so that such a model is loaded with ``bort.finetuning.load_classifier``.
        freeze: Bottom layers that stay as they are, embeddings with them; 0 trains everything.
        head_rate: Rate of the new head's parameters as a multiple of ``learning_rate``.
        layer_rate: Rate of each layer as a multiple of that of the layer above it, in (0, 1]; with 1 all learn at the same rate.
        dropout: Probability in training; the model's own where absent.
        clip: Largest global norm of the gradient; 0 leaves it as it is.
        seeds: One scored run each; at least five for a figure to publish.
        trials: θs tried on steering data before the seeds; 0 takes the values above.
        trial_epochs: Epochs of a trial; as ``epochs`` where absent.
        search: Θ: by name a list of choices, or ``{low, high, log}``.
        pruning: Whether a trial is given up whose steering score is below the median of the finished ones at the same epoch.
        round: Trials that are proposed together, none knowing how the others end: as many workers can share the search, and any
            number of them finds the same.
        teacher: Directory of a classifier fine-tuned on this task, whose logits train examples are to be given; none where absent.
        temperature: At which the teacher's logits are softened, above 0.
        teacher_weight: Share of the teacher in the loss, in [0, 1]; the rest is the labels'.
        confidence: Of the intervals.
        resamples: Of the held-out examples, for the interval over examples.
        models: Settings that differ for one model, by its role: ``teacher: {freeze: 4, trials: 2}``.
    """

    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    warmup: float = 0.1
    batch_size: int = 16
    epochs: int = 3
    patience: int | None = None
    pooling: str = "first"
    freeze: int = 0
    head_rate: float = 1.0
    layer_rate: float = 1.0
    dropout: float | None = None
    clip: float = 1.0
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2, 3, 4])
    trials: int = 0
    trial_epochs: int | None = None
    search: dict[str, Any] = field(default_factory=dict)
    pruning: bool = True
    round: int = 1
    teacher: str | None = None
    temperature: float = 2.0
    teacher_weight: float = 0.5
    confidence: float = 0.95
    resamples: int = 1000
    models: dict[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Checks every value, those of Θ and of single models too.

        Raises:
            ConfigurationError: A value cannot be used.
        """
        for name in THETA:
            check_value(f"finetuning.{name}", name, getattr(self, name))
        if self.pooling not in POOLINGS:
            raise ConfigurationError("finetuning.pooling", self.pooling, f"use one of {', '.join(POOLINGS)}")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ConfigurationError("finetuning.seeds", self.seeds, "at least one seed, each once, is needed")
        if self.trials < 0:
            raise ConfigurationError("finetuning.trials", self.trials, "a whole number of at least 0 is needed")
        if self.trials > 1 and not self.search:
            raise ConfigurationError(
                "finetuning.trials", self.trials, "finetuning.search is empty, so there is nothing to try; set 0"
            )
        for name, value, least in (
            ("patience", self.patience, 1),
            ("trial_epochs", self.trial_epochs, 1),
            ("resamples", self.resamples, 1),
            ("round", self.round, 1),
        ):
            if value is not None and value < least:
                raise ConfigurationError(f"finetuning.{name}", value, f"a whole number of at least {least} is needed")
        if not 0 < self.confidence < 1:
            raise ConfigurationError("finetuning.confidence", self.confidence, "a number between 0 and 1 is needed")
        if not 0 < self.temperature < math.inf:
            raise ConfigurationError("finetuning.temperature", self.temperature, "a number above 0 is needed")
        if not 0 <= self.teacher_weight <= 1:
            raise ConfigurationError("finetuning.teacher_weight", self.teacher_weight, "a share from 0 to 1 is needed")
        if not 0 <= self.clip < math.inf:
            raise ConfigurationError("finetuning.clip", self.clip, "a number of at least 0 is needed")
        for name, wanted in self.search.items():
            _check_range(name, wanted)
        for role in self.models:
            self.for_model(role)

    def for_model(self, role: str) -> FinetuningConfig:
        """Returns the settings of one model: these, with those under ``models.<role>`` in their place.

        Raises:
            ConfigurationError: A setting under ``models`` is not known or cannot be used.
        """
        known = {item.name for item in fields(self)} - {"models"}
        changes = self.models.get(role) or {}
        for name in changes:
            if name not in known:
                raise ConfigurationError(
                    f"finetuning.models.{role}.{name}", changes[name], f"use one of {', '.join(sorted(known))}"
                )
        config = replace(self, **changes, models={})
        config.check()
        return config

    def theta(self) -> dict[str, Any]:
        """Returns θ as the settings above have it."""
        return {name: getattr(self, name) for name in THETA}

    def with_theta(self, theta: Mapping[str, Any]) -> FinetuningConfig:
        """Returns these settings with those of θ in their place.

        Raises:
            ConfigurationError: θ names something else, or a value cannot be used.
        """
        for name, value in theta.items():
            if name not in THETA:
                raise ConfigurationError(f"finetuning.{name}", value, f"θ may hold {', '.join(THETA)}")
            check_value(f"finetuning.{name}", name, value)
        return replace(self, **theta)


def check_value(key: str, name: str, value: Any) -> None:
    """Checks one value of θ.

    Raises:
        ConfigurationError: It cannot be used; ``key`` is how the message calls it.
    """
    if name == "dropout" and value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ConfigurationError(key, value, "a number is needed")
    if name in _WHOLE and value != int(value):
        raise ConfigurationError(key, value, "a whole number is needed")
    limits = {
        "learning_rate": (value > 0, "a number above 0 is needed"),
        "weight_decay": (value >= 0, "a number of at least 0 is needed"),
        "warmup": (0 <= value < 1, "a share of the steps from 0 to below 1 is needed"),
        "batch_size": (value >= 1, "at least 1 is needed"),
        "epochs": (value >= 1, "at least 1 is needed"),
        "dropout": (0 <= value < 1, "a probability from 0 to below 1 is needed"),
        "head_rate": (value > 0, "a number above 0 is needed"),
        "layer_rate": (0 < value <= 1, "a number above 0 and at most 1 is needed"),
        "freeze": (value >= 0, "a number of layers of at least 0 is needed"),
    }
    good, accepted = limits[name]
    if not good:
        raise ConfigurationError(key, value, accepted)


def _check_range(name: str, wanted: Any) -> None:
    key = f"finetuning.search.{name}"
    if name not in THETA:
        raise ConfigurationError(key, wanted, f"Θ may range over {', '.join(THETA)}")
    if isinstance(wanted, (list, tuple)):
        if not wanted:
            raise ConfigurationError(key, wanted, "a list of choices must have at least one")
        for value in wanted:
            check_value(key, name, value)
        return
    if not isinstance(wanted, Mapping) or not {"low", "high"} <= set(wanted) or set(wanted) - {"low", "high", "log"}:
        raise ConfigurationError(key, wanted, "a list of choices, or low, high and optionally log, is needed")
    for end in ("low", "high"):
        if wanted[end] is None:
            raise ConfigurationError(f"{key}.{end}", None, "a number is needed")
        check_value(f"{key}.{end}", name, wanted[end])
    if wanted["low"] > wanted["high"] or (wanted.get("log") and wanted["low"] <= 0):
        raise ConfigurationError(key, wanted, "low must not be above high, and must be above 0 on a logarithmic scale")

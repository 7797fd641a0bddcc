"""The labeller: an "ok-ish" model that says what made points are, and the check that it is one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bort.errors import BortError, ConfigurationError
from bort.finetuning.agora.config import LabellerConfig
from bort.finetuning.agora.encoder import Encoder
from bort.finetuning.config import FinetuningConfig, Impl
from bort.finetuning.once import finetune_once
from bort.finetuning.scoring import Scorer
from bort.tasks.metrics import weighted_scores
from bort.tasks.task import Example, Task

_STRENGTHS = (1.0, 3.0, 10.0, 30.0)
_FOLDS = 5


class Refused(BortError):
    """The labeller is no better than chance, or not good enough."""


class Labeller(Protocol):
    """Says how likely each class of each example is."""

    name: str

    def probabilities(self, examples: Sequence[Example]) -> NDArray[np.float64]:
        """Returns the probability of each class in the task's order, [N, C]; the labels of the examples are not looked at."""


class FeatureLabeller:
    """A logistic regression on the features of a frozen encoder; for a pair on both, their distance and their product.

    The strength of its regularisation is chosen by cross-validation within train.

    Args:
        encoder: The encoder.
        task: Its train examples are learnt from.
    """

    name = "features"

    def __init__(self, encoder: Encoder, task: Task) -> None:
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import StratifiedKFold, cross_val_score

        self._encoder, self._classes = encoder, len(task.labels)
        truth = np.array([int(example.label) for example in task.train])
        features = self._features(task.train)
        folds = min(_FOLDS, int(np.bincount(truth)[np.unique(truth)].min()))
        self.strength = _STRENGTHS[len(_STRENGTHS) // 2]
        if folds > 1:
            split = StratifiedKFold(folds, shuffle=True, random_state=0)
            losses = [
                float(
                    np.mean(
                        cross_val_score(_regression(LogisticRegression, one), features, truth, cv=split, scoring="neg_log_loss")
                    )
                )
                for one in _STRENGTHS
            ]
            self.strength = _STRENGTHS[int(np.argmax(losses))]
        self._model = _regression(LogisticRegression, self.strength).fit(features, truth)

    def probabilities(self, examples: Sequence[Example]) -> NDArray[np.float64]:
        """Returns [N, C]; a class that train does not have has probability 0."""
        found = np.zeros((len(examples), self._classes))
        if examples:
            found[:, self._model.classes_] = self._model.predict_proba(self._features(examples))
        return found

    def _features(self, examples: Sequence[Example]) -> NDArray[np.float32]:
        sides = [self._encoder.features(list(texts)) for texts in zip(*(example.texts for example in examples), strict=True)]
        if len(sides) == 1:
            return sides[0]
        one, other = sides
        return np.concatenate([one, other, np.abs(one - other), one * other], axis=1)


def _regression(kind: Any, strength: float) -> Any:
    # Features have length 1: their entries are about 1/√H, so that weights have to be large.
    return kind(C=strength, max_iter=2000)


class ClassifierLabeller:
    """A fine-tuned classifier of transformers, or one that Bort wrote.

    Args:
        directory: Where it lies.
        task: Its labels are matched by name.
        impl: Device.
    """

    name = "classifier"

    def __init__(self, directory: str | Path, task: Task, impl: Impl | None = None) -> None:
        self._scorer, self._classes = Scorer(directory, task, impl, what="The labeller"), len(task.labels)

    def probabilities(self, examples: Sequence[Example]) -> NDArray[np.float64]:
        """Returns [N, C]."""
        if not examples:
            return np.empty((0, self._classes))
        found = self._scorer.logits(examples, "label points")
        likely = np.exp(found - found.max(axis=1, keepdims=True))
        return np.asarray(likely / likely.sum(axis=1, keepdims=True))


def build_labeller(
    config: LabellerConfig, task: Task, *, directory: Path, encoder: Encoder | None, seed: int, impl: Impl | None = None
) -> tuple[Labeller, dict[str, Any]]:
    """Makes the labeller, checks it on steering examples, and says what it cost.

    Args:
        config: Which one.
        task: Learnt from where it is made here; its held-out examples are not read.
        directory: Gets a labeller that is fine-tuned here.
        encoder: For ``features``.
        seed: Of its training.
        impl: Device, precision, threads.

    Returns:
        The labeller, and its record: ``kind``, ``steering`` (accuracy, matthews_correlation), ``processor_seconds``, ``refused``
        (why, or empty).

    Raises:
        ConfigurationError: Nothing is named that it could be made from.
        BortError: It cannot be loaded or has other labels.
    """
    started = time.process_time()
    labeller: Labeller
    if config.kind == "directory":
        labeller = ClassifierLabeller(str(config.path), task, impl)
    elif config.encoder is None:
        raise ConfigurationError("agora.labeller.encoder", None, "name the encoder that the labeller is made from")
    elif config.kind == "finetune":
        settings = FinetuningConfig()
        finetune_once(config.encoder, task, config.theta, seed=seed, directory=directory, impl=impl, config=settings)
        labeller = ClassifierLabeller(directory / "model", task, impl)
    else:
        assert encoder is not None
        labeller = FeatureLabeller(encoder, task)
    found = labeller.probabilities(task.steering).argmax(axis=1).astype(np.float64)
    truth = np.array([example.label for example in task.steering])
    once = np.ones((1, len(truth)))
    scores = {
        name: float(weighted_scores(name, found, truth, once, len(task.labels))[0]) for name in ("accuracy", "matthews_correlation")
    }
    record = {
        "kind": config.kind,
        "steering": scores,
        "processor_seconds": time.process_time() - started,
        "refused": _refusal(config, scores, len(truth)),
    }
    return labeller, record


def _refusal(config: LabellerConfig, scores: dict[str, float], count: int) -> str:
    for key, name, least in (("accuracy", "accuracy", config.accuracy), ("skill", "matthews_correlation", config.skill)):
        if scores[name] <= least:
            return (
                f"on {count} steering examples the labeller's {name.replace('_', ' ')} is {scores[name]:.3f}, and has to be above "
                f"{least:.3f} (agora.labeller.{key}); give it more train examples, or name a better one with agora.labeller.path"
            )
    return ""

"""The labeler: an "ok-ish" model that labels generated points, and the check that it is one."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bort.errors import BortError, ConfigurationError
from bort.finetuning.agora.config import LabelerConfig
from bort.finetuning.agora.encoder import Encoder
from bort.finetuning.config import FinetuningConfig
from bort.finetuning.scoring import Scorer
from bort.finetuning.setup import FinetuningSetup
from bort.finetuning.train import finetune_once
from bort.runtime_config import ImplConfig
from bort.tasks.metrics import weighted_scores
from bort.tasks.task import Example, Task

_STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)
_FOLDS = 5


class LabelerRefusedError(BortError):
    """The labeler is no better than chance, or not good enough."""


class Labeler(Protocol):
    """A model of the classes' probabilities."""

    name: str

    def probabilities(self, examples: Sequence[Example]) -> NDArray[np.float64]:
        """Return the probability of each class in the task's order, [N, C]; the labels of the examples are not looked at."""


class FeatureLabeler:
    """A logistic regression on what all layers of a frozen encoder give; for a pair on both, their distance and their product.

    What a task wants to know stands in the middle layers as often as in the last: of all-MiniLM-L6-v2's sentence vectors alone a
    regression makes 4 points less on film reviews. There are more features than examples, so that it is fitted in the space of the
    examples, which gives the same model. The strength of its regularisation is chosen by cross-validation within train.

    Args:
        encoder: The encoder.
        task: Its train examples are learnt from.
    """

    name = "features"

    def __init__(self, encoder: Encoder, task: Task) -> None:
        self._encoder, self._classes = encoder, len(task.labels)
        truth = np.array([int(example.label) for example in task.train])
        raw = self._raw(task.train)
        self._mean, self._scale = raw.mean(axis=0), (raw.std(axis=0) + 1e-6) * np.sqrt(raw.shape[1])
        features = (raw - self._mean) / self._scale
        values, vectors = np.linalg.eigh(features @ features.T)
        kept = values > 1e-9 * values.max()
        self._basis = features.T @ (vectors[:, kept] / np.sqrt(values[kept]))
        places = features @ self._basis
        self.strength = _strength(places, truth)
        self._model = _regression(self.strength).fit(places, truth)

    def probabilities(self, examples: Sequence[Example]) -> NDArray[np.float64]:
        """Return [N, C]; a class that train does not have has probability 0."""
        found = np.zeros((len(examples), self._classes))
        if examples:
            places = (self._raw(examples) - self._mean) / self._scale @ self._basis
            found[:, self._model.classes_] = self._model.predict_proba(places)
        return found

    def _raw(self, examples: Sequence[Example]) -> NDArray[np.float64]:
        texts = zip(*(example.texts for example in examples), strict=True)
        sides = [self._encoder.features(list(one)).reshape(len(examples), -1).astype(np.float64) for one in texts]
        if len(sides) == 1:
            return sides[0]
        one, other = sides
        return np.concatenate([one, other, np.abs(one - other), one * other], axis=1)


def _strength(features: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    """Return the strength with the least loss on what is left out; the middle one where a class has too few examples to tell."""
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    folds = min(_FOLDS, int(np.bincount(truth)[np.unique(truth)].min()))
    if folds < 2:
        return _STRENGTHS[len(_STRENGTHS) // 2]
    split = StratifiedKFold(folds, shuffle=True, random_state=0)
    losses = [
        float(np.mean(cross_val_score(_regression(one), features, truth, cv=split, scoring="neg_log_loss"))) for one in _STRENGTHS
    ]
    return _STRENGTHS[int(np.argmax(losses))]


def _regression(strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, max_iter=2000, tol=1e-6)


def evened(probabilities: NDArray[np.float64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return probabilities divided by shares and brought to a sum of 1 (logit adjustment: Menon et al. 2021).

    With the classes' shares of train, they are as they would be had every class been equally frequent. With labels of which 70 %
    are the same, an unsure labeler predicts that one, and its student nothing else, which scores 0 in metrics that weigh
    classes alike.

    Args:
        probabilities: Of each class, [N, C].
        shares: Of each class, [C]; a class that has none keeps probability 0.
    """
    found = np.divide(probabilities, shares, out=np.zeros_like(probabilities), where=shares > 0)
    return np.asarray(found / np.maximum(found.sum(axis=1, keepdims=True), 1e-300))


def class_shares(task: Task) -> NDArray[np.float64]:
    """Return the share of each class of train, [C]."""
    counts = np.bincount([int(example.label) for example in task.train], minlength=len(task.labels))
    return np.asarray(counts / counts.sum())


def f1_shares(labeler: Labeler, task: Task) -> NDArray[np.float64]:
    """Return what to divide probabilities of two classes by, so that the likelier one is that which F1 wants chosen, [2].

    The threshold that is best for F1 is half of the best F1 (Lipton et al. 2014, arXiv 1402.1892): where saying yes to everything
    has 0.8, it is 0.4 at least. That best F1 is taken to be the labeler's on steering examples with the threshold best there,
    or that of saying yes to everything where that is larger.

    Args:
        labeler: The labeler.
        task: Of two labels, the second of which is what F1 looks for; its steering examples are read.
    """
    likely = labeler.probabilities(task.steering)[:, 1]
    truth = np.array([int(example.label) for example in task.steering])
    # Yes to the k likeliest, for every k; k = all is yes to everything.
    right = np.cumsum(truth[np.argsort(-likely, kind="stable")])
    best = float((2 * right / (np.arange(1, len(truth) + 1) + truth.sum())).max())
    return np.array([1 - best / 2, best / 2])


class ClassifierLabeler:
    """A fine-tuned classifier of transformers, or one that Bort wrote.

    Args:
        directory: Where it lies.
        task: Its labels are matched by name.
        impl: Device.
    """

    name = "classifier"

    def __init__(self, directory: str | Path, task: Task, impl: ImplConfig | None = None) -> None:
        self._scorer, self._classes = Scorer(directory, task, impl, what="The labeler"), len(task.labels)

    def probabilities(self, examples: Sequence[Example]) -> NDArray[np.float64]:
        """Return [N, C]."""
        if not examples:
            return np.empty((0, self._classes))
        found = self._scorer.logits(examples, "label points")
        likely = np.exp(found - found.max(axis=1, keepdims=True))
        return np.asarray(likely / likely.sum(axis=1, keepdims=True))


def build_labeler(
    config: LabelerConfig,
    task: Task,
    *,
    directory: Path,
    encoder: Encoder | None,
    seed: int,
    impl: ImplConfig | None = None,
    even: bool = False,
) -> tuple[Labeler, dict[str, Any]]:
    """Make the labeler and check it on steering examples.

    Args:
        config: Which one.
        task: Learnt from where it is made here; its held-out examples are not read.
        directory: Receives a labeler that is fine-tuned here.
        encoder: For ``features``.
        seed: Of its training.
        impl: Device, precision, threads.
        even: Whether its labels will be evened; see :func:`evened`.

    Returns:
        The labeler, and its record: ``kind``, ``steering`` (accuracy, matthews_correlation, evened_matthews_correlation),
        ``processor_seconds``, ``refused`` (why, or empty).

    Raises:
        ConfigurationError: Nothing is named that it could be made from.
        BortError: It cannot be loaded or has other labels.
    """
    started = time.process_time()
    labeler: Labeler
    if config.kind == "directory":
        labeler = ClassifierLabeler(str(config.path), task, impl)
    elif config.encoder is None:
        raise ConfigurationError("agora.labeller.encoder", None, "the encoder of the labeler")
    elif config.kind == "finetune":
        settings = FinetuningConfig().with_theta(config.theta)
        finetune_once(FinetuningSetup(config.encoder, task, settings, seed, impl or ImplConfig()), directory)
        labeler = ClassifierLabeler(directory / "model", task, impl)
    else:
        assert encoder is not None
        labeler = FeatureLabeler(encoder, task)
    likely = labeler.probabilities(task.steering)
    scores = {name: _score(name, likely, task) for name in ("accuracy", "matthews_correlation")}
    scores["evened_matthews_correlation"] = _score("matthews_correlation", evened(likely, class_shares(task)), task)
    record = {
        "kind": config.kind,
        "steering": scores,
        "processor_seconds": time.process_time() - started,
        "refused": refusal(config, scores, len(task.steering), even=even),
    }
    return labeler, record


def _score(name: str, probabilities: NDArray[np.float64], task: Task) -> float:
    truth = np.array([example.label for example in task.steering])
    found = probabilities.argmax(axis=1).astype(np.float64)
    return float(weighted_scores(name, found, truth, np.ones((1, len(truth))), len(task.labels))[0])


def refusal(config: LabelerConfig, scores: Mapping[str, float], count: int, *, even: bool) -> str:
    """Return the reason to refuse a labeler, or an empty text.

    Args:
        config: The least accuracy and skill.
        scores: Its scores on steering examples.
        count: How many those are.
        even: Whether its labels will be evened: then the skill is theirs, and the accuracy that before.
    """
    skill = "evened_matthews_correlation" if even else "matthews_correlation"
    for key, name, least in (("accuracy", "accuracy", config.accuracy), ("skill", skill, config.skill)):
        if scores[name] <= least:
            return (
                f"on {count} steering examples the labeler's {name.replace('_', ' ')} is {scores[name]:.3f}, and has to be above "
                f"{least:.3f} (agora.labeller.{key}); give it more train examples, or name a better one with agora.labeller.path"
            )
    return ""

"""A search that is small and real: every candidate is trained, writes checkpoints, and leaves weights that give its error."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from bort.architecture import ROBERTA_LARGE, Architecture
from bort.candidate import Evaluation, Theta
from bort.checkpoints import CheckpointFolder
from bort.distillation.estimator import ANSWERS, Answers
from bort.files import atomic_path, digest
from bort.observer import Observer, Quiet
from bort.search.config import SearchConfig
from bort.search.problem import Problem
from bort.search.space import SearchSpace

SPACE = {"depth": [1, 2, 3], "heads": [2], "hidden": [32, 64], "intermediate": [64, 128]}
RUNGS = (4, 8, 12)
EVERY = 2
SIZE = 32


def target(architecture: Architecture) -> torch.Tensor:
    """What a candidate's weights are trained towards."""
    shape = (architecture.depth, architecture.heads, architecture.hidden, architecture.intermediate)
    return torch.from_numpy(np.random.Generator(np.random.Philox(shape[0] * 10**6 + sum(shape))).normal(size=SIZE))


def error_of(architecture: Architecture, weights: torch.Tensor) -> float:
    """The error of weights: a part that falls with the size, and what is left to learn."""
    left = float(torch.mean((weights - target(architecture)) ** 2))
    return (1e5 / architecture.encoder_parameters()) ** 0.3 * (1.0 + left)


class TinyTraining:
    """Trains 32 weights by gradient descent with momentum; each step takes some time.

    Args:
        seconds: Time of a step.
        log: File to which the rungs that were trained are added.
    """

    name = "tiny"
    rungs = RUNGS
    fingerprint = "tiny 1"

    def __init__(self, seconds: float = 0.0, log: Path | None = None) -> None:
        self._seconds, self._log = seconds, log

    def evaluate(self, architecture: Architecture, theta: Theta, steps: int, directory: Path, observer: Observer) -> Evaluation:
        owner = digest({"fingerprint": self.fingerprint, "architecture": str(architecture)})
        answers = Answers(directory / ANSWERS, owner)
        if steps in answers.known:
            return answers.known[steps]
        checkpoints = CheckpointFolder(directory / "checkpoints", owner)
        resumed = checkpoints.load(observer, steps)
        first = resumed.step if resumed else 0
        state = (
            dict(resumed.tensors) if resumed else {name: torch.zeros(SIZE, dtype=torch.float64) for name in ("weights", "speed")}
        )
        for step in range(first + 1, steps + 1):
            time.sleep(self._seconds)
            state["speed"] = 0.5 * state["speed"] + 0.2 * (target(architecture) - state["weights"])
            state["weights"] = state["weights"] + state["speed"]
            if step % EVERY == 0:
                checkpoints.save(step, state, {"step": step})
        with atomic_path(directory / "student") as temporary:
            temporary.mkdir()
            save_file({"weights": state["weights"]}, temporary / "model.safetensors")
        if self._log is not None:
            with self._log.open("a") as file:
                file.write(f"{architecture} {steps}\n")
        error = error_of(architecture, state["weights"])
        return answers.add(Evaluation(steps, error, tokens=steps - max([0, *answers.known]), checkpoint=str(directory / "student")))


def problem(
    seconds: float = 0.0, log: Path | None = None, *, space: dict[str, list[int]] | None = None, estimator: Any = None
) -> Problem:
    """Returns the search: of tiny trainings, or of another estimator's errors."""
    return Problem(
        space=SearchSpace(**(space or SPACE)),
        maximum_point=ROBERTA_LARGE,
        parameters=lambda shape: shape.parameters(),
        latency=lambda shape: float(shape.operations()),
        estimator=estimator or TinyTraining(seconds, log),
        search=SearchConfig(),
    )


def check_files(folder: Path) -> int:
    """Loads every checkpoint that lies in the candidates' folders, and returns how many there were.

    One that is replaced or removed while it is looked at is looked at again.
    """
    loaded = 0
    for directory in (folder / "candidates").glob("*"):
        checkpoints = CheckpointFolder(directory / "checkpoints", _owner(directory))
        for step in checkpoints.steps():
            try:
                checkpoints._read(step)
            except Exception:
                if step in checkpoints.steps():
                    raise
                continue
            loaded += 1
    return loaded


def _owner(directory: Path) -> str:
    from bort.candidate import fingerprint

    for shape in SearchSpace(**SPACE):
        if fingerprint(shape, {}) == directory.name:
            return digest({"fingerprint": TinyTraining.fingerprint, "architecture": str(shape)})
    raise AssertionError(f"{directory} is nobody's")


def check_result(result: dict[str, Any]) -> int:
    """Loads the weights of every candidate, computes its error from them again, and returns how many there were."""
    for candidate in result["candidates"]:
        weights = load_file(Path(candidate["checkpoint"]) / "model.safetensors")["weights"]
        shape = Architecture(*(candidate[name] for name in ("depth", "heads", "hidden", "intermediate")))
        if candidate["state"] == "complete":
            assert error_of(shape, weights) == candidate["error"], candidate["name"]
    return len(result["candidates"])


def comparable(result: dict[str, Any]) -> dict[str, Any]:
    """Returns all of a result that must not depend on interruptions: everything but times and places."""
    dropped = {"seconds", "processor_seconds", "checkpoint", "shared_processor_seconds"}

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items() if key not in dropped and not key.endswith("seconds")}
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        return value

    return plain(result)


__all__ = ["Quiet", "TinyTraining", "check_files", "check_result", "comparable", "problem"]

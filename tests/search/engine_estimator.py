"""An estimator of the engines' tests: it trains by waiting, keeps a checkpoint of how far it is, and writes down who did what."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bort.architecture import Architecture
from bort.candidate import Evaluation
from bort.errors import BortError
from bort.observer import Observer


class Scripted:
    """Errors by a formula, after a wait.

    Args:
        log: File to which each piece of training is added.
        seconds: Time for the last rung.
        pieces: Pieces of a rung, after each of which the checkpoint is written.
        trouble: What goes wrong with an architecture, by its name: ``refused``, ``unreadable``, ``diverged``,
            ``warned``, ``broken`` or ``killed`` (the process, every time).
    """

    name = "scripted"
    rungs: Sequence[int] = (2, 4)

    def __init__(self, log: Path, seconds: float = 0.0, pieces: int = 4, trouble: dict[str, str] | None = None) -> None:
        self._log, self._seconds, self._pieces, self._trouble = log, seconds, pieces, trouble or {}
        self.fingerprint = f"scripted {log} {seconds} {pieces} {trouble}"

    def evaluate(self, architecture: Architecture, theta: Any, steps: int, directory: Path, observer: Observer) -> Evaluation:
        self._stumble(architecture, observer)
        directory.mkdir(parents=True, exist_ok=True)
        state = directory / "state.json"
        known = json.loads(state.read_text()) if state.exists() else {"pieces": 0}
        began = time.time()
        for piece in range(known["pieces"], self._pieces * steps // 2):
            time.sleep(self._seconds / (2 * self._pieces))
            state.with_suffix(".new").write_text(json.dumps({"pieces": piece + 1}))
            state.with_suffix(".new").replace(state)
            self._note(architecture, steps, piece)
        error = 0.5 + 40.0 / (steps * (architecture.depth + architecture.hidden))
        error = math.nan if self._trouble.get(str(architecture)) == "diverged" else error
        return Evaluation(
            steps, error, tokens=10, seconds=1.0, checkpoint=str(directory), metrics={"began": began, "ended": time.time()}
        )

    def _note(self, architecture: Architecture, steps: int, piece: int) -> None:
        ray = sys.modules.get("ray")
        node = ray.get_runtime_context().get_node_id() if ray and ray.is_initialized() else ""
        with self._log.open("a") as file:
            file.write(json.dumps([str(architecture), steps, piece, os.getpid(), node]) + "\n")

    def _stumble(self, architecture: Architecture, observer: Observer) -> None:
        trouble = self._trouble.get(str(architecture))
        if trouble == "refused":
            raise BortError(f"{architecture} is not wanted.")
        if trouble == "unreadable":
            raise OSError("the file is gone")
        if trouble == "broken":
            raise ZeroDivisionError("nobody foresaw this")
        if trouble == "warned":
            observer.warn(f"{architecture} is odd.")
        if trouble == "killed":
            os.kill(os.getpid(), 9)


def make(log: str, seconds: float = 0.0, pieces: int = 4, trouble: dict[str, str] | None = None) -> Scripted:
    """Makes the estimator anew, as a node does."""
    return Scripted(Path(log), seconds, pieces, trouble)

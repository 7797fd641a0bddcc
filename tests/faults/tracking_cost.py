"""What recording costs a training while the tracking server is in trouble: the same training records and is silent by turns."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bort.architecture import Architecture
from bort.distillation.config import BudgetConfig, TrainConfig
from bort.distillation.distill import distill
from bort.distillation.terms import LossConfig
from bort.observer import Observer, Quiet
from bort.tracking.config import TrackingConfig
from bort.tracking.tracker import Recording, Tracker
from tests.distillation.conftest import make_world
from tests.faults.mlflow_server import Proxy
from tests.faults.postgres import free_port

#: Steps that are recorded, and then as many that are not. Longer turns would meet another load of the machine.
TURN = 10


class Turns:
    """Passes a training's metrics on in every other turn, and times the turns; every step of the training has metrics.

    Args:
        recording: What listens in the turns that are recorded.
    """

    def __init__(self, recording: Observer) -> None:
        self._listeners = (Quiet(), recording)
        self._steps, self._began = 0, 0.0
        #: Seconds of each turn but the first, which warms up; the first of them is a recorded one.
        self.seconds: list[float] = []

    def progress(self, label: str, done: float, total: float, note: str = "") -> None:
        """Passes it on."""
        self._listener.progress(label, done, total, note)

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Passes them on, and ends the turn when it is time."""
        self._listener.metrics(values, step)
        self._steps += 1
        if self._steps % TURN == 0:
            now = time.perf_counter()
            if self._began:
                self.seconds.append(now - self._began)
            self._began = now

    def warn(self, message: str) -> None:
        """Passes it on."""
        self._listener.warn(message)

    @property
    def _listener(self) -> Observer:
        return self._listeners[self._steps // TURN % 2]


def recording_costs(folder: Path, steps: int, rounds: int) -> dict[str, Any]:
    """Returns by how much recorded steps take longer than silent ones, for each trouble that a tracking server can be in.

    Args:
        folder: Where to train.
        steps: Of each training.
        rounds: Trainings with each trouble, in turn.
    """
    world = make_world(folder / "world")
    train = TrainConfig(batch_size=4, learning_rate=5e-3, warmup_steps=2, log_every=1, heldout_blocks=None)
    arguments = world.arguments(LossConfig(hidden=1.0, relations=1.0, relation_heads=2), train=train)
    turns: dict[str, list[list[float]]] = {name: [] for name in ("refuses", "hangs", "answers 500")}
    given_up: dict[str, list[float]] = {name: [] for name in turns}
    for number in range(rounds):
        for name in turns:
            proxy = Proxy(free_port())
            proxy.judge = lambda method, path, name=name: "hang" if name == "hangs" else "error"
            if name != "refuses":
                proxy.open()
            place = folder / f"{number}-{name}"
            tracker = Tracker(TrackingConfig(uri=proxy.uri, timeout=2), place)
            observer = Turns(Recording(tracker.run("distill", key="distill")))
            shape, budget = Architecture(2, 2, 32, 64), BudgetConfig(steps)
            distill(shape, **arguments, budget=budget, directory=place / "student", observer=observer)
            turns[name].append(observer.seconds)
            began = time.perf_counter()
            assert tracker.sync().error
            given_up[name].append(time.perf_counter() - began)
            assert not proxy.requests["pass"]
            proxy.close()
    return {
        name: {
            "steps recorded": rounds * steps // 2,
            "milliseconds of a silent step": 1e3 * float(np.median([second for part in found for second in part[1::2]])) / TURN,
            "slower": slower(found),
            "seconds until the delivery is given up": float(np.median(given_up[name])),
        }
        for name, found in turns.items()
    }


def slower(trainings: list[list[float]]) -> dict[str, float]:
    """Returns by how much recorded turns take longer than the silent ones on both sides: the median, with its 95 % interval."""
    from scipy.stats import bootstrap

    ratios: list[float] = []
    for turns in trainings:
        silent, recorded = np.array(turns[1::2]), np.array(turns[2::2])
        around = (silent[:-1] + silent[1:]) / 2.0
        ratios.extend(recorded[: len(around)] / around[: len(recorded)] - 1.0)
    interval = bootstrap((ratios,), np.median, rng=0).confidence_interval
    return {"median": float(np.median(ratios)), "low": float(interval.low), "high": float(interval.high)}

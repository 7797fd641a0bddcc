"""Students that differ in their loss alone: compared at equal steps and at equal cost, with the teacher's pass charged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from bort.distillation.terms import LossConfig
from bort.files import read_json
from bort.record import MANIFEST, RESULT
from bort.statistics import t_interval

#: Held-out metrics that are compared, with their titles; the first is the claim's.
FIGURES = {
    "mlm_accuracy": "masked-LM accuracy",
    "cross_entropy": "cross-entropy, nats a masked token",
    "kl": "KL to the teacher, nats a masked token",
}

#: What a loss is called, by its terms.
NAMES = {"masked_lm": "masked LM", "soft_targets": "KD", "masked_lm+soft_targets": "mix of both"}


@dataclass(frozen=True)
class ObjectiveRun:
    """One training.

    Args:
        objective: The terms of its loss, joined by ``+``, and after an ``@`` the temperature of its soft targets, if it has any.
        seed: Its seed.
        steps: Steps in all.
        processor_seconds: What the student's training cost.
        teacher_seconds: Processor seconds of the teacher's pass that its targets come from; 0 where the loss uses none.
        heldout: Held-out metrics at the end.
        curve: The points of its learning curve.
    """

    objective: str
    seed: int
    steps: int
    processor_seconds: float
    teacher_seconds: float
    heldout: Mapping[str, float]
    curve: Sequence[Mapping[str, Any]]

    def line(self, figure: str) -> list[tuple[int, float]]:
        """Return the (step, value) pairs of a held-out metric."""
        key = f"heldout_{figure}"
        return [(point["step"], point[key]) for point in self.curve if point.get(key) is not None]

    def at(self, figure: str, seconds: float) -> float | None:
        """Return a held-out metric after so many processor seconds, its steps taken to cost the same; none outside the curve."""
        line, per_step = self.line(figure), self.processor_seconds / self.steps
        for (before, low), (after, high) in pairwise(line):
            if before * per_step <= seconds <= after * per_step * (1 + 1e-9):
                share = (seconds / per_step - before) / (after - before)
                return low + min(1.0, share) * (high - low)
        return None


def read_runs(folders: Iterable[Path]) -> list[ObjectiveRun]:
    """Return the trainings of finished distillations, those by fewer terms first.

    Args:
        folders: The folders of distill stages.
    """
    return sorted(map(_read, folders), key=lambda run: (run.objective.count("+"), run.objective, run.seed))


def _read(folder: Path) -> ObjectiveRun:
    result, settings = read_json(folder / RESULT), read_json(folder / MANIFEST)["settings"]
    terms = [name for name in LossConfig.known() if settings["loss"].get(name, 0.0) > 0]
    temperature = f"@{settings['loss']['temperature']:g}" if "soft_targets" in terms else ""
    return ObjectiveRun(
        "+".join(terms) + temperature,
        settings["seed"],
        result["steps"],
        result["processor_seconds"],
        result.get("teacher_processor_seconds", 0.0) if terms != ["masked_lm"] else 0.0,
        {name: value for name, value in result["heldout"].items() if value is not None},
        result["curve"],
    )


def compare_objectives(runs: Sequence[ObjectiveRun]) -> list[dict[str, Any]]:
    """Return a row for each objective: its metrics over seeds, at equal steps and at equal cost.

    ``end`` holds each figure after the same steps. ``equal_cost`` holds it after as many processor seconds as the cheapest training
    took in all, ``equal_cost_with_teacher`` the same with the teacher's pass charged to those that use it: absent where the
    pass alone costs more than that. Intervals are Student's, at 95 %, over seeds.

    Args:
        runs: At least one run of each objective.
    """
    cheapest = min(run.processor_seconds for run in runs)
    rows = []
    for objective in dict.fromkeys(run.objective for run in runs):
        mine = [run for run in runs if run.objective == objective]
        present = [name for name in FIGURES if all(name in run.heldout for run in mine)]
        rows.append(
            {
                "objective": objective,
                "name": name_of(objective),
                "seeds": [run.seed for run in mine],
                "steps": mine[0].steps,
                "processor_seconds": interval([run.processor_seconds for run in mine]),
                "teacher_seconds": mine[0].teacher_seconds,
                "end": {name: interval([run.heldout[name] for run in mine]) for name in present},
                "equal_cost": {name: _at(mine, name, cheapest, charged=False) for name in present},
                "equal_cost_with_teacher": {name: _at(mine, name, cheapest, charged=True) for name in present},
            }
        )
    return rows


def name_of(objective: str) -> str:
    """Return what an objective is called in a table."""
    terms, _, temperature = objective.partition("@")
    return NAMES.get(terms, terms) + (f", T = {temperature}" if temperature else "")


def interval(values: Sequence[float]) -> dict[str, float | None]:
    """Return mean, and low and high of Student's 95 % interval; the two are absent for a single value."""
    low, high = t_interval(values)
    return {"mean": sum(values) / len(values), "low": low, "high": high}


def _at(runs: Sequence[ObjectiveRun], figure: str, seconds: float, *, charged: bool) -> dict[str, float | None] | None:
    values = [run.at(figure, seconds - (run.teacher_seconds if charged else 0.0)) for run in runs]
    known = [value for value in values if value is not None]
    return interval(known) if known and len(known) == len(values) else None

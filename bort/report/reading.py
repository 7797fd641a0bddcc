"""Reads a result, of one stage or of the whole chain, into what the page shows. What is not there is None, never invented."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from bort.errors import RecordError
from bort.record import SCHEMA
from bort.search.w import savings, usable, w

Record = Mapping[str, Any]

#: Models by the names that results give them, and the name the page gives them. The twin has the student's shape and no teacher.
ROLES = {
    "student": "student",
    "twin": "twin",
    "undistilled": "twin",
    "undistilled_student": "twin",
    "teacher": "teacher",
}
TITLES = {
    "student": "student",
    "twin": "twin without teacher",
    "teacher": "teacher",
    "majority": "majority class",
}
#: Held-out figures of a distillation: what they are called, and whether more is better.
HELDOUT = {
    "relation_kl": ("divergence from the teacher's relations (KL, nats)", False),
    "relation_cross_entropy": ("cross-entropy with the teacher's relations (nats)", False),
    "kl": ("divergence from the teacher's predictions (KL, nats)", False),
    "hidden_mse": ("distance from the teacher's hidden states (share of their variance)", False),
    "cross_entropy": ("cross-entropy on masked tokens (nats)", False),
    "mlm_accuracy": ("accuracy on masked tokens", True),
}
#: Metrics from −1 to 1; the others are shares, from 0 to 1.
CORRELATIONS = ("mcc", "matthews", "pearson", "spearman")
#: Tasks whose names are not words.
TASKS = {
    "cola": "CoLA",
    "sst2": "SST-2",
    "mrpc": "MRPC",
    "stsb": "STS-B",
    "qqp": "QQP",
    "mnli": "MNLI",
    "mnli_mismatched": "MNLI (mismatched)",
    "qnli": "QNLI",
    "rte": "RTE",
    "wnli": "WNLI",
    "record": "ReCoRD",
    "ax_g": "AX-g",
}
#: Suites whose tasks are named after them.
SUITES = ("glue", "superglue", "race")
#: The stages that each stage may be made from; other inputs are files, some of the same names.
_NEEDS = {
    "teacher": ("corpus",),
    "search": ("corpus", "teacher"),
    "distill": ("corpus", "teacher", "search"),
    "finetune": ("distill",),
    "export": ("finetune",),
    "benchmark": ("distill",),
}
_SINGLE = ("distill", "search", "finetune", "export", "benchmark", "benchmark_search")


@dataclass
class Score:
    """One model's score on the task's first metric, with its interval and the value of each seed."""

    role: str
    metric: str
    mean: float
    bounds: tuple[float, float] | None = None
    values: list[float] = field(default_factory=list)
    interval: str = ""


@dataclass
class Findings:
    """What a result holds, section by section; each is empty where the result has nothing of it."""

    result: Record
    name: str
    search: Record
    distilled: dict[str, Record]
    tuned: dict[str, Record]
    export: Record
    benchmark: Record
    seconds: dict[str, float]
    replays: Record = field(default_factory=dict)
    comparison: Record = field(default_factory=dict)

    @classmethod
    def of(cls, result: Record) -> Findings:
        """Sorts a result into sections.

        Raises:
            RecordError: It was written by a newer version, or mixes two studies.
        """
        check_schema(result, "The result")
        for name, made in _record(result, "stages").items():
            check_schema(made, f"The {name} stage's manifest")
        stage = str(result.get("stage", ""))
        if stage in _SINGLE and stage not in result:
            result = {**result, stage: result, "seconds": {stage: result.get("stage_seconds")}}
        findings = cls(
            result=result,
            name=str(result.get("name") or stage or "result"),
            search=_record(result, "search"),
            distilled=_by_role(_record(result, "distill"), "steps"),
            tuned=_by_role(_record(result, "finetune"), "metrics"),
            comparison=_record(_record(result, "finetune"), "comparison"),
            export=_record(result, "export"),
            benchmark=_record(result, "benchmark"),
            seconds={name: float(value) for name, value in _record(result, "seconds").items() if is_number(value)},
            replays=_record(result, "benchmark_search"),
        )
        findings._check_one_study()
        return findings

    def _check_one_study(self) -> None:
        """Refuses results of two studies in one report: stages made from other stages, or students of different shapes."""
        stages = self.stages
        for name, made in stages.items():
            for need in _NEEDS.get(name, ()):
                digest = (made.get("inputs") or {}).get(need)
                if digest and need in stages and stages[need].get("digest") not in (None, digest):
                    raise RecordError(
                        f"The {name} stage was made from another {need} than the one beside it: these are results of two studies, "
                        "and a report shows one; run the stage again, or give each study a folder of its own."
                    )
        shapes = {role: record.get("architecture") for role, record in self.distilled.items() if role in ("student", "twin")}
        measured = _record(_record(self.benchmark, "models"), "student").get("architecture")
        named = {str(shape) for shape in (*shapes.values(), measured) if shape}
        if len(named) > 1:
            raise RecordError(
                f"The result mixes students of different shapes ({', '.join(sorted(named))}): they are not of one study."
            )

    @property
    def stages(self) -> Record:
        """What each stage was made from and how it was run, by its manifest; empty where the result has none."""
        return _record(self.result, "stages")

    # The search.

    @property
    def winner(self) -> Record:
        """The winner's record: the search's, or the chain's own."""
        return _record(self.search, "winner") or _record(self.result, "winner")

    @property
    def candidates(self) -> list[Record]:
        """Every candidate that was begun."""
        found = self.search.get("candidates") or []
        return [item for item in found if isinstance(item, Mapping) and is_number(item.get("parameters"))]

    @property
    def complete(self) -> list[Record]:
        """The candidates that were trained to the last rung with a usable error."""
        return [item for item in self.candidates if item.get("state", "complete") == "complete" and is_number(item.get("error"))]

    @property
    def maximum(self) -> tuple[float, float] | None:
        """p(T) and i(T)."""
        point = _record(self.search, "maximum_point")
        p, i = point.get("p"), point.get("i")
        return (float(p), float(i)) if is_number(p) and is_number(i) else None

    @property
    def measured_latency(self) -> bool:
        """Whether i is a measured latency in milliseconds rather than a count of operations."""
        return str(_record(self.search, "latency").get("name", "operations")) != "operations"

    def savings(self, candidate: Record) -> float | None:
        """Return the savings of a candidate, see :func:`bort.search.w.savings`."""
        maximum, latency = self.maximum, candidate.get("latency", candidate.get("operations"))
        if maximum is None or not is_number(latency):
            return None
        return savings(float(candidate["parameters"]), float(latency), *maximum)

    @property
    def reciprocal(self) -> bool:
        """Whether W of the winner is that of the reciprocal scale, for which lines of equal W are drawn."""
        recorded, error = self.winner.get("w"), self.winner.get("error")
        saved = self.savings(self.winner) if self.winner else None
        if saved is None or not is_number(recorded) or not is_number(error) or not usable(error):
            return False
        return math.isclose(float(recorded), w(saved, float(error)), rel_tol=1e-6)

    # The student.

    @property
    def shape(self) -> str | None:
        """The student's shape, else the winner's."""
        found = _record(self.distilled, "student").get("architecture") or self.winner.get("name")
        return str(found) if found else None

    def parameters(self, role: str) -> int | None:
        """Returns the parameters of a model, from wherever the result has them."""
        # The benchmark counts student and teacher by one rule, so it goes first.
        places: list[Any] = [_record(_record(self.benchmark, "models"), role).get("parameters")]
        places.append(_record(self.distilled, role).get("parameters"))
        point = _record(self.search, "maximum_point")
        if role == "teacher" and _record(self.result, "teacher").get("architecture", point.get("name")) == point.get("name"):
            places.append(_record(self.result, "teacher").get("parameters"))
        if role == "student":
            places.append(self.winner.get("parameters"))
        return next((int(value) for value in places if is_number(value)), None)

    @property
    def smaller(self) -> float | None:
        """How many times smaller the student is than the teacher, counted by one rule for both."""
        for record in (_record(self.benchmark, "models"), self.distilled):
            teacher, student = _record(record, "teacher").get("parameters"), _record(record, "student").get("parameters")
            if is_number(teacher) and is_number(student) and student:
                return float(teacher) / float(student)
        maximum, winner = self.maximum, self.winner.get("parameters")
        if maximum and is_number(winner) and self.teacher_is_maximum:
            return maximum[0] / float(winner)
        return None

    @property
    def teacher_is_maximum(self) -> bool:
        """Whether the maximum point is the teacher's shape, as far as the result says."""
        teacher = _record(self.result, "teacher").get("architecture") or _record(_record(self.benchmark, "models"), "teacher").get(
            "architecture"
        )
        return bool(teacher) and teacher == _record(self.search, "maximum_point").get("name")

    def faster(self, backend: str = "eager") -> Record | None:
        """Returns the measured ratio of the teacher's latency to the student's on a backend, at the smallest batch."""
        found = [
            ratio
            for ratio in self.benchmark.get("ratios") or []
            if (ratio.get("model"), ratio.get("over_model")) == ("student", "teacher")
            and ratio.get("backend") == ratio.get("over_backend") == backend
        ]
        return min(found, key=lambda ratio: (ratio.get("batch", 1), ratio.get("sequence_length", 1)), default=None)

    # The task.

    @property
    def task(self) -> Record:
        """What the result says of the task's data."""
        return next((_record(record, "task") for record in self.tuned.values() if _record(record, "task")), {})

    @property
    def task_name(self) -> str:
        """The task's name, for a sentence."""
        return TASKS.get(self.suite_and_task[1]) or str(self.task.get("name") or "").replace("_", " ").title() or "the task"

    @property
    def suite_and_task(self) -> tuple[str, str]:
        """The suite that the task is of and its name there, e.g. ``("superglue", "ax_g")``; an empty suite for a user's own."""
        name = str(self.task.get("name") or "")
        suite, _, task = name.replace("/", "-").partition("-")
        return (suite, task.replace("-", "_")) if suite in SUITES and task else ("", name)

    @property
    def metrics(self) -> list[str]:
        """The task's metrics, the primary one first."""
        for record in self.tuned.values():
            primary = _record(record, "interval").get("metric")
            names = list(_record(record, "metrics"))
            return sorted(names, key=lambda name: name != primary) if primary in names else names
        return []

    def score(self, role: str, metric: str) -> Score | None:
        """Returns a model's score, with the interval over seeds, or over examples where there is one seed."""
        record = _record(self.tuned, role)
        found = _record(record, "metrics").get(metric)
        mean = found.get("mean", found.get("value")) if isinstance(found, Mapping) else None
        if not isinstance(found, Mapping) or not is_number(mean):
            return None
        bounds, over = _bounds(found), "seeds"
        if bounds is None:
            bounds, over = _bounds(_record(found, "examples")), "examples"
        if bounds is not None:
            # A t-interval over few seeds may reach beyond what the metric can be.
            least = -1.0 if metric in CORRELATIONS else 0.0
            bounds = max(bounds[0], least), min(bounds[1], 1.0)
        return Score(
            role=role,
            metric=metric,
            mean=float(mean),
            bounds=bounds,
            values=[float(value) for value in found.get("values") or [] if is_number(value)],
            interval=over if bounds else "",
        )

    def majority(self, metric: str) -> float | None:
        """Returns the score of the model that always gives the most frequent label."""
        for record in self.tuned.values():
            value = _record(_record(record, "baseline"), "metrics").get(metric)
            if is_number(value):
                return float(value)
        return None

    @property
    def unlearned(self) -> list[str]:
        """The models whose score on the first metric cannot be told from that of always giving the most frequent label."""
        metric = self.metrics[0] if self.metrics else ""
        constant = self.majority(metric)
        scores = [found for role in ("student", "twin", "teacher") if (found := self.score(role, metric))]
        return [found.role for found in scores if constant is not None and found.bounds and found.bounds[0] <= constant]

    # The distillation.

    def heldout(self, role: str) -> dict[str, float]:
        """Returns a model's held-out figures, those that are numbers."""
        return {name: float(value) for name, value in _record(_record(self.distilled, role), "heldout").items() if is_number(value)}

    @property
    def shared_heldout(self) -> list[str]:
        """The held-out figures that student and twin both have, in the order of the page; the student's own without a twin."""
        student, twin = self.heldout("student"), self.heldout("twin")
        return [name for name in HELDOUT if name in student and (not twin or name in twin)]


def check_schema(content: Record, where: str) -> None:
    """Refuses what a newer version has written.

    Args:
        content: A result, a manifest or a record.
        where: What it is, to begin a sentence with.

    Raises:
        RecordError: It has a newer schema.
    """
    if int(content.get("schema", 0) or 0) > SCHEMA:
        raise RecordError(f"{where} has schema {content['schema']}, written by a newer version of Bort; this one reads {SCHEMA}.")


def points(record: Record, name: str) -> list[tuple[float, float]]:
    """Returns the points of a learning curve that have this figure, ascending in steps, each step once."""
    found: dict[float, float] = {}
    for point in record.get("curve") or []:
        if isinstance(point, Mapping) and is_number(point.get(name)) and is_number(point.get("step")):
            found[float(point["step"])] = float(point[name])
    return sorted(found.items())


def candidate_curve(candidate: Record) -> list[tuple[float, float]]:
    """Returns a candidate's rungs as (steps, error)."""
    pairs = [pair for pair in candidate.get("curve") or [] if isinstance(pair, Sequence) and len(pair) == 2]
    return [(float(steps), float(error)) for steps, error in pairs if is_number(steps) and is_number(error)]


def is_number(value: object) -> TypeGuard[float]:
    """Tells whether a value of a result is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _bounds(record: Record) -> tuple[float, float] | None:
    low, high = record.get("low"), record.get("high")
    return (float(low), float(high)) if is_number(low) and is_number(high) else None


def _record(record: Record, key: str) -> Record:
    value = record.get(key)
    return value if isinstance(value, Mapping) else {}


def _by_role(record: Record, mark: str) -> dict[str, Record]:
    """Returns records by role. A stage's own record is its first model's, by default the student's; others are named in it."""
    models = record.get("models") if isinstance(record.get("models"), Mapping) else record
    found = {ROLES[name]: value for name, value in models.items() if name in ROLES and isinstance(value, Mapping)}  # type: ignore[union-attr]
    if mark in record and "student" not in found and "models" not in record:
        found["student"] = record
    return {role: value for role, value in found.items() if mark in value}

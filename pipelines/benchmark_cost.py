"""`bort benchmark cost`: what the configured search and distillation would take on a fleet, and what that would cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType

from bort.architecture import Architecture
from bort.distillation.fleet_config import DeviceConfig, FleetConfig
from bort.errors import ConfigurationError
from bort.files import file_digest, read_json
from bort.search.config import OseConfig
from bort.search.quantity_config import DistillErrorConfig
from pipelines import estimators
from pipelines.app import entry
from pipelines.schema import Config
from pipelines.stage import Run, Stage
from pipelines.tables import table

if TYPE_CHECKING:
    from bort.distillation.fleet_cost import Work
    from bort.teacher.shape import TeacherShape

_DAY = 24.0


def work(run: Run) -> dict[str, Any]:
    """Counts what is to be trained, and reckons."""
    from bort.distillation.fleet_cost import fleet_cost

    config = run.config
    teacher = _teacher(config)
    return fleet_cost(to_train(config, teacher), teacher, _with_measured(config.fleet))


def to_train(config: Config, teacher: TeacherShape) -> Work:
    """Returns the training that a configuration asks for."""
    from bort.distillation.fleet_cost import Work
    from bort.search import SearchSpace

    error, block = config.error, config.corpus.block_length
    assert isinstance(error, DistillErrorConfig)
    shapes = list(SearchSpace.from_config(config.search_space, parameters=teacher.parameters, latency=Architecture.operations))
    if isinstance(config.strategy, OseConfig):
        shapes = shapes[:: config.strategy.stride]
    wanted = config.fleet.candidates or len(shapes)
    # As many as are wanted, spread evenly over the order of the space.
    shapes = [shapes[number * len(shapes) // wanted] for number in range(wanted)]
    step = config.train.batch_size * block
    return Work(
        shapes=shapes,
        candidate_tokens=error.steps * step,
        distill_tokens=config.budget.tokens or config.budget.steps * step,
        block_length=block,
        masked=max(1, math.ceil(config.masking.probability * (block - 2))),
        loss=estimators.loss(config, error),
    )


def _teacher(config: Config) -> TeacherShape:
    from bort.teacher.shape import TeacherShape, teacher_shape

    if config.fleet.teacher is None:
        return teacher_shape(config.teacher)
    return TeacherShape(Architecture.parse(config.fleet.teacher), config.fleet.vocabulary)


def _with_measured(fleet: FleetConfig) -> FleetConfig:
    """Returns the fleet with the device that was measured, which costs nothing that could be told here."""
    if fleet.measured is None:
        return fleet
    found = read_json(Path(fleet.measured))
    rows = [row for row in found["rows"] if row["mfu"]]
    best = max(rows, key=lambda row: row["tokens_per_second"])
    peak = found["variants"][best["variant"]]["peak_flops"] / 1e12
    source = f"measured: {best['variant']} of {found['student']}, {best['tokens_per_second']:,.0f} tokens/s"
    # Above its own measured peak there is nothing to be had.
    used = min(1.0, best["mfu"])
    device = DeviceConfig(peak, [used, used, used], [1e-9, 1e-9, 1e-9], source)
    return replace(fleet, devices={**fleet.devices, f"{found['device']} here": device})


def show(result: dict[str, Any]) -> RenderableType:
    """Hours and prices by device and job."""
    currency = result["assumptions"]["currency"]
    rows = [
        (
            row["device"],
            f"{row['job']}, {row['devices']} devices",
            _interval(row["device_hours"]),
            _interval([hours / _DAY for hours in row["hours"]], 1),
            "–" if row["price"][2] < 1 else _interval(row["price"]),
        )
        for row in result["rows"]
    ]
    flop, paper = result["flop"], result["paper"]
    title = (
        f"{result['candidates']} candidates of {result['candidate_tokens']:,} tokens; {result['distill_tokens']:,} tokens distilled"
    )
    told = (
        f"Counted: {flop['search']:.2g} FLOP for the candidates, {flop['teacher']:.2g} for the teacher's pass, "
        f"{flop['distill']:.2g} for the distillation, for which the paper's 288 V100-hours imply {paper['utilisation']:.0%} of the "
        "V100's peak."
    )
    columns = ("device", "job", "device-hours, likely [low, high]", "days", f"price in {currency}")
    return Group(table(title, columns, rows), f"[dim]{told} Utilisation and prices are assumptions: fleet.devices.[/]")


def _interval(values: list[float], digits: int = 0) -> str:
    low, likely, high = (f"{value:,.{digits}f}" for value in values)
    return f"{likely} [{low}, {high}]"


def check(config: Config) -> None:
    """Refuses what cannot be reckoned with."""
    config.fleet.check()
    config.train.check()
    config.budget.check()
    if not isinstance(config.error, DistillErrorConfig):
        raise ConfigurationError("error", config.error.name, "what a search costs is known for error=distill")
    config.error.check()
    if config.budget.seconds is not None:
        raise ConfigurationError(
            "budget.seconds", config.budget.seconds, "the length of the distillation is needed in steps or tokens"
        )
    if config.fleet.teacher is None:
        config.teacher.check()
    if config.fleet.measured is not None and not Path(config.fleet.measured).is_file():
        raise ConfigurationError("fleet.measured", config.fleet.measured, "name a result.json of `bort benchmark distill`")


def sources(config: Config) -> Mapping[str, str]:
    """Returns the digest of the measurement that is read."""
    return {"measured": file_digest(Path(config.fleet.measured))} if config.fleet.measured else {}


STAGE = Stage(
    name="benchmark_cost",
    work=work,
    settings=lambda config: (
        *("fleet", "search_space", "strategy", "error", "loss", "train", "budget", "masking"),
        *("corpus.block_length", "teacher"),
    ),
    sources=sources,
    show=show,
    check=check,
)
main = entry("benchmark_cost")

if __name__ == "__main__":
    main()

"""`bort benchmark cost`: what the configured search and distillation would take on a fleet, and what that would cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bort.architecture import Architecture
from bort.distillation.estimator_config import DistillErrorConfig
from bort.errors import ConfigurationError
from bort.files import file_digest
from bort.search.strategies.config import OseConfig
from bort.settings import check_settings

from . import benchmark_tables
from .app.main import entry
from .engine.schema import Config
from .engine.stage import Run, Stage

if TYPE_CHECKING:
    from bort.benchmarks.cost import Work
    from bort.teacher.shape import TeacherShape


def work(run: Run) -> dict[str, Any]:
    """Counts what is to be trained, and reckons."""
    from bort.benchmarks.cost import fleet_cost, with_measured

    config = run.config
    teacher = _teacher(config)
    return fleet_cost(to_train(config, teacher), teacher, with_measured(config.fleet))


def to_train(config: Config, teacher: TeacherShape) -> Work:
    """Returns the training that a configuration asks for."""
    from bort.benchmarks.cost import Work
    from bort.search.space import SearchSpace, spread

    error, block = config.error, config.corpus.block_length
    assert isinstance(error, DistillErrorConfig)
    shapes = list(SearchSpace.from_config(config.search_space, parameters=teacher.parameters, latency=Architecture.operations))
    if isinstance(config.strategy, OseConfig):
        shapes = shapes[:: config.strategy.stride]
    step = config.train.batch_size * block
    return Work(
        shapes=spread(shapes, config.fleet.candidates or len(shapes)),
        candidate_tokens=error.steps * step,
        distill_tokens=config.budget.tokens or config.budget.steps * step,
        block_length=block,
        masked=max(1, math.ceil(config.masking.probability * (block - 2))),
        loss=error.changed(config.loss),
    )


def _teacher(config: Config) -> TeacherShape:
    from bort.teacher.shape import TeacherShape, teacher_shape

    if config.fleet.teacher is None:
        return teacher_shape(config.teacher)
    return TeacherShape(Architecture.parse(config.fleet.teacher), config.fleet.vocabulary)


def check(config: Config) -> None:
    """Refuses what cannot be reckoned with."""
    from bort.benchmarks.cost import with_measured

    check_settings(config.fleet, "fleet")
    check_settings(config.train, "train")
    check_settings(config.budget, "budget")
    if not isinstance(config.error, DistillErrorConfig):
        raise ConfigurationError("error", config.error.name, "distill, the only error whose cost can be estimated")
    check_settings(config.error, "error")
    if config.budget.seconds is not None:
        raise ConfigurationError(
            "budget.seconds", config.budget.seconds, "null, as the length of the distillation is needed in steps or tokens"
        )
    if config.fleet.teacher is None:
        check_settings(config.teacher, "teacher")
    if config.fleet.measured is not None and not Path(config.fleet.measured).is_file():
        raise ConfigurationError("fleet.measured", config.fleet.measured, "a result.json of `bort benchmark distill`")
    with_measured(config.fleet)


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
    show=benchmark_tables.cost,
    check=check,
)
main = entry("benchmark_cost")

if __name__ == "__main__":
    main()

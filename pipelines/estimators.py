"""Where the errors of a search come from: the estimator that the configuration asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bort.architecture import Architecture
from bort.distillation.config import LossConfig
from bort.errors import ConfigurationError
from bort.search.estimator_config import DistillErrorConfig, ErrorConfig, ProxyErrorConfig, SupernetErrorConfig, TableErrorConfig
from bort.settings import check_settings

from .engine.inputs import open_setup
from .engine.schema import Config
from .engine.stage import Run

#: Where the weight-sharing student lies in the search's directory.
SUPERNET = "supernet"


def trains(error: ErrorConfig) -> bool:
    """Whether errors come from training, which takes a teacher and a corpus."""
    return isinstance(error, (DistillErrorConfig, SupernetErrorConfig))


def check(config: Config) -> None:
    """Refuses settings of errors that cannot be used, before anything is trained."""
    error = config.error
    if isinstance(error, (DistillErrorConfig, SupernetErrorConfig)):
        _check_training(config, error)
    if isinstance(error, (SupernetErrorConfig, TableErrorConfig)) and any(config.search.thetas):
        why = "a table knows none" if isinstance(error, TableErrorConfig) else "one training serves all candidates"
        raise ConfigurationError(
            "search.thetas", config.search.thetas, f"with error={error.name} only [{{}}] is accepted, as {why}"
        )
    if isinstance(error, (SupernetErrorConfig, ProxyErrorConfig)):
        reference(error)


def _check_training(config: Config, error: DistillErrorConfig | SupernetErrorConfig) -> None:
    """Refuses a loss and a measure that some candidate could not be trained or measured with."""
    from bort.distillation.estimator import check_measure
    from bort.teacher.shape import teacher_shape

    check_settings(error, "error")
    changed, teacher = loss(config, error), teacher_shape(config.teacher).architecture
    for hidden in sorted(set(config.search_space.hidden)):
        changed.check_widths(hidden, teacher.hidden)
    kind = config.targets.for_loss(config.loss.targets, config.loss.temperature).kind if config.loss.targets else None
    check_measure(error.measure, changed, kind)


def untrained(config: Config, space: Any) -> Any:
    """Returns an estimator that needs no training; for errors that do, one that stands for it where errors do not matter yet."""
    from bort.search.estimators import ProxyEstimator, TableEstimator

    if isinstance(config.error, TableErrorConfig):
        return TableEstimator(config.error, space)
    return ProxyEstimator(config.error if isinstance(config.error, ProxyErrorConfig) else ProxyErrorConfig())


def estimator(run: Run, space: Any) -> Any:
    """Returns the estimator of a search that is to be run."""
    config, error = run.config, run.config.error
    if not isinstance(error, (DistillErrorConfig, SupernetErrorConfig)):
        return untrained(config, space)
    from .engine.workers import for_candidate

    setup, impl = replace(open_setup(run), loss=loss(config, error)), for_candidate(config.impl)
    if isinstance(error, DistillErrorConfig):
        from bort.distillation.estimator import DistillEstimator

        return DistillEstimator(setup, error.rung_steps(), error.measure, impl)
    from bort.distillation.supernet.estimator import SupernetEstimator
    from bort.distillation.supernet.training import SupernetTraining

    training = SupernetTraining(setup, list(space), error.steps, error.samples, error.sandwich)
    directory = Path(run.directory) / SUPERNET
    return SupernetEstimator(training, error.measure, directory, impl=impl, checkpoint_every=error.checkpoint_every)


def loss(config: Config, error: DistillErrorConfig | SupernetErrorConfig) -> LossConfig:
    """Returns the loss that candidates are trained with."""
    return config.loss.changed(error.loss, "error.loss")


def sources(config: Config) -> Mapping[str, str]:
    """Returns the digests of the tables that a search reads."""
    from bort.files import file_digest
    from bort.search.table import table_path

    error = config.error
    if isinstance(error, TableErrorConfig):
        return {"table": file_digest(table_path(error.path))}
    if isinstance(error, (SupernetErrorConfig, ProxyErrorConfig)) and error.reference:
        return {"reference": file_digest(table_path(error.reference))}
    return {}


def reference(error: ErrorConfig) -> Mapping[Architecture, float]:
    """Returns the errors of full trainings that errors are compared with: of each architecture, the one at its last step."""
    from bort.search.table import read_table

    path = getattr(error, "reference", None)
    if not path:
        return {}
    try:
        return read_table(TableErrorConfig(path=path)).last_of_seed(None)
    except ConfigurationError as refused:
        raise ConfigurationError("error.reference", path, refused.accepted) from refused

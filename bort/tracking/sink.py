"""MLflow as the sink of a spool. Importing mlflow takes seconds: only when something is to be sent."""

from __future__ import annotations

import getpass
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bort.locks import exclusive
from bort.quiet import quiet
from bort.redaction import redact
from bort.tracking.config import TrackingConfig
from bort.tracking.errors import StoreDownError, StoreReplacedError
from bort.tracking.failures import declines, forbids, short, store_error
from bort.tracking.registry import Registry
from bort.tracking.schema import unreadable
from bort.tracking.staging import OutsideError, Results, staged
from bort.tracking.views import experiment_tags

#: Limits of one call to MLflow's log_batch.
METRICS, FIELDS = 1_000, 100
#: MLflow's limit for the digest of a dataset.
DIGEST_LENGTH = 36

_FORBIDDEN = re.compile(r"[^\w\-. :/]")


@dataclass
class _Pending:
    """What waits to go to one run in one call."""

    metrics: list[Any] = field(default_factory=list)
    params: list[Any] = field(default_factory=list)
    tags: list[Any] = field(default_factory=list)
    datasets: list[Any] = field(default_factory=list)


class MlflowSink:
    """Delivers events to an MLflow database or server.

    Every call can be repeated without effect: a run is found by its tag ``bort.key``, and MLflow's database drops a metric point
    equal in name, value, step and time, a parameter or input it has, and overwrites tags and files.

    Args:
        config: The address and the experiment.
        root: The directory that artifact paths are relative to.
        spool_id: Identity of the spool, so that points delivered from another one are not doubled.
        runs: Run ids by key, as far as known.
        results: The run's results, from which artifacts are sent.

    Raises:
        StoreDownError: The store cannot be reached.
    """

    def __init__(self, config: TrackingConfig, root: Path, spool_id: str, runs: dict[str, str], results: Results) -> None:
        self._config, self._root, self._spool_id, self._results = config, root, spool_id, results
        self.runs = runs
        self._known_points: dict[str, set[tuple[str, int]]] = {}
        self._known_figures: dict[str, dict[str, float]] = {}
        file = config.sqlite_file()
        if file is not None:
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreDownError(f"the folder {file.parent} cannot be made ({error.strerror})") from error
            if why := unreadable(file):
                raise StoreDownError(why)
        # Two processes that make the same database at once run its migrations into each other.
        alone = exclusive(file.parent, name=f".{file.name}.lock") if file is not None else nullcontext()
        with quiet_mlflow(config), self._errors(), alone:
            from mlflow import MlflowClient

            self._client = MlflowClient(tracking_uri=config.absolute_uri(), registry_uri=config.absolute_uri())
            self.experiment_id = self._experiment()
            self._registry = Registry(self._client, self.experiment_id)

    def deliver(self, events: list[dict[str, Any]]) -> list[str]:
        """Delivers events in order and returns what was refused, a sentence each.

        Raises:
            StoreDownError: The store cannot be reached.
            StoreReplacedError: The store does not know a run it should know.
        """
        refused: list[str] = []
        by_run: dict[str, list[dict[str, Any]]] = {}
        for event in events:
            if "run" in event:
                by_run.setdefault(event["run"], []).append(event)
        with quiet_mlflow(self._config), self._errors():
            for key, own in by_run.items():
                try:
                    self._deliver_run(key, own, refused)
                except Exception as error:
                    # A run that was deleted, or that the store does not create, does not hold up the others.
                    if not declines(error) or forbids(error):
                        raise
                    refused.append(f"run {key} with {len(own)} events: {short(error)}")
        return refused

    def _deliver_run(self, key: str, events: list[dict[str, Any]], refused: list[str]) -> None:
        pending = _Pending()
        for event in events:
            kind = event["event"]
            if kind == "start":
                self._start(key, event, pending)
                continue
            run_id = self._run_id(key)
            if kind == "metrics":
                pending.metrics += self._metrics(run_id, event["points"])
            elif kind == "params":
                pending.params += self._params(event["values"])
            elif kind == "adopt":
                pending.tags += self._tags(self._parent_tag(event))
            elif kind == "tags":
                pending.tags += self._tags(event["values"])
            elif kind == "dataset":
                pending.datasets.append(_dataset_input(event))
            elif kind == "artifact":
                self._attempt(refused, f"artifact {event['path']}", self._artifact, run_id, event, refused)
            elif kind == "model":
                self._attempt(refused, f"model {event['name']}", self._model, run_id, event, refused)
            elif kind == "finish":
                self._flush(run_id, pending, refused)
                pending = _Pending()
                ended = event["status"], _milliseconds(event["time"])
                self._attempt(refused, f"status {event['status']}", self._client.set_terminated, run_id, *ended)
        self._flush(self._run_id(key), pending, refused)

    def _start(self, key: str, event: dict[str, Any], pending: _Pending) -> None:
        known = key in self.runs
        run_id = self._run_id(key, event)
        if known:
            self._client.update_run(run_id, status="RUNNING", name=event["name"])
            pending.tags += self._tags(self._parent_tag(event))

    def _run_id(self, key: str, start: dict[str, Any] | None = None) -> str:
        """Returns the id of the run of ``key``, found by its tag or made."""
        if key in self.runs:
            return self.runs[key]
        found = self._find(key)
        if found is not None:
            run_id = found.info.run_id
            self._adopt(found, start)
        else:
            start = start or {"name": key, "time": 0}
            tags = {
                "bort.key": key,
                "bort.spool": self._spool_id,
                "mlflow.source.name": "bort",
                "mlflow.source.type": "LOCAL",
                "mlflow.user": _user(),
                **self._parent_tag(start),
            }
            begun = _milliseconds(start["time"])
            run_id = self._client.create_run(self.experiment_id, start_time=begun, tags=tags, run_name=start["name"]).info.run_id
        self.runs[key] = run_id
        return run_id

    def _find(self, key: str) -> Any:
        """Returns the store's run of ``key``; None where it has none."""
        found = self._client.search_runs([self.experiment_id], filter_string=f"tags.`bort.key` = '{key}'", max_results=1)
        return found[0] if found else None

    def _adopt(self, run: Any, start: dict[str, Any] | None) -> None:
        """Goes on with a run that is in the store: made by this spool before a kill, or by an earlier run of the same stage."""
        run_id = run.info.run_id
        if run.data.tags.get("bort.spool") != self._spool_id:
            self._known_points[run_id] = {
                (name, point.step) for name in run.data.metrics for point in self._client.get_metric_history(run_id, name)
            }
            self._known_figures[run_id] = dict(run.data.metrics)
            self._client.set_tag(run_id, "bort.spool", self._spool_id)
        if start is not None:
            self._client.update_run(run_id, status="RUNNING", name=start["name"])
            for name, value in self._parent_tag(start).items():
                self._client.set_tag(run_id, name, value)

    def _parent_tag(self, start: dict[str, Any]) -> dict[str, str]:
        # A parent recorded in another spool may not be there yet: it is made now and gets its name when that spool is delivered.
        return {"mlflow.parentRunId": self._run_id(start["parent"])} if start.get("parent") else {}

    def _metrics(self, run_id: str, points: list[list[Any]]) -> Iterator[Any]:
        from mlflow.entities import Metric

        known, figures = self._known_points.get(run_id, set()), self._known_figures.get(run_id, {})
        for name, value, step, at in points:
            name = _FORBIDDEN.sub("_", name)
            # A final figure may change; one that another worker has recorded, too, is the same.
            if figures.pop(name, None) != float(value) if step is None else (name, step) not in known:
                yield Metric(name, float(value), _milliseconds(at), step or 0)

    def _params(self, values: dict[str, str]) -> list[Any]:
        from mlflow.entities import Param

        return [Param(_FORBIDDEN.sub("_", key), value) for key, value in values.items()]

    def _tags(self, values: dict[str, str]) -> list[Any]:
        from mlflow.entities import RunTag

        return [RunTag(_FORBIDDEN.sub("_", key), value) for key, value in values.items()]

    def _flush(self, run_id: str, pending: _Pending, refused: list[str]) -> None:
        metrics, params, tags = pending.metrics, pending.params, pending.tags
        while metrics or params or tags:
            now = metrics[: METRICS - 2 * FIELDS], params[:FIELDS], tags[:FIELDS]
            metrics, params, tags = metrics[METRICS - 2 * FIELDS :], params[FIELDS:], tags[FIELDS:]
            self._batch(run_id, now, refused)
        if pending.datasets:
            self._attempt(refused, "dataset", self._client.log_inputs, run_id, pending.datasets)

    def _batch(self, run_id: str, batch: tuple[list[Any], list[Any], list[Any]], refused: list[str]) -> None:
        metrics, params, tags = batch
        try:
            self._client.log_batch(run_id, metrics, params, tags)
        except Exception as error:
            if not declines(error) or forbids(error):
                raise
            # Something in it is not acceptable, e.g. a parameter that has another value already: the rest goes one by one.
            for metric in metrics:
                self._attempt(refused, f"metric {metric.key}", self._client.log_batch, run_id, [metric])
            for param in params:
                self._attempt(refused, f"parameter {param.key}", self._client.log_batch, run_id, [], [param])
            for tag in tags:
                self._attempt(refused, f"tag {tag.key}", self._client.log_batch, run_id, [], [], [tag])

    def _attempt(self, refused: list[str], what: str, call: Callable[..., object], *arguments: object) -> None:
        try:
            call(*arguments)
        except FileNotFoundError:
            refused.append(f"{what} is gone")
        except OutsideError:
            refused.append(f"{what} lies outside the results")
        except Exception as error:
            if not declines(error):
                raise
            refused.append(redact(f"{what}: {short(error)}"))

    def _model(self, run_id: str, event: dict[str, Any], refused: list[str]) -> None:
        with self._staged(event, refused) as path:
            runs = {stage: run for stage, key in event["lineage"].items() if (run := self._known(key))}
            self._registry.deliver(run_id, path, event, runs)

    def _known(self, key: str) -> str | None:
        """Returns the id of a run that is in the store already, and makes none."""
        if key in self.runs:
            return self.runs[key]
        found = self._find(key)
        return found.info.run_id if found is not None else None

    @contextmanager
    def _staged(self, event: dict[str, Any], refused: list[str]) -> Iterator[Path]:
        with staged(self._root / event["path"], self._results) as (copy, skipped):
            refused += [f"{event['path']}/{name} is no regular file" for name in skipped]
            yield copy

    def _artifact(self, run_id: str, event: dict[str, Any], refused: list[str]) -> None:
        with self._staged(event, refused) as path:
            if path.is_dir():
                self._client.log_artifacts(run_id, str(path), event["folder"] or None)
            else:
                self._client.log_artifact(run_id, str(path), event["folder"] or None)

    def _experiment(self) -> str:
        """Returns the experiment's id, made where needed; by id, because creating by name sends a race's loser to "Default"."""
        from mlflow import MlflowException

        name = self._config.experiment
        found = self._client.get_experiment_by_name(name)
        if found is None:
            local = self._config.sqlite_file() is not None or self._config.uri.startswith(("postgresql", "mysql", "mssql"))
            location = Path(self._config.artifacts).absolute().as_uri() if self._config.artifacts and local else None
            if location is None and (file := self._config.sqlite_file()) is not None:
                location = (file.parent / "mlartifacts").as_uri()
            try:
                self._client.create_experiment(name, artifact_location=location)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            found = self._client.get_experiment_by_name(name)
        if found is None:
            raise StoreDownError(f"the experiment '{name}' can neither be found nor made")
        if found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        experiment_id: str = found.experiment_id
        for key, value in experiment_tags(experiment_id, found.tags).items():
            self._client.set_experiment_tag(experiment_id, key, value)
        return experiment_id

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Tells a store that is down, or has forgotten a run, from a mistake in this program."""
        import requests
        from mlflow import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST" and self.runs:
                raise StoreReplacedError(str(error)) from error
            raise store_error(error) from error
        except (SQLAlchemyError, requests.RequestException, OSError) as error:
            raise store_error(error) from error


def _dataset_input(event: dict[str, Any]) -> Any:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(
        name=event["name"],
        digest=event["digest"][:DIGEST_LENGTH],
        source_type="local" if "://" not in event["source"] else "http",
        source=json.dumps({"uri": event["source"]}),
        profile=json.dumps(event["counts"]),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", event["context"])] if event["context"] else [])


@contextmanager
def quiet_mlflow(config: TrackingConfig | None = None) -> Iterator[None]:
    """Silence MLflow (migrations, progress bars, telemetry) and limit its requests to one attempt.

    It may not repeat a request by itself: where only the answer was lost, that would make a run twice. :class:`Delivery` tries
    again, and asks what is there first.
    """
    settings = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        # It holds the store's address, with the password.
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    }
    if config is not None:
        settings |= {"MLFLOW_HTTP_REQUEST_TIMEOUT": str(config.timeout), "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    before = {name: os.environ.get(name) for name in settings}
    forced = ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT")
    os.environ.update({name: value for name, value in settings.items() if before[name] is None or name in forced})
    try:
        with quiet(everything=True):
            yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"

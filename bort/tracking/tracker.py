"""What a stage records about its runs, and the delivery of it."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from bort.errors import BortError
from bort.files import digest, file_digest
from bort.observer import Observer, Quiet
from bort.redaction import redact, redact_patterns
from bort.settings import check_settings
from bort.tracking.config import TrackingConfig
from bort.tracking.deduplication import Seen
from bort.tracking.delivery import Delivery, SyncReport, home_of
from bort.tracking.spool import Spool
from bort.tracking.staging import Results

#: What a run can end as, and MLflow's word for it. A pruned candidate did what it should, so MLflow sees it finished.
STATUSES = {
    "FINISHED": "FINISHED",
    "FAILED": "FAILED",
    "KILLED": "KILLED",
    "complete": "FINISHED",
    "pruned": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
}
#: Examples or text that figures are taken on.
_KINDS = ("heldout", "steering")
_KEY = re.compile(r"[\w.:/@=+ -]{1,250}")
#: What MLflow does not take in the name of a model.
_NOT_IN_MODELS = ("/", ":", ".", "%", '"', "'")


@dataclass(frozen=True)
class LoggedModel:
    """A model to be logged under a run.

    Args:
        path: Its directory, as :func:`bort.tracking.model.write_served_model` writes it; it must exist until
            :meth:`Tracker.sync` is called.
        name: Its name under the run.
        serves: What it is for, one of :data:`bort.tracking.model.SERVES`.
        registered: Name in MLflow's model registry, of which it becomes the next version; ``None`` to leave it out.
        lineage: The keys of the runs it came from, by stage; the version is tagged with those that the store has.
        tags: Tags of the model and of the version.
        params: What differs between such models.
        metrics: Metrics of the model itself, by which MLflow compares models; also the run's.
        description: Markdown of the version's page; its first line is also the registered model's.
    """

    path: Path | str
    name: str
    serves: str
    registered: str | None = None
    lineage: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    description: str = ""


class Tracker:
    """Records runs in a spool of its own and delivers them to MLflow on :meth:`sync`.

    Recording writes a line to a local file and never talks to MLflow, so that a server that is slow or down costs training
    nothing. What is recorded again by a stage that was resumed or repeated is recognised and left out: a curve keeps the first
    point of each step, a final figure keeps the last value.

    Args:
        config: Where to deliver to; with ``enabled=False`` nothing is written and every method does nothing.
        directory: The stage's directory; the spool is ``<name>.jsonl`` in it.
        observer: Told once when the store cannot be reached, and of the progress of a long delivery.
        name: Name of the spool, for several writers in one directory.

    Raises:
        ConfigurationError: The configuration cannot be used.
    """

    def __init__(
        self, config: TrackingConfig, directory: Path | str, *, observer: Observer | None = None, name: str = "tracking"
    ) -> None:
        check_settings(config, "tracking")
        self.config = config
        self.directory = Path(directory)
        self.observer: Observer = observer or Quiet()
        self.spool = Spool(self.directory / f"{name}.jsonl")
        self.results = Results(home_of(self.spool.path))
        self.delivery = Delivery(config, self.spool, self.observer, self.results)
        self._announced = False
        self._seen = Seen()
        if config.enabled:
            for _, event in self.spool.read():
                if event is not None:
                    self._seen.take(event)

    def run(
        self,
        name: str,
        *,
        key: str,
        parent: TrackedRun | str | None = None,
        tags: Mapping[str, str] | None = None,
        description: str = "",
        start: float | None = None,
    ) -> TrackedRun:
        """Returns the run of ``key``, begun now or continued.

        Args:
            name: What the user interface shows.
            key: Stable identity: the same key is the same MLflow run, in this spool and in any other. Letters, digits and
                ``. : / @ = + - _``, at most 250 of them.
            parent: The run it stands under, or the key of one (which may be recorded in another spool).
            tags: Tags of the run.
            description: Markdown, shown at the top of the run's page.
            start: Time of the start in seconds since 1970; now by default.

        Raises:
            BortError: The key cannot be used.
        """
        if not _KEY.fullmatch(key):
            raise BortError(f"'{key}' cannot be the key of a tracked run: use 1 to 250 letters, digits and . : / @ = + - _.")
        parent_key = parent.key if isinstance(parent, TrackedRun) else parent
        run = TrackedRun(self, name, key)
        self._add({"event": "start", "run": key, "name": name, "parent": parent_key, "time": start or time.time()})
        if tags:
            run.tags(tags)
        if description:
            run.describe(description)
        return run

    def adopt(self, key: str, parent: TrackedRun | str) -> None:
        """Puts a run under another one and leaves it as it is otherwise; for a stage that a chain finds done.

        Args:
            key: The run's key; it may have been recorded in another spool.
            parent: The run it stands under from now on, or its key.
        """
        parent_key = parent.key if isinstance(parent, TrackedRun) else parent
        self._add({"event": "adopt", "run": key, "parent": parent_key, "time": time.time()})

    def sync(self) -> SyncReport:
        """Delivers to MLflow what was not delivered yet. Never raises for a store that is down: the spool keeps everything."""
        if not self.config.enabled:
            return SyncReport()
        self.spool.force()
        return self.delivery.run()

    def run_id(self, key: str) -> str | None:
        """Returns MLflow's id of the run of ``key``; None until it was delivered."""
        return self.delivery.run_ids().get(key)

    def result(self) -> dict[str, Any]:
        """Returns what ``result.json`` says of tracking: the store (without passwords), the experiment and the run ids by key."""
        if not self.config.enabled:
            return {"enabled": False}
        report = self.delivery.state()
        return {
            "enabled": True,
            "store": redact_patterns(self.config.absolute_uri()),
            "experiment": self.config.experiment,
            "experiment_id": report.get("experiment_id"),
            "pending_bytes": self.spool.size() - int(report.get("offset", 0)),
            "runs": dict(report.get("runs", {})),
        }

    def close(self) -> None:
        """Forces the spool to disk and closes it."""
        self.spool.close()

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _add(self, event: dict[str, Any]) -> None:
        if self.config.enabled:
            for new in self._seen.new_in(event):
                if not self._announced:
                    self.delivery.announce()
                    self._announced = True
                self.spool.append(new)


class TrackedRun:
    """One run. As a context manager it ends as finished, failed (an exception) or killed (an interruption)."""

    def __init__(self, tracker: Tracker, name: str, key: str) -> None:
        self._tracker = tracker
        self.name, self.key = name, key

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the run; None until it was delivered by :meth:`Tracker.sync`."""
        return self._tracker.run_id(self.key)

    def child(
        self, name: str, key: str, *, tags: Mapping[str, str] | None = None, description: str = "", start: float | None = None
    ) -> TrackedRun:
        """Returns a run under this one. ``key`` must be unique in the experiment, as for :meth:`Tracker.run`."""
        return self._tracker.run(name, key=key, parent=self, tags=tags, description=description, start=start)

    def params(self, values: Mapping[str, Any]) -> None:
        """Records parameters, as text. The first value of each is kept, as MLflow asks."""
        self._add("params", {"values": {str(key): redact(str(value)) for key, value in values.items()}})

    def metrics(self, values: Mapping[str, float], step: int | None = None, *, at: float | None = None) -> None:
        """Records figures.

        Args:
            values: Figures by name; NaN and infinities are kept.
            step: Step of a curve; None for a final figure.
            at: Time of the figure in seconds since 1970; now by default.
        """
        self.metric_batch(((name, value, step) for name, value in values.items()), at=at)

    def metric_batch(self, points: Iterable[tuple[str, float, int | None]], *, at: float | None = None) -> None:
        """Records many points (name, value, step) at once: a whole curve is one line of the spool and one call to MLflow."""
        now = at or time.time()
        encoded = [[str(name), _encoded(value), step, now] for name, value, step in points]
        if encoded:
            self._add("metrics", {"points": encoded}, now)

    def tags(self, values: Mapping[str, Any]) -> None:
        """Records tags, as text; a later value replaces an earlier one."""
        self._add("tags", {"values": {str(key): redact(str(value)) for key, value in values.items()}})

    def describe(self, markdown: str) -> None:
        """Records the description shown at the top of the run's page."""
        self.tags({"mlflow.note.content": markdown})

    def dataset(self, name: str, digest: str, source: str = "", counts: Mapping[str, int] | None = None, context: str = "") -> None:
        """Records data the run was made from.

        Args:
            name: What it is called.
            digest: Digest of its content; MLflow shows the first 36 characters.
            source: Path or address.
            counts: Sizes by name, e.g. documents and tokens.
            context: What it was used for, e.g. ``training``.
        """
        content = {"digest": digest, "source": redact(source), "counts": dict(counts or {})}
        self._add("dataset", {"name": name, **content, "context": context})

    def artifact(self, path: Path | str, folder: str = "") -> None:
        """Records a file, or a directory with all it holds.

        Args:
            path: What to copy to the store; it must still be there when :meth:`Tracker.sync` is called.
            folder: Where the store keeps it, relative to the run; a directory's own name by default.

        Raises:
            BortError: ``folder`` leads out of the run.
        """
        path = Path(path).absolute()
        if folder.startswith("/") or ".." in Path(folder).parts:
            raise BortError(f"'{folder}' cannot be an artifact's folder: it must stay inside the run.")
        folder = folder or (path.name if path.is_dir() else "")
        self._tracker.results.recorded.add(path)
        self._add("artifact", {"path": self._shown(path), "folder": folder, "version": _version(path)})

    def model(self, model: LoggedModel) -> None:
        """Record a model that the run made; it is logged under the run, and registered if it has a name there.

        Raises:
            BortError: A name cannot be used.
        """
        for name in (model.name, *([model.registered] if model.registered else [])):
            if not name.strip() or any(sign in name for sign in _NOT_IN_MODELS):
                raise BortError(f"'{name}' cannot name a model in MLflow: a name without {' '.join(_NOT_IN_MODELS)} is accepted.")
        self._tracker.results.recorded.add(Path(model.path).absolute())
        fields = {
            "path": self._shown(Path(model.path).absolute()),
            "name": model.name,
            "serves": model.serves,
            "registered": model.registered,
            "lineage": dict(model.lineage),
            "tags": {key: redact(str(value)) for key, value in model.tags.items()},
            "params": {key: redact(str(value)) for key, value in model.params.items()},
            "metrics": {key: float(value) for key, value in model.metrics.items()},
            "description": redact(model.description),
            "version": _content(Path(model.path)) if self._tracker.config.enabled else "",
        }
        self._add("model", fields)

    def finish(self, status: str = "FINISHED", *, at: float | None = None) -> None:
        """Ends the run.

        Args:
            status: ``FINISHED``, ``FAILED`` or ``KILLED``, or a candidate's ``complete``, ``pruned``, ``failed``, ``interrupted``.
            at: Time of the end in seconds since 1970; now by default.

        Raises:
            BortError: The status is not known.
        """
        if status not in STATUSES:
            raise BortError(f"'{status}' is not how a run can end: use one of {', '.join(STATUSES)}.")
        if status != STATUSES[status]:
            self.tags({"bort.state": status})
        self._add("finish", {"status": STATUSES[status]}, at or time.time())

    def __enter__(self) -> TrackedRun:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.finish()
        else:
            self.finish("FAILED" if issubclass(kind, Exception) else "KILLED")

    def _shown(self, path: Path) -> str:
        """Returns a path, relative where it can be, so that a stage's directory may be moved before it is delivered."""
        root = self._tracker.directory.absolute()
        return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()

    def _add(self, kind: str, fields: dict[str, Any], at: float | None = None) -> None:
        self._tracker._add({"event": kind, "run": self.key, **fields, "time": at or time.time()})


class Recording:
    """An observer that records metrics into a run and passes everything on.

    Args:
        run: Where metrics go.
        onward: The observer that the user sees.
        prefix: Put before each metric's name, e.g. ``student/``.
    """

    def __init__(self, run: TrackedRun, onward: Observer | None = None, prefix: str = "") -> None:
        self._run, self._onward, self._prefix = run, onward or Quiet(), prefix

    def progress(self, label: str, done: float, total: float, note: str = "") -> None:
        """Passes progress on."""
        self._onward.progress(label, done, total, note)

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Records the figures, those of one kind side by side (``heldout_kl`` as ``heldout/kl``), and passes them on."""
        self._run.metrics({self._prefix + _grouped(name): value for name, value in values.items()}, step)
        self._onward.metrics(values, step)

    def warn(self, message: str) -> None:
        """Passes the warning on."""
        self._onward.warn(message)


def _grouped(name: str) -> str:
    """Returns a metric's name with a slash after what it is taken on, by which MLflow's charts are put in groups."""
    kind, _, rest = name.partition("_")
    return f"{kind}/{rest}" if kind in _KINDS and rest else name


def _encoded(value: float) -> float | str:
    value = float(value)
    return value if math.isfinite(value) else str(value)


def _content(path: Path) -> str:
    """A digest of a model's files but for MLflow's description, which says when it was written."""
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.name != "MLmodel")
    return digest([[file.relative_to(path).as_posix(), file_digest(file)] for file in files])


def _version(path: Path) -> str:
    """A cheap mark of a file's or directory's content: sizes and times of change."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    marks = [(file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]
    return f"{len(marks)}:{sum(size for size, _ in marks)}:{max((changed for _, changed in marks), default=0)}"

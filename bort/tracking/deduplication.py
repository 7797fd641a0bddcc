"""What a spool already holds, so that a stage that is resumed or repeated adds only what is new."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass
class _Life:
    """What the spool knows of one run's life: the latest start, a start that waits for news, and how it ended."""

    start: dict[str, Any]
    waiting: dict[str, Any] | None = None
    ended: str | None = None


class Seen:
    """What the spool already holds, so that a stage that is resumed or repeated adds only what is new."""

    def __init__(self) -> None:
        self._lives: dict[str, _Life] = {}
        self._steps: dict[tuple[str, str], set[int]] = {}
        self._last: dict[tuple[str, ...], Any] = {}

    def take(self, event: Mapping[str, Any]) -> None:
        """Learns an event that is in the spool."""
        list(self.new_in(dict(event), reading=True))

    def new_in(self, event: dict[str, Any], *, reading: bool = False) -> list[dict[str, Any]]:
        """Returns the events to write for ``event``: none where all of it is known.

        A run that has ended is begun again only when something new follows, so that a stage found done leaves no trace.
        """
        kind, run = event["event"], str(event.get("run", ""))
        if kind == "spool":
            return []
        life = self._lives.get(run)
        if kind == "start":
            return self._start(event, life, reading)
        if kind == "finish":
            if life is None or life.ended == event["status"]:
                return []
            waiting, life.waiting, life.ended = life.waiting, None, event["status"]
            return [*([waiting] if waiting else []), event]
        if kind == "adopt":
            return [event] if self._changed((kind, run), event["parent"]) else []
        event = self._reduced(event, kind, run)
        if not event:
            return []
        waiting = life.waiting if life else None
        if life:
            life.waiting = life.ended = None
        return [*([waiting] if waiting else []), event]

    def _start(self, event: dict[str, Any], life: _Life | None, reading: bool) -> list[dict[str, Any]]:
        run = str(event["run"])
        if life is None:
            self._lives[run] = _Life(event)
            return [event]
        if reading:
            self._lives[run] = _Life(event)
            return [event]
        if life.ended is None and all(life.start.get(field) == event.get(field) for field in ("name", "parent")):
            return []
        life.start = life.waiting = event
        return []

    def _reduced(self, event: dict[str, Any], kind: str, run: str) -> dict[str, Any]:
        if kind == "metrics":
            points = [point for point in event["points"] if self._new_point(run, point)]
            return {**event, "points": points} if points else {}
        if kind == "params":
            values = {key: value for key, value in event["values"].items() if (kind, run, key) not in self._last}
            self._last.update({(kind, run, key): value for key, value in values.items()})
            return {**event, "values": values} if values else {}
        if kind == "tags":
            values = {key: value for key, value in event["values"].items() if self._changed((kind, run, key), value)}
            return {**event, "values": values} if values else {}
        if kind == "artifact":
            return event if self._changed((kind, run, event["folder"], event["path"]), event["version"]) else {}
        if kind == "model":
            content = [event[field] for field in ("version", "registered", "lineage", "tags", "params", "description")]
            return event if self._changed((kind, run, event["name"]), content) else {}
        if kind == "dataset":
            content = [event["digest"], event["source"], event["counts"]]
            return event if self._changed((kind, run, event["name"], event["context"]), content) else {}
        return event

    def _new_point(self, run: str, point: list[Any]) -> bool:
        name, value, step, _ = point
        if step is None:
            return self._changed(("figure", run, name), value)
        steps = self._steps.setdefault((run, name), set())
        if step in steps:
            return False
        steps.add(step)
        return True

    def _changed(self, key: tuple[str, ...], value: Any) -> bool:
        if key in self._last and self._last[key] == value:
            return False
        self._last[key] = value
        return True

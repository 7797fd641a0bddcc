"""Runs, metrics and artifacts: written to a local spool first, delivered to MLflow when it can be reached."""

from __future__ import annotations

from bort.redaction import redact
from bort.tracking.config import TrackingConfig
from bort.tracking.spool import Spool
from bort.tracking.tracker import Recording, SyncReport, TrackedRun, Tracker

__all__ = ["Recording", "Spool", "SyncReport", "TrackedRun", "Tracker", "TrackingConfig", "redact"]

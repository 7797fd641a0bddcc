"""Errors of a study's storage."""

from __future__ import annotations

from bort.errors import BortError


class StudyLostError(BortError):
    """The study cannot be reached any more; it may be tried again inside another :meth:`Coordination.exclusive`."""

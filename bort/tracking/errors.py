"""Errors of a tracking store."""

from __future__ import annotations


class StoreDownError(Exception):
    """The store cannot be reached now; what was to be delivered may be tried again later."""


class StoreSilentError(StoreDownError):
    """Nobody listens at the store's address."""


class StoreRefusesError(StoreDownError):
    """The store answers, and takes nothing: its certificate, the credentials or the permissions are not in order."""


class StoreReplacedError(Exception):
    """The store does not know a run that was delivered to it: it was removed or restored, and needs everything again."""

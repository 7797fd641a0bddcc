"""The one family of errors a user is meant to read."""

from __future__ import annotations


class BortError(Exception):
    """Something the user can mend. The message is one clear sentence; entry points print it without a traceback."""


class ConfigurationError(BortError):
    """A setting that cannot be used, named with its key, its value and what would be accepted.

    Args:
        key: The dotted key as a user would override it, e.g. ``strategy.stride``.
        value: The value that was refused.
        accepted: What would be accepted, e.g. ``a whole number from 1 to 300``.
    """

    def __init__(self, key: str, value: object, accepted: str) -> None:
        self.key, self.value, self.accepted = key, value, accepted
        super().__init__(f"{key}={value} cannot be used: {accepted}.")


class RecordError(BortError):
    """A directory whose record does not match what is asked of it, or cannot be read."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the error's type if it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__

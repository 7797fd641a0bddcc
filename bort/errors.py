"""The one family of errors a user is meant to read."""

from __future__ import annotations


class BortError(Exception):
    """Something the user can mend. The message is one clear sentence; entry points print it without a traceback."""


class ConfigurationError(BortError):
    """An invalid setting.

    Args:
        key: The dotted key as a user would override it, e.g. ``strategy.stride``.
        value: The refused value.
        condition: Completes "must be …", e.g. ``an integer in [1, 300]``.
    """

    def __init__(self, key: str, value: object, condition: str) -> None:
        self.key, self.value, self.condition = key, value, condition
        super().__init__(f"{key}={value} is invalid: must be {condition}.")


class RecordError(BortError):
    """A directory whose record does not match what is asked of it, or cannot be read."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the error's type if it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__

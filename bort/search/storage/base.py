"""Where a study is kept, and how several workers keep out of each other's way.

Two kinds of locks do it. One is held while a worker reads the study, decides and writes, so that decisions follow one another. The
other kind, one for each candidate, is held while a worker trains it. Both belong to the process: when it dies, at whatever
moment, the operating system (or the database, with the connection) takes them back, and the candidate can be taken up again at
once. So there are no leases to renew and no clocks to agree on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import optuna


#: What a study and its trials keep: the settings searched with, the candidate's fingerprint, and its error after so many steps.
IDENTITY, CANDIDATE, RUNG = "bort:identity", "bort:candidate", "bort:rung:"


class Coordination(Protocol):
    """A study's storage with its locks."""

    @property
    def storage(self) -> optuna.storages.BaseStorage:
        """The Optuna storage; to be used only inside :meth:`exclusive`."""

    def exclusive(self) -> Any:
        """Returns a context in which no other worker reads or writes the study.

        After a :class:`StudyLostError`, the next one opens :attr:`storage` anew, with nothing claimed.

        Raises:
            StudyLostError: A database that could be used before cannot be now. What had been written before is in it.
        """

    def claim(self, number: int) -> bool:
        """Takes trial ``number`` for this worker; ``False`` where a living worker has it. Only inside :meth:`exclusive`."""

    def release(self, number: int) -> None:
        """Gives trial ``number`` back. Only inside :meth:`exclusive`."""

    def close(self) -> None:
        """Gives everything back."""


class MemoryCoordination:
    """A study in the memory of one process."""

    def __init__(self) -> None:
        from optuna.storages import InMemoryStorage

        self.storage = InMemoryStorage()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """There is nobody to exclude."""
        yield

    def claim(self, number: int) -> bool:
        """There is nobody to compete with."""
        return True

    def release(self, number: int) -> None:
        """Nothing is held."""

    def close(self) -> None:
        """Nothing is open."""


def pause(seconds: float) -> None:
    """Waits for other workers."""
    time.sleep(seconds)

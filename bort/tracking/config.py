"""Settings of the MLflow store that records runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote, urlsplit

from annotated_types import Ge

from bort.errors import ConfigurationError
from bort.redaction import redact

_SCHEMES = ("sqlite", "http", "https", "postgresql", "mysql", "mssql")


@dataclass
class TrackingConfig:
    """The MLflow store that records runs."""

    enabled: bool = True
    """Whether anything is recorded."""

    uri: str = "sqlite:///outputs/mlflow.db"
    """Address of an MLflow database or server: ``sqlite:///folder/mlflow.db``,
    ``postgresql://user@host/mlflow``, ``http://host:5000``.
    """

    experiment: str = "bort"
    """Name of the experiment that holds the runs."""

    artifacts: str | None = None
    """Folder for the artifacts of a new experiment in a database; a server keeps its own artifacts."""

    timeout: Annotated[int, Ge(1)] = 10
    """Timeout of one request to a server in seconds. Events wait in the stage's directory, so a short timeout
    loses nothing.
    """

    def check(self, key: str) -> None:
        """Refuse an address that MLflow cannot use, and an experiment without a name."""
        if not self.enabled:
            return
        scheme = self._scheme()
        if scheme not in _SCHEMES or (scheme == "sqlite" and self.sqlite_file() is None):
            accepted = "a database or a server, e.g. sqlite:///outputs/mlflow.db or http://localhost:5000"
            raise ConfigurationError(f"{key}.uri", redact(self.uri), accepted)
        if not self.experiment.strip():
            raise ConfigurationError(f"{key}.experiment", repr(self.experiment), "a name")

    def _scheme(self) -> str:
        """Returns what the address begins with; nothing where host and port cannot be read."""
        try:
            parts = urlsplit(self.uri)
            parts.port  # noqa: B018 - a port that is no number is told only when it is asked for
        except ValueError:
            return ""
        return parts.scheme.partition("+")[0]

    def sqlite_file(self) -> Path | None:
        """Returns the database file of a sqlite address as an absolute path; None for any other store."""
        scheme, _, rest = self.uri.partition("://")
        if scheme.partition("+")[0] != "sqlite" or not rest.startswith("/") or len(rest) < 2:
            return None
        return Path(unquote(rest[1:].partition("?")[0])).absolute()

    def absolute_uri(self) -> str:
        """Returns the address with a relative sqlite path made absolute, so that it holds from any working directory."""
        file = self.sqlite_file()
        if file is None:
            return self.uri
        scheme, _, rest = self.uri.partition("://")
        query = rest.partition("?")[2]
        return f"{scheme}:///{file}" + (f"?{query}" if query else "")

    def host(self) -> tuple[str, int] | None:
        """Returns host and port of a store behind a network address; None for a file."""
        parts = urlsplit(self.uri)
        if parts.hostname is None:
            return None
        usual = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
        return parts.hostname, parts.port or usual.get(parts.scheme.partition("+")[0], 80)

"""Where runs are recorded, and how its address is shown without its password."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bort.errors import ConfigurationError
from bort.redaction import redact

_SCHEMES = ("sqlite", "http", "https", "postgresql", "mysql", "mssql")


@dataclass
class TrackingConfig:
    """Settings of the ``tracking`` group.

    Args:
        enabled: Whether anything is recorded.
        uri: Address of an MLflow database or server.
        experiment: Name of the experiment that holds the runs.
        artifacts: Folder for the artifacts of a new experiment in a database; a server decides for itself.
        timeout: Seconds that one request to a server may take, at least 1.
    """

    enabled: bool = True
    uri: str = "sqlite:///outputs/mlflow.db"
    experiment: str = "bort"
    artifacts: str | None = None
    timeout: int = 10

    def check(self) -> None:
        """Refuses an address that MLflow cannot use.

        Raises:
            ConfigurationError: ``uri``, ``experiment`` or ``timeout`` cannot be used.
        """
        if not self.enabled:
            return
        scheme = self._scheme()
        if scheme not in _SCHEMES or (scheme == "sqlite" and self.sqlite_file() is None):
            raise ConfigurationError(
                "tracking.uri",
                redact(self.uri),
                "MLflow needs a database or a server, e.g. sqlite:///outputs/mlflow.db or http://localhost:5000",
            )
        if not self.experiment.strip():
            raise ConfigurationError("tracking.experiment", repr(self.experiment), "a name is needed")
        if self.timeout < 1:
            raise ConfigurationError("tracking.timeout", self.timeout, "at least 1 second is needed")

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

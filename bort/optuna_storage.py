"""Optuna's storages opened so that one which another Optuna made, or a damaged one, is told in a sentence.

The search and fine-tuning both keep their trials with Optuna. Of a newer journal it says no more than
``Should not reach``, and of the tables of another version it raises what cannot be told from a mistake.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bort.errors import ConfigurationError
from bort.files import parse_json

if TYPE_CHECKING:
    from optuna.storages import RDBStorage
    from optuna.study import Study


def open_database(url: str, *, key: str, shown: object, **engine: Any) -> RDBStorage:
    """Opens Optuna's storage in a database.

    Args:
        url: The database, as SQLAlchemy names it.
        key: The setting that named it, for the message.
        shown: How the message names it, without a password.
        engine: Further arguments of SQLAlchemy's engine.

    Raises:
        ConfigurationError: Its tables were made by another version of Optuna, and this one cannot read them.
    """
    import optuna

    storage = optuna.storages.RDBStorage(url, engine_kwargs=engine, skip_compatibility_check=True)
    there, readable = storage.get_current_version(), storage.get_head_version()
    if there == readable:
        return storage
    older = there in storage.get_all_versions()
    storage.engine.dispose()
    mend = "`optuna storage upgrade` brings them up to date" if older else "a newer Optuna made them; choose another place"
    raise ConfigurationError(
        key,
        shown,
        f"a database of schema {readable}, which Optuna {optuna.__version__} reads; its tables have the schema {there}: {mend}",
    )


def name_objectives(study: Study, names: Sequence[str]) -> None:
    """Names a study's objectives for Optuna's dashboard, which otherwise counts them; those of a study that has names stay.

    Args:
        study: The study; its process may have died before it was named, and an older one was not.
        names: One for each objective, in their order.
    """
    if study.metric_names is None:
        # Optuna calls it experimental.
        with warnings.catch_warnings(action="ignore"):
            study.set_metric_names(list(names))


def newer_journal(path: Path) -> str | None:
    """Returns why the installed Optuna cannot play a journal back, in half a sentence; ``None`` where it knows every operation.

    Args:
        path: The journal. Lines that cannot be read are passed over: only a newer journal is told from all others.
    """
    import optuna
    from optuna.storages.journal._storage import JournalOperation

    known = {int(operation) for operation in JournalOperation}
    with path.open("rb") as lines:
        for line in lines:
            try:
                operation = parse_json(line)
            except ValueError:
                continue
            code = operation.get("op_code") if isinstance(operation, dict) else None
            if isinstance(code, int) and code not in known:
                return f"it holds the operation {code}, which Optuna {optuna.__version__} does not know: a newer Optuna wrote it"
    return None


def stumbled(path: Path, error: Exception) -> str:
    """Return the condition that a journal breaks which Optuna could not play back."""
    why = newer_journal(path) if path.is_file() else None
    return why or f"an intact Optuna journal ({str(error) or type(error).__name__})"

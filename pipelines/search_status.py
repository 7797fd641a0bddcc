"""`bort search status [overrides]`: the progress of the search of these settings, while it runs or afterwards."""

from __future__ import annotations

import copy
import gc
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from bort.search.storage.status import Status


def main(overrides: list[str]) -> None:
    """Show the progress of the study that `bort search` with the same overrides works on; write nothing."""
    # Collecting garbage takes a tenth of the command's time.
    gc.disable()
    from .app.console import console
    from .app.main import guarded

    guarded(lambda: console.print(_shown(_status(overrides))))


def _status(overrides: list[str]) -> Status:
    from hydra import compose, initialize_config_dir
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import open_dict

    from bort.search.storage.status import study_status

    from .app.environment import CONF
    from .app.overrides import expand, register_resolvers
    from .engine.schema import register_schema, typed

    register_schema()
    register_resolvers()
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        composed = compose("search", overrides=expand(overrides), return_hydra_config=True)
    settings = copy.deepcopy(composed)
    # Which makes what it is given read-only.
    HydraConfig.instance().set_config(composed)
    directory = Path(settings.hydra.run.dir)
    with open_dict(settings):
        del settings["hydra"]
    return study_status(typed(settings).storage, directory)


def _shown(status: Status) -> Table:
    from rich.table import Table

    table = Table(title=f"search, strategy={status.strategy}", title_justify="left", show_header=False)
    for state, count in status.candidates.items():
        table.add_row(f"candidates {state}", f"{count:,}")
    table.add_row("training steps", f"{status.steps:,}")
    table.add_row("training time, all workers", f"{status.seconds:,.0f} s")
    if status.best:
        table.add_row("best so far", ", ".join(f"{name} {value:.5g}" for name, value in status.best.items()))
    table.add_row("last candidate ended", status.last or "none yet")
    return table

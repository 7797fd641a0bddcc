"""Silence the libraries below: the product reports through its observers and errors alone."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Literal

Library = Literal["datasets", "huggingface_hub", "lightning", "matplotlib", "optuna", "transformers"]

#: The module that configures a library's loggers, to be imported before their level is set; matplotlib's has no level of its own.
_MODULES = {
    "datasets": "datasets.utils.logging",
    "huggingface_hub": "huggingface_hub.utils.logging",
    "lightning": "lightning.pytorch",
    "optuna": "optuna.logging",
    "transformers": "transformers.utils.logging",
}
_LOGGERS = {"lightning": ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")}
#: Optuna's warnings concern the caller's study.
_LEVELS = {"optuna": logging.WARNING}
#: Libraries with functions to disable, enable and query progress bars.
_BARS = ("datasets", "transformers")


@contextmanager
def quiet(*libraries: Library, everything: bool = False) -> Iterator[None]:
    """Silence libraries inside the block: log messages below errors, and progress bars.

    Args:
        *libraries: Their names.
        everything: Whether the warnings, and the log messages below errors, of all other libraries are silenced too.
    """
    with ExitStack() as stack:
        for library in libraries:
            module = import_module(_MODULES[library]) if library in _MODULES else None
            for name in _LOGGERS.get(library, (library,)):
                logger = logging.getLogger(name)
                stack.callback(logger.setLevel, logger.level)
                logger.setLevel(_LEVELS.get(library, logging.ERROR))
            if library in _BARS and module is not None:
                if module.is_progress_bar_enabled():
                    stack.callback(module.enable_progress_bar)
                module.disable_progress_bar()
        if everything:
            stack.callback(logging.disable, logging.root.manager.disable)
            logging.disable(logging.WARNING)
            stack.enter_context(warnings.catch_warnings(action="ignore"))
        yield

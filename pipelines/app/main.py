"""The frame around every entry point: Hydra composes, a stage runs, and what goes wrong is one sentence."""

from __future__ import annotations

import functools
import logging
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bort.files import disk_full
from bort.redaction import redact, secrets_in

from .environment import CONF
from .guard import refuse_code
from .messages import sentence
from .output import know, redacted_output
from .overrides import expand, register_resolvers

if TYPE_CHECKING:
    from omegaconf import DictConfig

_INTERRUPTED = 130


def entry(stage: str) -> Callable[[], None]:
    """Returns the ``main`` of a stage: the same for ``bort <stage>`` and ``python -m pipelines.<stage>``.

    Exit status 0 when the stage is done, 1 with one sentence on standard error when it cannot be, 130 when interrupted.
    ``BORT_TRACEBACK=1`` shows the traceback instead of the sentence.
    """

    def main() -> None:
        with redacted_output():
            run_stage()

    def run_stage() -> None:
        import hydra

        from ..engine.schema import register_schema
        from .composition import guarded_composition
        from .sweeps import Job, tell_of_sweep

        # Hydra otherwise prints its own version of an error and leaves; with this it raises, and the sentence is ours.
        os.environ.setdefault("HYDRA_FULL_ERROR", "1")
        _redact_logs()
        sys.argv[1:] = expand(sys.argv[1:])
        guarded(lambda: refuse_code(sys.argv[1:]))
        register_schema()
        register_resolvers()
        run = Job(stage, functools.partial(_run, stage), _tell)

        @hydra.main(config_path=str(CONF), config_name=stage, version_base="1.3")
        def job(composed: DictConfig) -> None:
            run(composed)

        try:
            with guarded_composition():
                guarded(job)
        finally:
            failed = tell_of_sweep() or run.failed
        if failed:
            sys.exit(1)

    return main


def _run(stage: str, composed: DictConfig) -> None:
    from hydra.core.hydra_config import HydraConfig

    from ..engine.chain import Chain
    from ..engine.schema import typed

    config = typed(composed)
    know(secrets_in(asdict(config)))
    Chain(config, stage, Path(HydraConfig.get().runtime.output_dir)).run()


def _redact_logs() -> None:
    """Strikes passwords out of what any library logs; Hydra, for one, tells the overrides of each job."""
    made = logging.getLogRecordFactory()

    def redacted(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = made(*args, **kwargs)
        record.msg, record.args = redact(record.getMessage()), ()
        return record

    if made is logging.LogRecord:
        logging.setLogRecordFactory(redacted)


def guarded(work: Callable[[], object]) -> None:
    """Runs ``work``; an error leaves the process with one sentence instead of a traceback."""
    try:
        work()
    except (KeyboardInterrupt, SystemExit) as error:
        # Lightning answers Ctrl-C with an exit of its own.
        if isinstance(error, SystemExit) and not isinstance(error.__context__, KeyboardInterrupt):
            raise
        print("Interrupted; the same command goes on from here.", file=sys.stderr)
        sys.exit(_INTERRUPTED)
    except Exception as error:
        _tell(error)
        sys.exit(1)


def _tell(error: Exception) -> str:
    told = sentence(error)
    if os.environ.get("BORT_TRACEBACK") == "1":
        print(redact("".join(traceback.format_exception(error))), file=sys.stderr)
        return told
    print(f"bort: {told}", file=sys.stderr)
    if not _expected(error):
        print("bort: this was not foreseen; BORT_TRACEBACK=1 shows where it happened.", file=sys.stderr)
    return told


def _expected(error: Exception) -> bool:
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from bort.errors import BortError

    told = (BortError, HydraException, OmegaConfBaseException, YAMLError, RecursionError)
    return disk_full(error) or isinstance(error, told) or _composing(error)


def _composing(error: BaseException) -> bool:
    """Whether Hydra, or what it reads configurations with, stumbled over one; they raise whatever Python does."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and any(f"/{reader}/" in frames[-1].filename for reader in ("yaml", "omegaconf", "hydra", "antlr4"))

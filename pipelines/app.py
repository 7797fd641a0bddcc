"""The frame around every entry point: Hydra composes, a stage runs, and what goes wrong is one sentence."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from pipelines.overrides import expand, register_resolvers
from pipelines.sentences import CONF, disk_full, sentence

_INTERRUPTED = 130


def entry(stage: str) -> Callable[[], None]:
    """Returns the ``main`` of a stage: the same for ``bort <stage>`` and ``python -m pipelines.<stage>``.

    Exit status 0 when the stage is done, 1 with one sentence on standard error when it cannot be, 130 when interrupted.
    ``BORT_TRACEBACK=1`` shows the traceback instead of the sentence.
    """

    def main() -> None:
        import hydra
        from omegaconf import DictConfig

        from pipelines.schema import register_schema, typed

        # Hydra otherwise prints its own version of an error and leaves; with this it raises, and the sentence is ours.
        os.environ.setdefault("HYDRA_FULL_ERROR", "1")
        sys.argv[1:] = expand(sys.argv[1:])
        register_schema()
        register_resolvers()

        failures: list[Exception] = []

        @hydra.main(config_path=str(CONF), config_name=stage, version_base="1.3")
        def job(composed: DictConfig) -> None:
            from hydra.core.hydra_config import HydraConfig

            from pipelines.stage import Chain

            try:
                Chain(typed(composed), stage, Path(HydraConfig.get().runtime.output_dir)).run()
            except Exception as error:
                # Told here and not raised through Hydra, so that the other jobs of a sweep still run.
                _tell(error)
                failures.append(error)

        guarded(job)
        if failures:
            sys.exit(1)

    return main


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


def _tell(error: Exception) -> None:
    if os.environ.get("BORT_TRACEBACK") == "1":
        traceback.print_exception(error)
        return
    print(f"bort: {sentence(error)}", file=sys.stderr)
    if not _expected(error):
        print("bort: this was not foreseen; BORT_TRACEBACK=1 shows where it happened.", file=sys.stderr)


def _expected(error: Exception) -> bool:
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from bort.errors import BortError

    return disk_full(error) or isinstance(error, (BortError, HydraException, OmegaConfBaseException))

from __future__ import annotations

import logging
import warnings

import pytest

from bort.quiet import Library, quiet


@pytest.mark.parametrize(
    ("library", "logger"),
    [
        ("datasets", "datasets"),
        ("huggingface_hub", "huggingface_hub"),
        ("lightning", "lightning.pytorch"),
        ("matplotlib", "matplotlib"),
        ("transformers", "transformers"),
    ],
)
def test_quiet_library_is_silenced_inside_alone(library: Library, logger: str) -> None:
    with quiet(library):
        assert logging.getLogger(logger).getEffectiveLevel() == logging.ERROR
    assert logging.getLogger(logger).getEffectiveLevel() < logging.ERROR


def test_quiet_optuna_keeps_its_warnings() -> None:
    import optuna

    before = optuna.logging.get_verbosity()
    with quiet("optuna"):
        assert optuna.logging.get_verbosity() == logging.WARNING
    assert optuna.logging.get_verbosity() == before


def test_quiet_error_inside_restores_levels_and_bars() -> None:
    from transformers.utils import logging as transformers_logging

    bars, level = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()

    def fails() -> None:
        with quiet("transformers"):
            assert not transformers_logging.is_progress_bar_enabled()
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fails()
    assert (transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()) == (bars, level)


def test_quiet_everything_restores(caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder) -> None:
    with quiet(everything=True):
        warnings.warn("hidden", stacklevel=1)
        logging.getLogger("any").warning("hidden")
        logging.getLogger("any").error("shown")
    logging.getLogger("any").warning("after")
    assert not recwarn
    assert [record.message for record in caplog.records] == ["shown", "after"]

"""Every setting of the configuration has a docstring, and a change of what a value must be is seen."""

from __future__ import annotations

import os
from pathlib import Path

from pipelines.engine.schema import every_setting

#: What each value must be; written anew with BORT_UPDATE=1.
CONDITIONS = Path(__file__).with_name("conditions.txt")


def test_every_setting_has_a_docstring() -> None:
    missing = [item.key for item in every_setting() if not item.docstring and not item.key.endswith("*")]
    assert not missing


def test_conditions_are_those_of_the_snapshot() -> None:
    text = "".join(sorted(f"{item.key}: {item.condition or 'anything'}\n" for item in every_setting()))
    if os.environ.get("BORT_UPDATE"):
        CONDITIONS.write_text(text, encoding="utf-8")
    assert text.splitlines() == CONDITIONS.read_text(encoding="utf-8").splitlines()

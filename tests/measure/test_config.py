from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from bort.measure.config import BenchmarkConfig
from bort.settings import check_settings

FILES = sorted((Path(__file__).parents[2] / "conf" / "benchmark").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_answer_fits_the_schema(path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# "), "the first line says what the file is"
    values = yaml.safe_load(text) or {}
    check_settings(BenchmarkConfig(**values), "benchmark")

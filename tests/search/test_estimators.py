"""Tables and the scaling law."""

from __future__ import annotations

from pathlib import Path

import pytest

from bort.architecture import Architecture
from bort.errors import BortError, ConfigurationError
from bort.observer import Quiet
from bort.quantities import ErrorInputs
from bort.search.estimator_config import ProxyErrorConfig, TableErrorConfig
from bort.search.estimators import TableEstimator
from bort.search.space import SearchSpace
from tests.search.synthetic_tables import FAMILIES, SHORT, TINY, errors, write_table


@pytest.fixture
def table(tmp_path: Path) -> Path:
    shapes = list(SearchSpace(**TINY))
    return write_table(tmp_path / "table.csv", shapes, SHORT, errors(shapes, FAMILIES["smooth"], SHORT, 0))


def read(path: Path) -> TableEstimator:
    return TableErrorConfig(path=str(path)).build(ErrorInputs(list(SearchSpace(**TINY))))


def test_a_table_answers_what_it_holds(table: Path) -> None:
    estimator = read(table)
    assert estimator.rungs == list(SHORT)
    row = table.read_text().splitlines()[5].split(",")
    found = estimator.evaluate(Architecture(*map(int, row[:4])), {}, int(row[4]), table.parent, Quiet())
    assert found.error == float(row[5])
    with pytest.raises(BortError, match="no error of"):
        estimator.evaluate(Architecture(9, 1, 8, 8), {}, 10, table.parent, Quiet())
    with pytest.raises(BortError, match="no hyperparameters"):
        estimator.evaluate(Architecture(1, 2, 32, 64), {"learning_rate": 1.0}, 10, table.parent, Quiet())


def test_rows_outside_the_space_columns_beside_and_their_order_do_not_matter(table: Path) -> None:
    lines = table.read_text().splitlines()
    mixed = [",".join(["note", *reversed(lines[0].split(","))]), ",".join(["x", *reversed(["9", "1", "8", "8", "77", "0.5"])])]
    mixed += [",".join(["", *reversed(line.split(","))]) for line in reversed(lines[1:])]
    other = table.with_name("mixed.csv")
    other.write_text("\ufeff" + "\r\n".join(mixed))
    assert read(other).rungs == list(SHORT)
    assert read(other).fingerprint != read(table).fingerprint


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda lines: lines[:4] + lines[5:], r"lacks 1: first D1-A\d+-H32-I64 at \d+ steps"),
        (lambda lines: [*lines, lines[3]], r"line 74 repeats D1-"),
        (lambda lines: [*lines[:-1], lines[-1].rsplit(",", 1)[0] + ",-0.5"], "error=-0.5"),
        (lambda lines: [*lines[:-1], lines[-1].rsplit(",", 1)[0] + ",nan"], "error=nan"),
        (lambda lines: [*lines[:-1], lines[-1].rsplit(",", 1)[0] + ","], "integers and an error"),
        (lambda lines: [*lines, "1,2,32,64,0,0.5"], "steps=0"),
        (lambda lines: [*lines, "1,3,32,64,10,0.5"], "a table of architectures"),
        (lambda lines: [*lines, "1,2,32"], "integers and an error"),
        (lambda lines: [lines[0].replace("error", "loss"), *lines[1:]], "lacks error"),
        (lambda lines: lines[:1], "a table with rows"),
        (lambda lines: [], "lacks depth, heads"),
    ],
)
def test_bad_tables_are_refused(table: Path, change, sentence: str) -> None:  # type: ignore[no-untyped-def]
    table.write_text("\n".join(change(table.read_text().splitlines())) + "\n")
    with pytest.raises(ConfigurationError, match=rf"error\.path=.*{sentence}"):
        read(table)


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"error\.path=.*readable CSV"):
        read(tmp_path / "none.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ConfigurationError, match=r"error\.path=.*readable CSV"):
        read(tmp_path / "binary.csv")


def test_the_proxy_follows_its_law() -> None:
    estimator = ProxyErrorConfig().build(ErrorInputs())
    small, large = Architecture(2, 2, 64, 128), Architecture(4, 2, 64, 128)
    values = [estimator.evaluate(shape, {}, 0, Path(), Quiet()).error for shape in (small, large)]
    assert values[0] / values[1] == pytest.approx(2**0.076)
    assert estimator.rungs == [0]
    with pytest.raises(ConfigurationError, match=r"error\.exponent=0"):
        ProxyErrorConfig(exponent=0.0).build(ErrorInputs())

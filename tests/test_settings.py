"""Settings that are not of their type, out of their range or against a rule are refused with key, value and condition."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import pytest
from annotated_types import Ge, Gt, Interval, MinLen

from bort.errors import ConfigurationError
from bort.settings import DISTINCT, OneOf, Rule, check_settings, check_value, describe

ROOT = Path(__file__).parents[1]


@dataclass
class Inner:
    """Settings of a part."""

    share: Annotated[float, Interval(ge=0, lt=1)] = 0.5
    """A share."""

    limit: Annotated[int, Ge(1)] | None = None
    """A limit,
    or none.
    """


@dataclass
class Outer:
    name: str = "a"
    on: bool = True
    seeds: list[int] = field(default_factory=lambda: [0, 1])
    names: Annotated[list[Annotated[str, OneOf("a", "b")]], MinLen(1), DISTINCT] = field(default_factory=lambda: ["a"])
    files: dict[str, str] = field(default_factory=lambda: {"a": "b"})
    weights: dict[str, Annotated[float, Gt(0)]] = field(default_factory=dict)
    parts: list[Inner] = field(default_factory=lambda: [Inner()])
    inner: Inner = field(default_factory=Inner)
    free: Any = None
    word: Annotated[str, Rule("an upper-case word", str.isupper)] | None = None

    def check(self, key: str) -> None:
        if not self.on and self.word:
            raise ConfigurationError(f"{key}.word", self.word, "null with on=false")


SOUND = Outer(inner=Inner(1 / 2, 3), free=[{"x": object}], weights={"x": 1}, word="A")


def test_settings_in_range_pass():
    check_settings(SOUND, "outer")
    check_settings(replace(SOUND, on=False), "outer", rules=False)


@pytest.mark.parametrize(
    ("change", "key", "value", "condition"),
    [
        ({"name": 3}, "name", 3, "a string"),
        ({"name": None}, "name", None, "a string"),
        ({"on": 1}, "on", 1, "true or false"),
        ({"seeds": "/home"}, "seeds", "/home", "a list, each entry an integer"),
        ({"seeds": [0, {8: None}]}, "seeds", {8: None}, "an integer"),
        ({"seeds": [0, True]}, "seeds", True, "an integer"),
        ({"names": []}, "names", [], "a non-empty list without repeated entries, each entry one of a, b"),
        ({"names": ["a", "a"]}, "names", ["a", "a"], "a non-empty list without repeated entries, each entry one of a, b"),
        ({"names": ["a", "c"]}, "names", "c", "one of a, b"),
        ({"files": "/home"}, "files", "/home", "a mapping"),
        ({"files": {"a": 1}}, "files.a", 1, "a string"),
        ({"weights": {"x": 0.0}}, "weights.x", 0.0, "a number > 0"),
        ({"weights": {"x": float("inf")}}, "weights.x", float("inf"), "a number > 0"),
        ({"parts": [Inner(), "x"]}, "parts.1", "x", "a group of settings"),
        ({"parts": [Inner(), Inner(1.0)]}, "parts.1.share", 1.0, "a number in [0, 1)"),
        ({"inner": None}, "inner", None, "a group of settings"),
        ({"inner": Inner("half")}, "inner.share", "half", "a number in [0, 1)"),
        ({"inner": Inner(0.5, 1.5)}, "inner.limit", 1.5, "null or an integer >= 1"),
        ({"inner": Inner(0.5, 0)}, "inner.limit", 0, "null or an integer >= 1"),
        ({"word": "a"}, "word", "a", "null or an upper-case word"),
        ({"on": False}, "word", "A", "null with on=false"),
    ],
)
def test_settings_out_of_range_are_refused_by_key(change: dict[str, Any], key: str, value: object, condition: str):
    with pytest.raises(ConfigurationError) as caught:
        check_settings(replace(SOUND, **change), "outer")
    assert (caught.value.key, caught.value.value) == (f"outer.{key}", value)
    assert caught.value.condition == condition


def test_a_value_is_checked_for_a_field_by_name():
    check_value(Inner, "share", 0, "theta.share")
    with pytest.raises(ConfigurationError) as caught:
        check_value(Inner, "share", float("nan"), "theta.share")
    assert caught.value.key == "theta.share"


def test_settings_are_listed_with_their_docstrings():
    listed = {item.key: item for item in describe(Outer, "outer")}
    limit = listed["outer.inner.limit"]
    assert (limit.type, limit.default, limit.condition) == ("int | None", None, "null or an integer >= 1")
    assert limit.docstring == "A limit,\nor none."
    assert listed["outer.weights.*"].condition == "a number > 0"
    assert listed["outer.parts.*.share"].docstring == "A share."


def conditions() -> Iterator[tuple[str, str]]:
    """Yields the literal beginnings of conditions, with their places."""
    for file in sorted([*(ROOT / "bort").rglob("*.py"), *(ROOT / "pipelines").rglob("*.py")]):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            named = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "ConfigurationError"
            if named and len(node.args) == 3:
                literal = node.args[2].values[0] if isinstance(node.args[2], ast.JoinedStr) else node.args[2]
                if isinstance(literal, ast.Constant):
                    yield f"{file.relative_to(ROOT)}:{node.lineno}", str(literal.value)


def test_conditions_complete_must_be():
    listed = list(conditions())
    assert len(listed) > 50
    for place, text in listed:
        assert not re.match(r"(must|it|there|this|use|name|give|only|no|choose)\b|.*\b(needed|accepted)$", text), f"{place}: {text}"

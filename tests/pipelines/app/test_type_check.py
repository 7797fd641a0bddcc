"""Values that are not of their setting's type are refused with their key, as deep as they stand."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from bort.errors import ConfigurationError
from pipelines.app.type_check import check_types


@dataclass
class Inner:
    share: float = 0.5
    limit: int | None = None


@dataclass
class Outer:
    name: str = "a"
    on: bool = True
    seeds: list[int] = field(default_factory=lambda: [0, 1])
    files: dict[str, str] = field(default_factory=lambda: {"a": "b"})
    parts: list[Inner] = field(default_factory=lambda: [Inner()])
    inner: Inner = field(default_factory=Inner)
    free: Any = None


SOUND = Outer(inner=Inner(1, 3), free=[{"x": object}])


def test_sound_settings_pass():
    check_types(SOUND, Outer)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"name": 3}, r"name=3 .*text is needed"),
        ({"name": None}, r"name=.*text is needed"),
        ({"on": 1}, r"on=1 .*true or false"),
        ({"seeds": "/home"}, r"seeds=/home .*a list is needed"),
        ({"seeds": [0, {8: None}]}, r"seeds\[1\]=.*a whole number"),
        ({"seeds": [0, True]}, r"seeds\[1\]=.*a whole number"),
        ({"files": "/home"}, r"files=/home .*names with values"),
        ({"files": {"a": 1}}, r"files\.a=1 .*text"),
        ({"parts": [Inner(), "x"]}, r"parts\[1\]=x .*settings of a group"),
        ({"inner": None}, r"inner=.*settings of a group"),
        ({"inner": Inner("half")}, r"inner\.share=half .*a number"),
        ({"inner": Inner(0.5, 1.5)}, r"inner\.limit=1\.5 .*a whole number"),
    ],
)
def test_others_are_refused_by_their_key(change: dict[str, Any], sentence: str):
    with pytest.raises(ConfigurationError, match=sentence):
        check_types(replace(SOUND, **change), Outer)

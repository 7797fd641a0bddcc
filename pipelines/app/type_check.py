"""Whether composed settings have the types of their schema, which a reference to a value of another type escapes in OmegaConf."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from bort.errors import ConfigurationError

_NEEDED = {
    bool: "true or false is needed",
    int: "a whole number is needed",
    float: "a number is needed",
    str: "text is needed",
    list: "a list is needed",
    dict: "names with values are needed",
}


def check_types(value: Any, hint: Any, key: str = "") -> None:
    """Refuses a value that is not of its type, at any depth.

    Args:
        value: A dataclass made of a configuration, or a value in one.
        hint: Its type: a dataclass, one of YAML's own types, an optional one of these, or anything at all.
        key: What the user calls it, dotted; empty at the root.

    Raises:
        ConfigurationError: It is of another type.
    """
    if get_origin(hint) in (Union, UnionType):
        hints = get_args(hint)
        if value is None and NoneType in hints:
            return
        # No setting has more than one type beside none.
        hint = next(option for option in hints if option is not NoneType)
    kind = get_origin(hint) or hint
    if is_dataclass(value) and not isinstance(value, type):
        for name, wanted in _hints(type(value)).items():
            check_types(getattr(value, name), wanted, f"{key}.{name}" if key else name)
    elif kind in _NEEDED:
        # To Python alone, truth values are numbers.
        if not isinstance(value, (int, float) if kind is float else kind) or (isinstance(value, bool) and kind is not bool):
            raise ConfigurationError(key, value, _NEEDED[kind])
        for name, part in _parts(value):
            check_types(part, get_args(hint)[-1], key + name)
    elif hint is not Any:
        raise ConfigurationError(key, value, "the settings of a group are needed")


def _parts(value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, dict):
        return ((f".{name}", part) for name, part in value.items())
    return ((f"[{place}]", part) for place, part in enumerate(value)) if isinstance(value, list) else ()


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)

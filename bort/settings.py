"""Check settings against the types and ranges of their dataclasses, and list them with their documentation.

A range stands in the annotation, ``steps: Annotated[int, Ge(1)] = 100``, in terms of ``annotated_types``, :class:`OneOf`
and :class:`Rule`; a class's ``check(key)`` holds the rules between its fields. The annotations are read here and not by
pydantic, whose import alone costs a quarter of a second before any command answers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from itertools import pairwise
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Interval, Le, Lt, MinLen

from bort.architecture import Architecture
from bort.errors import BortError, ConfigurationError

#: Nouns of the types in conditions.
_NOUNS = {int: "an integer", float: "a number", bool: "true or false", str: "a string", list: "a list", dict: "a mapping"}


class OneOf:
    """A choice among values: ``Annotated[str, OneOf("float16", "float32")]``.

    Args:
        choices: The values.
    """

    def __init__(self, *choices: object) -> None:
        self.choices = choices


@dataclass(frozen=True)
class Rule:
    """A condition that no range expresses.

    Args:
        condition: Completes "must be …": the entire condition of a string, an addition for any other type.
        holds: Whether a value meets it; may raise :class:`ValueError` with a reason.
    """

    condition: str
    holds: Callable[[Any], bool]


_FILE_NAME = re.compile(r"(?![.\s])[^/\\:\x00-\x1f\x7f]{1,120}", re.ASCII)
_NAME = re.compile(r"(?![.\s])[^/\\\x00-\x1f\x7f]{1,120}", re.ASCII)
#: A name that is also the name of a file, on any system.
FILE_NAME = Rule("a file name without / and without a dot in front", lambda name: bool(_FILE_NAME.fullmatch(name)))
#: A name that is also that of a folder, and never a path.
NAME = Rule("a name of 1 to 120 characters without / or \\ and without a dot in front", lambda name: bool(_NAME.fullmatch(name)))


def or_empty(rule: Rule) -> Rule:
    """Return the rule of a setting that may also be empty."""
    return Rule(f"empty or {rule.condition}", lambda name: not name or rule.holds(name))


#: No entry of a list repeats another.
DISTINCT = Rule("without repeated entries", lambda values: all(value not in values[:index] for index, value in enumerate(values)))


def shape_or(*words: str) -> Rule:
    """Return the rule of a setting that is one of ``words`` or the shape of an encoder."""

    def holds(value: str) -> bool:
        try:
            return value in words or bool(Architecture.parse(value))
        except BortError as error:
            raise ValueError(str(error).rstrip(".")) from error

    return Rule(" or ".join([*words, "a shape such as 4-8-1024-768"]), holds)


@dataclass(frozen=True)
class _Type:
    """A field's type, with its range and the type of its entries."""

    kind: Any
    optional: bool
    choices: tuple[object, ...]
    interval: Interval
    filled: bool
    rules: tuple[Rule, ...]
    entries: _Type | None

    def condition(self) -> str:
        """Return the words after "must be" in an error; empty for a group of settings and for any value at all."""
        if self.choices:
            condition = f"one of {', '.join(map(str, self.choices))}"
        elif self.kind is str and self.rules:
            condition = ", ".join(rule.condition for rule in self.rules)
        elif self.kind in _NOUNS:
            parts = [_NOUNS[self.kind], _range(self.interval), *(rule.condition for rule in self.rules)]
            condition = " ".join(part for part in parts if part)
            if self.filled:
                condition = condition.replace("a ", "a non-empty ", 1)
            if self.kind is list and self.entries is not None and self.entries.condition():
                condition += f", each entry {self.entries.condition()}"
        else:
            return ""
        return f"null or {condition}" if self.optional else condition

    def holds(self, value: Any) -> bool:
        """Return whether a value, its entries aside, is of this type and in its range."""
        if self.kind in _NOUNS:
            # To Python alone, bool is an int.
            kind = (int, float) if self.kind is float else self.kind
            if not isinstance(value, kind) or isinstance(value, bool) != (self.kind is bool):
                return False
            if isinstance(value, float) and not math.isfinite(value):
                return False
        lowest, above, most, below = self.interval.ge, self.interval.gt, self.interval.le, self.interval.lt
        return (
            (not self.choices or value in self.choices)
            and (lowest is None or value >= lowest)
            and (above is None or value > above)
            and (most is None or value <= most)
            and (below is None or value < below)
            and (not self.filled or len(value) > 0)
            and all(rule.holds(value) for rule in self.rules)
        )

    def check(self, value: Any, key: str, *, rules: bool) -> None:
        """Refuse a value, or an entry of it, that is out of its range."""
        if value is None and self.optional:
            return
        if is_dataclass(self.kind):
            if not is_dataclass(value) or isinstance(value, type):
                raise ConfigurationError(key, value, "a group of settings")
            check_settings(value, key, rules=rules)
            return
        try:
            holds, reason = self.holds(value), ""
        except ValueError as error:
            holds, reason = False, f" ({error})"
        if not holds:
            raise ConfigurationError(key, value, f"{self.condition()}{reason}")
        if self.entries is not None:
            for name, entry in value.items() if isinstance(value, dict) else enumerate(value):
                named = isinstance(value, dict) or is_dataclass(self.entries.kind)
                self.entries.check(entry, f"{key}.{name}" if named else key, rules=rules)


def check_settings(config: Any, key: str, *, rules: bool = True) -> None:
    """Refuse settings out of their types and ranges, at any depth, and those that break a rule between fields.

    Args:
        config: A dataclass of settings.
        key: The dotted key at which it stands in the configuration; empty at the root.
        rules: Whether the ``check(key)`` methods are called, which hold the rules between fields.

    Raises:
        ConfigurationError: The first setting that is invalid.
    """
    kind: Any = type(config)
    for name, wanted in _types(kind).items():
        wanted.check(getattr(config, name), f"{key}.{name}" if key else name, rules=rules)
    if rules and hasattr(config, "check"):
        config.check(key)


def check_value(kind: Any, name: str, value: Any, key: str) -> None:
    """Refuse a value for one field of a dataclass of settings.

    Args:
        kind: The dataclass.
        name: The field.
        value: The value.
        key: The dotted key of the value.

    Raises:
        ConfigurationError: The value is invalid.
    """
    _types(kind)[name].check(value, key, rules=False)


def identity(config: Any) -> dict[str, Any]:
    """Return settings as plain values for a digest, those of groups included.

    A field that was added after a release has the metadata ``since`` and is left out while it holds its default, so that what was
    made before it existed keeps its identity.

    Args:
        config: A dataclass of settings.
    """
    found: dict[str, Any] = {}
    for item in fields(config):
        value = getattr(config, item.name)
        default = item.default_factory() if item.default_factory is not MISSING else item.default
        if "since" not in item.metadata or value != default:
            found[item.name] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return identity(value)
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list) else value


@dataclass(frozen=True)
class Setting:
    """A setting as the documentation lists it.

    Args:
        key: Its dotted key; an entry of a list or a mapping ends in ``*``.
        type: Its type, as in ``int | None``.
        default: The default; :data:`dataclasses.MISSING` if the configuration must set it.
        condition: What a value must be; empty if anything is allowed.
        docstring: The docstring under the field.
    """

    key: str
    type: str
    default: Any
    condition: str
    docstring: str


def describe(kind: Any, key: str = "") -> Iterator[Setting]:
    """Yield every setting of a dataclass and of the groups in it, in their order.

    Args:
        kind: The dataclass.
        key: The dotted key at which it stands.
    """
    documentation = docstrings(kind)
    for item in fields(kind):
        wanted, name = _types(kind)[item.name], f"{key}.{item.name}" if key else item.name
        if is_dataclass(wanted.kind):
            yield from describe(wanted.kind, name)
            continue
        default = item.default_factory() if item.default_factory is not MISSING else item.default
        yield Setting(
            name, _name(wanted), MISSING if default == "???" else default, wanted.condition(), documentation.get(item.name, "")
        )
        if wanted.entries is not None and is_dataclass(wanted.entries.kind):
            yield from describe(wanted.entries.kind, f"{name}.*")
        elif wanted.kind is dict and wanted.entries is not None and wanted.entries.condition():
            yield Setting(f"{name}.*", _name(wanted.entries), MISSING, wanted.entries.condition(), "")


@cache
def docstrings(kind: type) -> Mapping[str, str]:
    """Return the docstrings under the fields of a dataclass by the fields' names, those of its bases included."""
    import ast
    import inspect
    import textwrap

    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if not is_dataclass(base):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0].body  # type: ignore[attr-defined]
        for pair in pairwise(body):
            match pair:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[name] = inspect.cleandoc(text)
    return found


@cache
def _types(kind: Any) -> Mapping[str, _Type]:
    hints = get_type_hints(kind, include_extras=True)
    return {item.name: _type(hints[item.name]) for item in fields(kind)}


def _type(hint: Any, metadata: Iterable[Any] = (), optional: bool = False) -> _Type:
    if get_origin(hint) is Annotated:
        base, *extra = get_args(hint)
        return _type(base, [*extra, *metadata], optional)
    if get_origin(hint) in (Union, UnionType):
        # No setting has more than one type beside None.
        (inner,) = (option for option in get_args(hint) if option is not NoneType)
        return _type(inner, metadata, True)
    bounds: dict[str, Any] = {}
    choices: tuple[object, ...] = ()
    rules: list[Rule] = []
    filled = False
    for entry in metadata:
        match entry:
            case Interval():
                bounds |= {name: getattr(entry, name) for name in ("ge", "gt", "le", "lt") if getattr(entry, name) is not None}
            case Ge() | Gt() | Le() | Lt():
                name = type(entry).__name__.lower()
                bounds[name] = getattr(entry, name)
            case MinLen(1):
                filled = True
            case OneOf():
                choices = entry.choices
            case Rule():
                rules.append(entry)
            case _:
                raise TypeError(f"{entry!r} is no range that settings are checked against.")
    kind, arguments = get_origin(hint) or hint, get_args(hint)
    entries = _type(arguments[-1]) if kind in (list, dict) and arguments else None
    return _Type(kind, optional, choices, Interval(**bounds), filled, tuple(rules), entries)


def _range(interval: Interval) -> str:
    low = (">=", interval.ge) if interval.ge is not None else (">", interval.gt)
    high = ("<=", interval.le) if interval.le is not None else ("<", interval.lt)
    if low[1] is not None and high[1] is not None:
        return f"in {'[' if low[0] == '>=' else '('}{_number(low[1])}, {_number(high[1])}{']' if high[0] == '<=' else ')'}"
    return " ".join(f"{sign} {_number(bound)}" for sign, bound in (low, high) if bound is not None)


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _name(wanted: _Type) -> str:
    name = getattr(wanted.kind, "__name__", str(wanted.kind))
    if wanted.entries is not None:
        name += f"[{_name(wanted.entries)}]" if wanted.kind is list else f"[str, {_name(wanted.entries)}]"
    return f"{name} | None" if wanted.optional else name

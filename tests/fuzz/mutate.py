"""Inputs out of sound ones: bytes, lines, cells and JSON values changed, cut, doubled and swapped by a seed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

#: Numbers, marks and spellings at which readers have broken: limits of types, of Unicode, of JSON, of tables, of paths.
WORDS: tuple[bytes, ...] = (
    *(b"0", b"-1", b"1e999", b"-1e-999", b"NaN", b"Infinity", b"nan", b"1_0", b"0x10", b"1.0", b"9" * 40, b"9" * 4400),
    *(b"9223372036854775807", b"9223372036854775808", b"18446744073709551616", b"2147483648", b"4294967295"),
    *(b"null", b"true", b"false", b"None", b"[]", b"{}", b'""', b"''", b'"', b"'", b"`", b"\\", b"\\u", b"\\ud800", b"\\u0000"),
    *(
        b"[" * 2000,
        b"{" * 50,
        b'{"a":' * 1200,
        b"," * 200,
        b"\t" * 20,
        b"\n" * 20,
        b"\r",
        b"\r\n",
        b"\x00",
        b"\x1a",
        b"\x85",
        b"\x0b",
    ),
    *("\ufeff".encode(), "\u2028".encode(), "\u202e".encode(), "e\u0301".encode(), "\U0001f600".encode(), b"\xff\xfe", b"\xc3\x28"),
    *(
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\x80",
        b"../",
        b"../../../../etc/passwd",
        b"/dev/null",
        b"~",
        b"${oc.env:HOME}",
        b"${",
    ),
    *(
        b"_target_",
        b"!!python/object/apply:os.system",
        b"&a [*a]",
        b"<<: *a",
        b"*a",
        b"---",
        b"%",
        b"#",
        b"=",
        b":",
        b" ",
        b"x" * 5000,
    ),
)
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_TOKEN = re.compile(rb"[A-Za-z_@#]+|\d+|[^\sA-Za-z_\d]")
#: Longer inputs are not looked at behind this.
_LONGEST = 20_000


def mutate(bases: Sequence[bytes], draw: Random) -> bytes:
    """Returns one of the bases with one to six changes; one in fifty as it stands."""
    data = draw.choice(bases)
    if draw.random() < 0.02:
        return data
    for _ in range(draw.choice((1, 1, 1, 2, 2, 3, 4, 6))):
        data = draw.choice(_CHANGES)(data, bases, draw)
    return data[:_LONGEST]


def _span(data: bytes, draw: Random, most: int = 64) -> tuple[int, int]:
    start = draw.randrange(len(data) + 1)
    return start, min(len(data), start + draw.randint(1, most))


def _flip(data: bytes, bases: Sequence[bytes], draw: Random) -> bytes:
    if not data:
        return data
    place = draw.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << draw.randrange(8))]) + data[place + 1 :]


def _byte(data: bytes, bases: Sequence[bytes], draw: Random) -> bytes:
    place = draw.randrange(len(data) + 1)
    return data[:place] + bytes([draw.choice((0, 1, 0x7F, 0x80, 0xFF, 0x22, 0x2C, 0x0A, draw.randrange(256)))]) + data[place + 1 :]


def _remove(data: bytes, bases: Sequence[bytes], draw: Random) -> bytes:
    start, end = _span(data, draw)
    return data[:start] + data[end:]


def _cut(data: bytes, bases: Sequence[bytes], draw: Random) -> bytes:
    return data[: draw.randrange(len(data) + 1)]


def _double(data: bytes, bases: Sequence[bytes], draw: Random) -> bytes:
    start, end = _span(data, draw)
    return data[:end] + data[start:end] * draw.choice((1, 1, 2, 30)) + data[end:]


def _insert(data: bytes, bases: Sequence[bytes], draw: Random) -> bytes:
    place = draw.randrange(len(data) + 1)
    return data[:place] + draw.choice(WORDS) + data[place:]


def _replace(data: bytes, bases: Sequence[bytes], draw: Random) -> bytes:
    found = [match.span() for match in _TOKEN.finditer(data[:_LONGEST])]
    if not found:
        return _insert(data, bases, draw)
    start, end = draw.choice(found)
    return data[:start] + draw.choice(WORDS) + data[end:]


def _number(data: bytes, bases: Sequence[bytes], draw: Random) -> bytes:
    found = [match.span() for match in _NUMBER.finditer(data[:_LONGEST])]
    if not found:
        return _flip(data, bases, draw)
    start, end = draw.choice(found)
    value = draw.choice(
        (b"0", b"-1", b"1", b"1.5", b"1e400", b"NaN", b"99999999999999999999", str(draw.randrange(-10, 300)).encode())
    )
    return data[:start] + value + data[end:]


def _splice(data: bytes, bases: Sequence[bytes], draw: Random) -> bytes:
    other = draw.choice(bases)
    start, end = _span(other, draw, 200)
    place = draw.randrange(len(data) + 1)
    return data[:place] + other[start:end] + data[place + draw.choice((0, end - start)) :]


def _lines(data: bytes, bases: Sequence[bytes], draw: Random) -> bytes:
    lines = data.splitlines(keepends=True)
    if len(lines) < 2:
        return _double(data, bases, draw)
    first, second = draw.randrange(len(lines)), draw.randrange(len(lines))
    kind = draw.randrange(4)
    if kind == 0:
        lines[first], lines[second] = lines[second], lines[first]
    elif kind == 1:
        del lines[first]
    elif kind == 2:
        lines.insert(first, lines[second])
    else:
        lines = [line.rstrip(b"\r\n") + draw.choice((b"\r\n", b"\r", b"\n\n")) for line in lines]
    return b"".join(lines)


def _json(data: bytes, bases: Sequence[bytes], draw: Random) -> bytes:
    """Changes one value of one JSON document, which stays JSON."""
    lines = data.splitlines()
    place = draw.randrange(len(lines)) if lines else 0
    for whole in (False, True):
        text = data if whole else (lines[place] if lines else b"")
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            continue
        changed = json.dumps(_changed(document, draw)).encode()
        return changed if whole else b"\n".join([*lines[:place], changed, *lines[place + 1 :]]) + b"\n"
    return _replace(data, bases, draw)


def _changed(value: Any, draw: Random) -> Any:
    if isinstance(value, dict) and value and draw.random() < 0.85:
        key = draw.choice(sorted(value))
        kind = draw.random()
        if kind < 0.15:
            return {name: one for name, one in value.items() if name != key}
        if kind < 0.25:
            return value | {draw.choice(("", "idx", "label", "schema", "\ud800", key + "x")): value[key]}
        return value | {key: _changed(value[key], draw)}
    if isinstance(value, list) and value and draw.random() < 0.85:
        place = draw.randrange(len(value))
        if draw.random() < 0.3:
            return value[:place] + value[place + 1 :] * draw.choice((0, 1, 2))
        return [*value[:place], _changed(value[place], draw), *value[place + 1 :]]
    near: list[Any] = [value + 1, -value, value * 1e300] if isinstance(value, (int, float)) and abs(value) < 1e100 else []
    if isinstance(value, str):
        near = [value.upper(), value + value, value[::-1], value[:1], f" {value} ", value.encode("utf-8", "surrogatepass").hex()]
    return draw.choice(
        [None, True, False, 0, -1, 1.5, 10**30, float("nan"), float("inf"), "", "x", [], {}, [value], {"a": value}, *near]
    )


_CHANGES: tuple[Callable[[bytes, Sequence[bytes], Random], bytes], ...] = (
    *(_flip, _byte, _remove, _cut, _double, _insert, _replace, _replace, _number, _number, _splice, _lines, _json, _json, _json),
)

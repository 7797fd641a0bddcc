from __future__ import annotations

from pathlib import Path

from bort.tracking.spool import Spool


def _events(spool: Spool) -> list[int]:
    return [event["number"] for _, event in spool.read() if event is not None and event["event"] == "x"]


def test_events_come_back_in_order_and_from_an_offset(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "new" / "spool.jsonl")
    assert list(spool.read()) == []
    assert spool.size() == 0
    for number in range(5):
        spool.append({"event": "x", "number": number})
    assert _events(spool) == [0, 1, 2, 3, 4]
    offsets = [offset for offset, _ in spool.read()]
    assert offsets[-1] == spool.size()
    assert [event["number"] for _, event in spool.read(offsets[3]) if event] == [3, 4]


def test_events_are_readable_before_the_spool_is_closed(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.jsonl")
    spool.append({"event": "x", "number": 1})
    assert _events(Spool(spool.path)) == [1]


def test_a_spool_torn_at_any_byte_keeps_its_whole_lines_and_goes_on(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "whole.jsonl")
    with spool:
        for number in range(3):
            spool.append({"event": "x", "number": number, "text": "ä\n"})
    whole = spool.path.read_bytes()
    for length in range(1, len(whole)):
        path = tmp_path / "torn.jsonl"
        path.write_bytes(whole[:length])
        kept = _events(Spool(path))
        assert kept == list(range(whole[:length].count(b"\n") - 1))
        with Spool(path) as torn:
            torn.append({"event": "x", "number": 99})
        # Where only the newline was missing, the event is whole after all.
        assert _events(Spool(path)) in ([*kept, 99], [*kept, len(kept), 99])


def test_lines_that_are_not_events_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "spool.jsonl"
    path.write_bytes(b'[1]\n\xff\n{"event": 3}\n{"event": "x", "number": 1}\n')
    assert [event is None for _, event in Spool(path).read()] == [True, True, True, False]

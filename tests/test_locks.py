from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from bort.errors import RecordError
from bort.locks import exclusive


def _hold(path: Path, ready: object, release: object) -> None:
    with exclusive(path):
        ready.set()  # type: ignore[attr-defined]
        release.wait(30)  # type: ignore[attr-defined]


def test_a_lock_is_held_by_one_process_at_a_time(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, release = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path, ready, release))
    other.start()
    try:
        assert ready.wait(60)
        with exclusive(tmp_path, wait=False) as held:
            assert not held
        release.set()
        with exclusive(tmp_path) as held:
            assert held
    finally:
        release.set()
        other.join(30)


def test_exclusive_holder_killed_is_released(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, release = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path, ready, release))
    other.start()
    assert ready.wait(60)
    with exclusive(tmp_path, wait=0.3) as held:
        assert not held
    other.kill()
    with exclusive(tmp_path, wait=30) as held:
        assert held
    other.join(30)


def test_exclusive_link_is_refused_and_its_target_kept(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("kept")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / ".lock").symlink_to(secret)
    with pytest.raises(RecordError, match="symbolic link"), exclusive(tmp_path / "folder"):
        pass
    assert secret.read_text() == "kept"

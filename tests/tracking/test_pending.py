"""Which spool a worker writes to: the first of its stage that no other worker holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from bort.tracking.pending import first_free, held


def test_workers_of_a_stage_have_a_spool_each(tmp_path: Path) -> None:
    folder = tmp_path / "search" / "tracking"
    with first_free(folder) as first, first_free(folder) as second:
        assert (first, second) == ("worker-0", "worker-1")
        # Who delivers what others have left behind keeps off a spool that is being written.
        with held(folder / "worker-0.jsonl") as free:
            assert not free


def test_a_spool_is_free_again_whatever_ended_its_worker(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the stage failed"), first_free(tmp_path):
        raise ValueError("the stage failed")
    with first_free(tmp_path) as first, first_free(tmp_path) as second:
        assert (first, second) == ("worker-0", "worker-1")
    with first_free(tmp_path) as again:
        assert again == "worker-0"

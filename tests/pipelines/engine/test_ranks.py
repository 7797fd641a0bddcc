"""The processes of a training on several devices: how they are started, told apart, and waited for."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig

from bort.errors import BortError
from pipelines.engine import ranks


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


def test_a_process_follows_if_a_launcher_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not ranks.follows()
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert ranks.follows()
    # The first process of a second machine follows, too.
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("RANK", "8")
    assert ranks.follows()


@pytest.mark.parametrize("status", [0, 3])
def test_companions_run_the_same_command_with_numbers_of_their_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: int
) -> None:
    started: list[tuple[list[str], dict[str, str]]] = []

    class Process:
        returncode = status

        def __init__(self, command: list[str], env: dict[str, str], **_: Any) -> None:
            started.append((command, env))

        def wait(self, _seconds: float | None = None) -> int:
            return status

        def kill(self) -> None:
            pass

    monkeypatch.setattr(ranks.subprocess, "Popen", Process)
    monkeypatch.setattr(HydraConfig, "get", lambda: SimpleNamespace(overrides=SimpleNamespace(task=["seed=1"])))
    before = dict(os.environ)
    ended = pytest.raises(BortError, match="2 of the 3 processes") if status else nullcontext()
    with ended, ranks.companions("distill", 3, tmp_path):
        assert os.environ["LOCAL_RANK"] == "0"
        assert not ranks.follows()
    assert dict(os.environ) == before
    assert [env["LOCAL_RANK"] for _, env in started] == [env["RANK"] for _, env in started] == ["1", "2"]
    assert len({env["MASTER_PORT"] for _, env in started}) == 1
    for command, _ in started:
        assert command[1:] == ["-m", "bort", "distill", "seed=1", f"hydra.run.dir={tmp_path}"]


def test_nothing_is_started_for_one_device_or_beside_a_launcher(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ranks.subprocess, "Popen", None)
    with ranks.companions("distill", 1, tmp_path):
        pass
    monkeypatch.setenv("LOCAL_RANK", "0")
    with ranks.companions("distill", 2, tmp_path):
        pass

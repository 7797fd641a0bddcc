"""Killed at any moment and started again, a distillation ends in the same bits; a damaged checkpoint is passed over and named."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from bort.architecture import Architecture
from bort.curve import read_curve
from bort.distillation.config import BudgetConfig, StudentConfig
from bort.distillation.distill import distill
from bort.distillation.terms import LossConfig
from tests.distillation.conftest import Listener, World, make_world

#: The demo's student.
SHAPE = Architecture(2, 4, 128, 512)
STEPS, EVERY, KILLED_AFTER = 20, 4, 11
ROOT = Path(__file__).parents[2]


def run(world: World, directory: Path, observer: Listener) -> dict:
    """A run with all that could go astray: dropout, two passes, steps in parts, an epoch's end on the way, held-out points."""
    arguments = world.arguments(
        LossConfig(masked_lm=0.5, hidden=1.0, relations=1.0, relation_heads=2), student=StudentConfig(dropout=0.1)
    )
    train = arguments["setup"].train
    train.accumulate, train.log_every, train.evaluate_every = 2, 3, 5
    return distill(SHAPE, **arguments, budget=BudgetConfig(STEPS, checkpoint_every=EVERY), directory=directory, observer=observer)


class Killer(Listener):
    """Kills the process the hard way once it has seen a step."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def progress(self, label: str, done: float, total: float, note: str = "") -> None:
        if done >= self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def state(directory: Path) -> dict[str, torch.Tensor]:
    """Weights, optimizer state and projection at the end, and the student that was written."""
    last = sorted((directory / "checkpoints").iterdir())[-1]
    return {**load_file(last), **load_file(directory / "student" / "model.safetensors")}


def assert_same_end(first: Path, second: Path) -> None:
    one, other = state(first), state(second)
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    assert (first / "curve.jsonl").read_bytes() == (second / "curve.jsonl").read_bytes()


@pytest.fixture(scope="module")
def whole(world, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    directory = tmp_path_factory.mktemp("whole")
    return directory, run(world, directory, Listener())


def test_killed_and_resumed_ends_in_the_same_bits(world, whole, tmp_path: Path, listener) -> None:
    code = (
        "import sys; from pathlib import Path; import torch; torch.set_num_threads(1)\n"
        "from tests.distillation.conftest import make_world; from tests.distillation.test_resume import Killer, run\n"
        "run(make_world(Path(sys.argv[1])), Path(sys.argv[2]), Killer(int(sys.argv[3])))"
    )
    out = tmp_path / "out"
    command = [sys.executable, "-c", code, str(tmp_path / "world"), str(out), str(KILLED_AFTER)]
    killed = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not killed.stdout
    assert not killed.stderr
    assert [path.name for path in sorted((out / "checkpoints").iterdir())] == [
        "step-000000004.safetensors",
        "step-000000008.safetensors",
    ]
    assert not (out / "student").exists()
    # Killed in the middle of writing a line.
    with (out / "curve.jsonl").open("a") as file:
        file.write('{"step": 12, "lo')
    result = run(world, out, listener)
    assert listener.steps[0] == 9
    assert listener.warnings == []
    assert_same_end(out, whole[0])
    assert result["heldout"] == whole[1]["heldout"]
    steps = [point["step"] for point in read_curve(out / "curve.jsonl") if "loss" in point]
    assert steps == [3, 6, 9, 12, 15, 18, 20]
    assert [point["step"] for point in read_curve(out / "curve.jsonl") if "heldout_relation_kl" in point] == [5, 10, 15, 20]


class Stopped(Exception):
    """Stands for anything that ends a run from within."""


class Interrupter(Listener):
    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def progress(self, label: str, done: float, total: float, note: str = "") -> None:
        if done >= self.step:
            raise Stopped


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(world, whole, tmp_path: Path, listener, damage: str) -> None:
    with pytest.raises(Stopped):
        run(world, tmp_path, Interrupter(13))
    newest = sorted((tmp_path / "checkpoints").iterdir())[-1]
    assert newest.name == "step-000000012.safetensors"
    content = bytearray(newest.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "flipped":
        content[-5] ^= 1
    else:
        content = bytearray()
    newest.write_bytes(content)
    run(world, tmp_path, listener)
    assert listener.steps[0] == 9
    assert len(listener.warnings) == 1
    assert "step-000000012" in listener.warnings[0]
    assert "going on from step 8" in listener.warnings[0]
    assert_same_end(tmp_path, whole[0])


def test_with_every_checkpoint_damaged_it_starts_from_the_beginning(world, whole, tmp_path: Path, listener) -> None:
    with pytest.raises(Stopped):
        run(world, tmp_path, Interrupter(9))
    for path in (tmp_path / "checkpoints").iterdir():
        path.write_bytes(b"nothing")
    run(world, tmp_path, listener)
    assert listener.steps[0] == 1
    assert len(listener.warnings) == 2
    assert "from the beginning" in listener.warnings[1]
    assert_same_end(tmp_path, whole[0])


def test_the_last_two_checkpoints_are_kept_and_hold_no_code(whole) -> None:
    directory = whole[0]
    paths = sorted((directory / "checkpoints").iterdir())
    assert [path.name for path in paths] == ["step-000000016.safetensors", "step-000000020.safetensors"]
    with safe_open(paths[-1], framework="pt") as file:
        assert set(file.metadata()) == {"schema", "fingerprint", "checksum", "state"}


def test_ctrl_c_reaches_the_caller(world, tmp_path: Path) -> None:
    class Impatient(Listener):
        def progress(self, label: str, done: float, total: float, note: str = "") -> None:
            raise KeyboardInterrupt

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(world, tmp_path, Impatient())
    assert signal.getsignal(signal.SIGINT) is handler


def test_the_same_world_is_made_anew(world, tmp_path: Path) -> None:
    """What the killed process above relies on."""
    other = make_world(tmp_path)
    assert other.teacher.digest == world.teacher.digest
    assert other.representation.digest == world.representation.digest

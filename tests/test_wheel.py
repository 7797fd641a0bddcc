"""The wheel in a fresh environment: its commands work in any folder, also beside a user's own `conf` and `pipelines`."""

from __future__ import annotations

import csv
import os
import random
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import venv
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.request import urlopen

import pytest

import bort
from bort.files import read_json

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 600
#: Few steps on one seed and one repeat; two workers, so that the chain starts a process of its own.
CHAIN = [
    "corpus.block_length=32",
    "corpus.heldout=0.2",
    "targets.blocks=64",
    "targets.heldout_blocks=8",
    "search_space.depth=[1,2]",
    "search_space.heads=[2]",
    "search_space.hidden=[8]",
    "search_space.intermediate=[16]",
    "loss=relations",
    "loss.relation_heads=2",
    "error.steps=4",
    "error.rungs=2",
    "error.measure=relation_kl",
    "train.batch_size=4",
    "train.warmup_steps=1",
    "budget.steps=4",
    "distill.twin=false",
    "task=custom",
    "task.text=text",
    "task.label=label",
    "finetuning.seeds=[0]",
    "finetuning.epochs=1",
    "finetuning.trials=1",
    "benchmark.repeats=2",
    "benchmark.warmup=0",
    "benchmark.resamples=100",
    "benchmark.sequence_length=[16]",
    "impl.workers=2",
    "name=tiny",
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the commands of a fresh environment with the wheel; its dependencies are those of this environment."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder)
    python = folder / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", "--quiet", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    (library,) = folder.glob("lib/python*/site-packages")
    # Only the folder's packages: what its own .pth files add, an editable bort among them, stays out of sight.
    (library / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python.parent


@pytest.fixture(params=["empty", "with packages of the user's own"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path if request.param == "empty" else own_packages(tmp_path)


def own_packages(folder: Path) -> Path:
    """Put packages into a folder that fail when they are taken for those of bort."""
    for name in ("conf", "pipelines"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(f'raise ImportError("the user\'s own {name}")\n')
        (folder / name / "base.yaml").write_text("name: 1\n")
    return folder


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "BORT", "COV"))}
    return kept | {"OMP_NUM_THREADS": "1", "COLUMNS": "160", "HF_HUB_OFFLINE": "1"}


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def serving(command: list[str], folder: Path) -> Iterator[str]:
    """Start a server on a free port; yield its address as soon as it answers, and end it as Ctrl-C would."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with (folder / "server.log").open("wb") as log:
        started = subprocess.Popen([*command, "--port", str(port)], cwd=folder, env=environment(), stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}/"
    try:
        until = time.monotonic() + SECONDS
        while time.monotonic() < until and started.poll() is None:
            with suppress(OSError), urlopen(address, timeout=10):
                break
            time.sleep(0.2)
        assert started.poll() is None, (folder / "server.log").read_text()
        yield address
    finally:
        started.send_signal(signal.SIGTERM)
        started.wait(60)


def test_the_wheel_installs_one_name(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names} == {"bort", f"bort-{bort.__version__}.dist-info"}
    shipped = {name.removeprefix("bort/") for name in names}
    for source, target in ((ROOT / "bort", ""), (ROOT / "pipelines", "_pipelines/"), (ROOT / "conf", "conf/")):
        files = [path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        assert {target + path.relative_to(source).as_posix() for path in files} <= shipped
    assert not [name for name in names if "__pycache__" in name]


def test_the_commands_that_need_no_training(installed: Path, folder: Path) -> None:
    found = run([str(installed / "python"), "-c", "import bort; print(bort.__file__)"], folder)
    assert Path(found.strip()).is_relative_to(installed.parent)
    for start in ([str(installed / "bort")], [str(installed / "python"), "-m", "bort"]):
        assert "usage: bort" in run([*start, "--help"], folder)
        assert run([*start, "--version"], folder).strip() == bort.__version__
    assert "BERT-large" in run([str(installed / "bort"), "size", "bert-large"], folder)
    run([str(installed / "bort"), "search", "error=bortbench", "search_space=bortbench", "strategy=bound"], folder)
    (result,) = folder.glob("outputs/*/*/search/result.json")
    assert read_json(result)["winner"]["name"]


def test_a_sweep_runs_its_jobs(installed: Path, tmp_path: Path) -> None:
    overrides = ["error=proxy", "strategy=random", "strategy.trials=1", "tracking=off", "seed=1,2"]
    run([str(installed / "bort"), "search", "-m", *overrides], own_packages(tmp_path))
    assert len(list(tmp_path.glob("outputs/default/*/search/result.json"))) == 2


def test_the_chain_and_its_servers(
    installed: Path, tmp_path: Path, tiny_documents: list[str], tiny_teacher_directory: Path
) -> None:
    own_packages(tmp_path)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "page.txt").write_text("\n\n".join(tiny_documents[:40]) + "\n")
    draw = random.Random(0)
    words = " ".join(tiny_documents).split()
    with (tmp_path / "task.csv").open("w", newline="") as file:
        rows = [(" ".join(draw.choices(words, k=6)), ("yes", "no")[number % 2]) for number in range(60)]
        csv.writer(file).writerows([("text", "label"), *rows])
    given = [f"teacher={tiny_teacher_directory}", "corpus=./texts", "task.train=task.csv", *CHAIN]
    run([str(installed / "bort"), "reproduce", *given], tmp_path)
    (result,) = tmp_path.glob("outputs/tiny/*/result.json")
    assert {"winner", "student", "task", "export", "latency"} <= read_json(result).keys()
    (log,) = tmp_path.glob("outputs/tiny/*/search/worker-1.log")
    assert "Error" not in log.read_text()
    with serving([str(installed / "bort"), "ui"], tmp_path) as address:
        assert urlopen(address, timeout=10).status == 200

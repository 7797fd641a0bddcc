"""Sweeps: numbering, folders and tracked runs come out right whatever launches the jobs, and a failed one stands alone."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from bort.errors import BortError
from bort.files import read_json
from pipelines.app import sweeps
from pipelines.app.environment import CONF
from pipelines.app.main import entry
from pipelines.app.messages import sentence

#: 32 shapes: a stride of 16 takes two of them, and one of 99 cannot be.
OVERRIDES = ["error=proxy", "search_space=demo", "name=swept", "outputs=out"]
SECONDS = 400

launchers = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("joblib", "submitit")),
    reason="the launchers are not installed: pip install 'bort[launchers]'",
)


def folder(tmp_path: Path, *named: str) -> Path:
    """Returns where the search of a job lies, found by what its folder's name has to hold."""
    found = [path for path in (tmp_path / "out" / "swept").glob("*/search") if all(name in path.parent.name for name in named)]
    assert len(found) == 1, found
    return found[0]


def sweep(tmp_path: Path, *overrides: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipelines", "search", "-m", *OVERRIDES, *overrides]
    environment = {**os.environ, "PYTHONPATH": str(CONF.parent), "OMP_NUM_THREADS": "1", "COLUMNS": "160"}
    environment["PATH"] = os.pathsep.join([*([str(path)] if path else []), environment["PATH"]])
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=SECONDS)


def runs(database: Path) -> list[tuple[str, str, int]]:
    """Returns every tracked search with the digest of its key and the number of runs below it."""
    import sqlite3

    with sqlite3.connect(database) as connection:
        rows = connection.execute(
            "SELECT r.run_uuid, r.name, p.value FROM runs r "
            "LEFT JOIN tags p ON p.run_uuid = r.run_uuid AND p.key = 'mlflow.parentRunId'"
        ).fetchall()
    top = [(identifier, name) for identifier, name, parent in rows if parent is None]
    return sorted((name, identifier, sum(parent == identifier for _, _, parent in rows)) for identifier, name in top)


def test_one_failed_job_neither_ends_nor_hides_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def run() -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["bort search", "-m", *OVERRIDES, "tracking=off", "seed=1,2", "strategy.stride=99,16"])
        with pytest.raises(SystemExit) as ended:
            entry("search")()
        return int(ended.value.code or 0), capsys.readouterr().err

    status, told = run()
    assert status == 1
    assert "bort: 2 of the 4 jobs of the sweep failed. The same command does what is missing." in told
    lines = [line for line in told.splitlines() if re.match(r"  job \d", line)]
    assert [line.split()[1] for line in lines] == ["0", "2"], "numbered in the order of the sweep"
    for seed, line in zip("12", lines, strict=True):
        assert f"seed={seed} strategy.stride=99" in line
        assert "strategy.stride=99 is invalid: must be an integer in [1, 32]" in line
    done = [folder(tmp_path, f"seed-{seed}", "stride-16") for seed in "12"]
    assert [read_json(path / "result.json")["winner"]["name"] is not None for path in done] == [True, True]
    # Given again, only what is missing is done.
    before = [(path / "manifest.json").stat().st_mtime_ns for path in done]
    status, told = run()
    assert status == 1
    assert "2 of the 4 jobs" in told
    assert [(path / "manifest.json").stat().st_mtime_ns for path in done] == before
    assert not (tmp_path / "out" / "swept" / ".sweeps").exists()
    assert sweeps.FOLDER not in os.environ


@pytest.mark.slow
@launchers
def test_joblib_runs_jobs_side_by_side_and_tracks_each(tmp_path: Path) -> None:
    overrides = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "strategy.stride=16,20,99"]
    done = sweep(tmp_path, *overrides)
    assert done.returncode == 1, done.stderr
    assert "1 of the 3 jobs of the sweep failed" in done.stderr
    assert re.search(r"^  job 2.*strategy.stride=99 is invalid", done.stderr, flags=re.MULTILINE)
    results = [read_json(folder(tmp_path, f"stride-{stride}") / "result.json") for stride in (16, 20)]
    assert {len(result["candidates"]) for result in results} == {2}
    # Each search is one tracked run with its two candidates below it.
    tracked = runs(tmp_path / "out" / "mlflow.db")
    names = [f"strategy.stride={stride} · swept search" for stride in (16, 20)]
    assert sorted((name, below) for name, _, below in tracked) == [(name, 2) for name in names]
    again = sweep(tmp_path, *overrides)
    assert again.returncode == 1
    assert runs(tmp_path / "out" / "mlflow.db") == tracked, "what is done is not done or recorded again"


@pytest.mark.slow
@launchers
def test_submitit_local_runs_each_job_in_its_folder(tmp_path: Path) -> None:
    done = sweep(tmp_path, "hydra/launcher=submitit_local", "tracking=off", "strategy.stride=16,99")
    assert done.returncode == 1, done.stderr
    assert re.search(r"^  job 1 .*strategy.stride=99 is invalid", done.stderr, flags=re.MULTILINE), done.stderr
    assert len(read_json(folder(tmp_path, "stride-16") / "result.json")["candidates"]) == 2


#: Stands for SLURM: runs every task of an array at once, here, with what Slurm tells a job.
SBATCH = """#!{python}
import os, re, subprocess, sys
script = open(sys.argv[-1]).read()
open("sbatch.txt", "w").write(script)
tasks = int(re.search(r"--array=0-(\\d+)", script).group(1)) + 1
output = re.search(r"--output=(\\S+)", script).group(1)
for task in range(tasks):
    told = {{"SLURM_JOB_ID": str(100 + task), "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": str(task), "SLURM_PROCID": "0",
             "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_NTASKS": "1", "SLURM_JOB_NUM_NODES": "1", "SLURM_NNODES": "1",
             "SLURM_JOB_NODELIST": "localhost"}}
    subprocess.Popen(["bash", sys.argv[-1]], env={{**os.environ, **told}}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print("Submitted batch job 7")
"""
SRUN = """#!/bin/bash
while [[ $1 == -* ]]; do
  if [[ $1 == --output || $1 == --error ]]; then shift; fi
  shift
done
exec "$@"
"""


@pytest.mark.slow
@launchers
def test_slurm_gets_an_array_of_what_was_asked_for(tmp_path: Path) -> None:
    commands = {"sbatch": SBATCH.format(python=sys.executable), "srun": SRUN, "sacct": "#!/bin/bash\necho 'JobID|State'\n"}
    for name, text in commands.items():
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    resources = ["partition=gpu", "gpus_per_node=1", "cpus_per_task=8", "mem_gb=32", "timeout_min=240", "array_parallelism=16"]
    overrides = ["hydra/launcher=submitit_slurm", *(f"hydra.launcher.{item}" for item in resources)]
    done = sweep(tmp_path, "tracking=off", "strategy.stride=16,99", *overrides, path=tmp_path / "bin")
    script = (tmp_path / "sbatch.txt").read_text()
    for line in (
        "--array=0-1%2", "--partition=gpu", "--gpus-per-node=1", "--cpus-per-task=8", "--mem=32GB", "--time=240",
    ):  # fmt: skip
        assert f"#SBATCH {line}\n" in script, script
    assert done.returncode == 1, done.stderr
    assert re.search(r"^  job 1 .*strategy.stride=99 is invalid", done.stderr, flags=re.MULTILINE), done.stderr
    assert len(read_json(folder(tmp_path, "stride-16") / "result.json")["candidates"]) == 2


@launchers
@pytest.mark.parametrize("name", ["joblib", "submitit_local", "submitit_slurm"])
def test_launchers_compose(name: str) -> None:
    from hydra import compose, initialize_config_dir

    from pipelines.app.overrides import register_resolvers
    from pipelines.engine.schema import register_schema

    register_schema()
    register_resolvers()
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        composed = compose("search", overrides=[f"hydra/launcher={name}"], return_hydra_config=True)
    assert name.partition("_")[0] in composed.hydra.launcher._target_


def test_a_launcher_that_is_not_installed_is_told_with_its_extra() -> None:
    told = sentence(Exception("In 'search': Could not find 'hydra/launcher/submitit_slurm'"))
    assert told == (
        "hydra/launcher=submitit_slurm is not at hand; joblib, submitit_local and submitit_slurm need the extra bort[launchers]."
    )


@pytest.fixture
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs one job as a launcher does, with a script in the place of Python, and returns what word it left."""
    (tmp_path / "words").mkdir()
    (tmp_path / "job").mkdir()
    monkeypatch.setenv(sweeps.FOLDER, str(tmp_path / "words"))
    config = SimpleNamespace(
        mode=RunMode.MULTIRUN,
        job=SimpleNamespace(num=3),
        overrides=SimpleNamespace(task=["seed=1", "storage.url=postgresql://me:planted@host/db"]),
        runtime=SimpleNamespace(output_dir=str(tmp_path / "job")),
        sweep=SimpleNamespace(dir=str(tmp_path)),
        launcher=SimpleNamespace(_target_="somewhere.OtherLauncher"),
    )
    monkeypatch.setattr(HydraConfig, "get", lambda: config)

    def run(script: str) -> dict[str, Any]:
        (tmp_path / "python").write_text(f"#!/bin/bash\n{script}\n")
        (tmp_path / "python").chmod(0o755)
        monkeypatch.setattr(sweeps.sys, "executable", str(tmp_path / "python"))
        sweeps.Job("search", lambda _: None, str)({})  # type: ignore[arg-type]
        word: dict[str, Any] = read_json(tmp_path / "words" / "3.json")
        return word

    return run


@pytest.mark.parametrize(
    ("script", "failure"),
    [
        ("exit 0", ""),
        ("kill -9 $$", "it was killed by signal 9"),
        ("exit 130", "it was interrupted"),
        ("echo 'bort: seed=x is wrong.'; echo 'bort: this was not foreseen; …'; exit 1", "seed=x is wrong."),
    ],
)
def test_how_a_job_ended_is_known(apart: Any, script: str, failure: str) -> None:
    word = apart(script)
    assert word["failure"] == failure
    assert word["overrides"] == "seed=1 storage.url=postgresql://me:***@host/db"


def test_a_job_that_left_no_word_was_killed(apart: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    apart(
        'cp words/3.json words/4.json; sed -i \'s/"number": 3/"number": 4/\' words/4.json'.replace("words", str(tmp_path / "words"))
    )
    assert sweeps.tell_of_sweep()
    told = capsys.readouterr().err
    assert "1 of the 2 jobs of the sweep failed" in told
    assert re.search(r"^  job 4 .*: it was killed$", told, flags=re.MULTILINE)
    assert not sweeps.tell_of_sweep(), "told once"


def test_a_job_that_cannot_leave_word_fails_loudly(apart: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(sweeps.FOLDER)
    with pytest.raises(BortError, match="it was killed by signal 9"):
        apart("kill -9 $$")


def test_the_command_of_a_job_names_its_folder(apart: Any, tmp_path: Path) -> None:
    apart('printf "%s\\n" "$@" > ' + str(tmp_path / "arguments"))
    arguments = (tmp_path / "arguments").read_text().splitlines()
    assert arguments[:4] == ["-m", "bort", "search", "seed=1"]
    assert arguments[-1] == f"hydra.run.dir={tmp_path / 'job'}"


def test_passwords_are_struck_out_of_what_hydra_keeps_of_a_sweep(tmp_path: Path) -> None:
    (tmp_path / "multirun.yaml").write_text(json.dumps({"storage": {"url": "postgresql://me:planted@host/db"}, "seed": 1}))
    sweeps._redact_sweep(tmp_path)
    assert json.loads((tmp_path / "multirun.yaml").read_text()) == {"storage": {"url": "postgresql://me:***@host/db"}, "seed": 1}

"""No configuration from elsewhere makes Hydra call code, write files or unpickle, however it spells it."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.types import RunMode
from omegaconf import DictConfig

from bort.errors import ConfigurationError
from pipelines.app.composition import GuardedLoader
from pipelines.app.environment import CONF
from pipelines.app.overrides import register_resolvers
from pipelines.engine.schema import register_schema
from tests.pipelines.app.test_sweeps import launchers
from tests.pipelines.test_composition import run

CANARY = "canary"
TARGET = "{_tar${oc.env:NONE,get_}: logging.FileHandler, filename: canary}"
LOGGING = """version: 1
root: {level: INFO, handlers: [file]}
handlers: {file: {class: logging.FileHandler, filename: canary}}
"""
#: A file of the user's folder, its content, and the command line that chooses it.
ATTACKS = {
    "callback-from-resolvers": (
        "experiment/x",
        f"# @package _global_\nhydra: {{callbacks: {{x: '${{oc.decode:\"{TARGET}\"}}'}}}}\n",
        ["experiment=x"],
    ),
    "callbacks-from-a-package": ("task/x", f"# @package hydra.callbacks\nx: '${{oc.decode:\"{TARGET}\"}}'\n", ["task=x"]),
    "argument-of-the-shipped-callback": (
        "experiment/x",
        f"# @package _global_\nhydra: {{callbacks: {{sweep: {{x: '${{oc.decode:\"{TARGET}\"}}'}}}}}}\n",
        ["experiment=x"],
    ),
    "hydra-logging-file": ("hydra/hydra_logging/x", LOGGING, ["hydra/hydra_logging=x"]),
    "job-logging-file": ("hydra/job_logging/x", LOGGING, ["hydra/job_logging=x"]),
    "job-logging-from-defaults": (
        "experiment/x",
        "# @package _global_\ndefaults: [{override /hydra/job_logging: default}]\n"
        "hydra: {job_logging: {handlers: {file: {filename: canary}}}}\n",
        ["experiment=x"],
    ),
    "job-of-a-sweep": (
        "experiment/x",
        "# @package _global_\ndefaults: [{override /hydra/job_logging: default}]\n"
        "hydra: {job_logging: {handlers: {file: {filename: canary}}}}\n",
        ["-m", "experiment=x,demo"],
    ),
    "sweep-parameters": (
        "experiment/x",
        f"# @package _global_\nhydra: {{sweeper: {{params: {{x: '${{oc.decode:\"{TARGET}\"}}'}}}}}}\n",
        ["-m", "experiment=x"],
    ),
    "sweep-of-hydra": (
        "experiment/x",
        "# @package _global_\nhydra: {sweeper: {params: {hydra/job_logging: 'default,none'}}}\n",
        ["-m", "experiment=x"],
    ),
    "launcher-command": (
        "experiment/x",
        "# @package _global_\nhydra: {launcher: {setup: [touch canary]}}\n",
        ["-m", "experiment=x", "hydra/launcher=submitit_slurm"],
    ),
    "environment": ("experiment/x", "# @package _global_\nhydra: {job: {env_set: {PYTHONPATH: .}}}\n", ["experiment=x"]),
}


def place(folder: Path, name: str, content: str) -> Path:
    path = folder / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return folder


@pytest.fixture
def load() -> Callable[..., DictConfig]:
    register_schema()
    register_resolvers()

    def load(*overrides: str, folder: Path | None = None) -> DictConfig:
        path = create_config_search_path(str(CONF))
        if folder is not None:
            path.prepend("command-line", f"file://{folder}", SearchPathQuery(provider="schema", path=None))
        mode = RunMode.MULTIRUN if "-m" in overrides else RunMode.RUN
        return GuardedLoader(path).load_configuration("search", [item for item in overrides if item != "-m"], mode)

    return load


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_file_from_elsewhere_has_no_effect(attack: str, tmp_path: Path) -> None:
    name, content, arguments = ATTACKS[attack]
    place(tmp_path / "theirs", name, content)
    done = run("report", "--config-dir", "theirs", *arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert not list(tmp_path.rglob(f"{CANARY}*"))
    assert "bort: hydra" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("attack", sorted({*ATTACKS} - {"job-of-a-sweep", "launcher-command"}))
def test_a_file_from_elsewhere_is_refused(attack: str, tmp_path: Path, load: Callable[..., DictConfig]) -> None:
    name, content, arguments = ATTACKS[attack]
    with pytest.raises(ConfigurationError) as caught:
        load(*arguments, folder=place(tmp_path, name, content))
    assert caught.value.key.startswith("hydra")


@pytest.mark.slow
def test_no_pickle_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.pickle").write_bytes(pickle.dumps(Canary()))
    done = run("report", "--experimental-rerun", "x.pickle", cwd=tmp_path)
    assert done.returncode == 1
    assert not (tmp_path / CANARY).exists()


class Canary:
    """Writes a file when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.mkdir, (CANARY,)


@pytest.mark.parametrize(
    "override",
    [
        "+hydra.callbacks.x=1",
        "~hydra.callbacks.sweep",
        "hydra/sweeper=basic",
        "+hydra.launcher.x=${oc.decode:x}",
        "+hydra.launcher.x={a: ${name}}",
        "hydra.searchpath=[pkg://tests]",
        "+task@hydra.callbacks.x=custom",
        "hydra/launcher@hydra.callbacks.x=basic",
    ],
)
def test_a_command_line_names_no_code(override: str, load: Callable[..., DictConfig]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(override)
    assert caught.value.key.startswith("hydra")


@pytest.mark.parametrize(
    "overrides",
    [
        ["hydra.run.dir=x", "hydra.verbose=true", "hydra.job.name=x", "+hydra.job.env_set.X=1", "hydra/job_logging=stdout"],
        ["-m", "experiment=kd_vs_mlm", "hydra.sweep.dir=x"],
        ["hydra/job_logging=default", "hydra.job_logging.root.level=DEBUG"],
    ],
)
def test_what_bort_offers_composes(overrides: list[str], load: Callable[..., DictConfig]) -> None:
    assert load(*overrides).hydra.callbacks.keys() == {"sweep"}


@launchers
@pytest.mark.parametrize("name", ["joblib", "submitit_local", "submitit_slurm"])
def test_launchers_are_set_on_the_command_line(name: str, load: Callable[..., DictConfig]) -> None:
    setting = "hydra.launcher.n_jobs=2" if name == "joblib" else "hydra.launcher.mem_gb=2"
    extra = ["hydra.launcher.setup=[module load cuda]"] if name == "submitit_slurm" else []
    composed = load("-m", "seed=1,2", f"hydra/launcher={name}", setting, *extra)
    assert composed.hydra.launcher[setting.split(".")[2].split("=")[0]] == 2


def test_an_experiment_of_ones_own_names_folders_and_sweeps(tmp_path: Path, load: Callable[..., DictConfig]) -> None:
    content = "# @package _global_\nname: mine\nhydra: {run: {dir: '${outputs}/x'}, sweeper: {params: {seed: '0,1'}}}\n"
    composed = load("experiment=mine", folder=place(tmp_path, "experiment/mine", content))
    assert composed.hydra.sweeper.params == {"seed": "0,1"}

"""Nobody's command line and nobody's configuration makes Bort call code that is not its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from bort.errors import BortError, ConfigurationError
from pipelines.app.guard import refuse_code
from tests.pipelines.test_composition import run

CALLED = "_target_: os.mkdir\npath: owned\n"


@pytest.mark.parametrize(
    "argument",
    [
        "+hydra.callbacks.mine._target_=os.system",
        "hydra.launcher._target_=os.system",
        "++task._target_=os.system",
        "+task.labels={_target_:os.system}",
        "hydra.job_logging.handlers.console.class=os.system",
        "+hydra.job_logging.handlers.mine={'()':os.system}",
        "hydra.searchpath=[file:///tmp/theirs]",
        "+hydra.searchpath=[pkg://theirs]",
    ],
)
def test_an_override_that_names_code_is_refused(argument: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        refuse_code(["experiment=demo", argument])
    assert caught.value.key == argument.partition("=")[0]


@pytest.mark.parametrize(
    "option", [["--config-dir", "{}"], ["--config-dir={}"], ["-cd", "{}"], ["--config-d", "{}"], ["-cd={}", "-m", "seed=1"]]
)
@pytest.mark.parametrize(
    "content",
    [
        CALLED,
        "hydra:\n  callbacks:\n    mine:\n      " + CALLED.replace("\n", "\n      "),
        '"\\x5ftarget_": os.mkdir\n',
        "hydra:\n  searchpath: [file:///tmp]\n",
        "hydra:\n  job_logging:\n    formatters:\n      a: {class: os.mkdir}\n",
        "a: [{b: {(): os.mkdir}}]\n",
        "a: &a [*a, {b: *a, _target_: os.mkdir}]\n",
    ],
)
def test_a_configuration_from_elsewhere_that_names_code_is_refused(option: list[str], content: str, tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "theirs.yaml").write_text(content, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"theirs\.yaml is invalid: must be a setting that names no class"):
        refuse_code([word.format(tmp_path) for word in option])


def test_other_configurations_and_overrides_pass(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("task: {name: mine, label: class}\n", encoding="utf-8")
    refuse_code(["task.label=class", "hydra.job_logging.root.level=INFO", "--config-dir", str(tmp_path), "-m", "seed=1,2"])
    (tmp_path / "broken.yaml").write_text("a: [\n", encoding="utf-8")
    with pytest.raises(BortError, match=r"broken\.yaml cannot be read as YAML"):
        refuse_code(["-cd", str(tmp_path)])


@pytest.mark.parametrize(
    "option",
    [["--experimental-rerun", "x"], ["--exp=x"], ["-cp", "x"], ["--config-path=x"], ["-cn", "x"], ["seed=1", "--config-n=x"]],
)
def test_an_option_of_hydra_that_bort_does_not_offer_is_refused(option: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="Bort does not offer this option") as caught:
        refuse_code(option)
    assert caught.value.value == "x"


@pytest.mark.slow
def test_no_code_is_called_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "theirs" / "experiment").mkdir(parents=True)
    (tmp_path / "theirs" / "experiment" / "x.yaml").write_text(
        "# @package _global_\nhydra:\n  callbacks:\n    mine:\n      _target_: os.mkdir\n      path: owned\n", encoding="utf-8"
    )
    for arguments in (["+hydra.callbacks.mine._target_=os.mkdir"], ["--config-dir", "theirs", "experiment=x"]):
        done = run("search", *arguments, cwd=tmp_path)
        assert done.returncode == 1
        assert "hydra.callbacks.mine._target_" in done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "owned").exists()

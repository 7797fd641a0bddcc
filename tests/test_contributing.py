"""CONTRIBUTING's examples of new choices: executed as a plugin, in the contract suites and from the command line."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bort.files import read_json
from bort.observer import Quiet
from bort.quantities import LATENCIES, ErrorInputs, LatencyInputs
from bort.search.storage.config import JournalStorageConfig, MemoryStorageConfig
from bort.search.storage.status import study_status
from bort.search.strategies.config import OseConfig, replayable
from bort.search.worker import run_search
from pipelines.app.environment import CONF
from pipelines.app.overrides import register_resolvers
from pipelines.engine import schema
from tests.search import test_contract
from tests.search.choices import SPACE
from tests.search.synthetic_tables import TINY, table_problem

PAGE = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
#: The heading of each example, and the group of choices that it adds to.
SECTIONS = {"A strategy": "strategy", "An error": "error", "A latency": "latency", "A storage": "storage"}


def section(heading: str) -> tuple[str, str, str]:
    """Returns an example's code, and the name and the settings of the line that the contract suites need."""
    text = PAGE.partition(f"### {heading}\n")[2].partition("\n#")[0]
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    line = re.search(r'The line of the test: `"(\w+)": (.+)`\.', text)
    assert code
    assert line
    return code[1], line[1], line[2]


@pytest.fixture(scope="module", autouse=True)
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """A package of the four examples, installed with its entry points, until the end of this module."""
    folder = tmp_path_factory.mktemp("site-packages")
    (folder / "my_package").mkdir()
    (folder / "my_package" / "__init__.py").touch()
    points = re.search(r'```toml\n\[project.entry-points."(.+)"\]\n(\w+) = "my_package\.\w+"\n```', PAGE)
    assert points
    lines = [f"[{points[1]}]"]
    for heading, group in SECTIONS.items():
        (folder / "my_package" / f"my_{group}.py").write_text(section(heading)[0])
        lines.append(f"{points[2]}_{group} = my_package.my_{group}")
    installed = folder / "my_package-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("\n".join(lines) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        for registry in schema.REGISTRIES:
            patch.setattr(registry, "_kinds", dict(registry._kinds))
        schema.register_schema()
        yield importlib.import_module("my_package")
        for name in [name for name in sys.modules if name.partition(".")[0] == "my_package"]:
            del sys.modules[name]


def settings(heading: str) -> Any:
    """Returns what an example's test line says, after the example's own names."""
    _, name, expression = section(heading)
    found = eval(expression, vars(importlib.import_module(f"my_package.my_{SECTIONS[heading]}")))
    registry = next(registry for registry in schema.REGISTRIES if registry.group == SECTIONS[heading])
    assert name in registry
    return found


@pytest.mark.parametrize("heading", SECTIONS)
def test_an_example_has_at_most_40_lines(heading: str) -> None:
    assert len(section(heading)[0].splitlines()) <= 40


def test_the_strategy_meets_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(test_contract.STRATEGIES, "lightest", settings("A strategy"))
    problem = table_problem(tmp_path, TINY, "noisy")
    test_contract.test_the_contract(tmp_path, problem, "lightest", JournalStorageConfig())
    test_contract.test_every_theta_is_tried(tmp_path, "lightest")
    assert "lightest" in replayable()


def test_the_error_meets_the_contract(tmp_path: Path) -> None:
    make = settings("An error")
    estimator, other = (make(tmp_path, seed).build(ErrorInputs(list(SPACE))) for seed in (3, 4))
    assert estimator.fingerprint != other.fingerprint
    assert all(estimator.evaluate(shape, {}, 0, tmp_path, Quiet()).error > 0 for shape in SPACE)
    problem = replace(table_problem(tmp_path, TINY), estimator=estimator)
    result = run_search(problem, OseConfig(), storage=MemoryStorageConfig(), directory=tmp_path)
    assert result["error"]["estimator"] == "bottleneck"


def test_the_latency_is_built_from_its_settings() -> None:
    config = settings("A latency")
    assert isinstance(config, LATENCIES["layers"])
    latency = config.build(LatencyInputs(list(SPACE)))
    assert all(latency.of(shape) > 0.1 * shape.depth for shape in SPACE)


def test_the_storage_keeps_a_study_that_is_resumed(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    storage, problem = settings("A storage")(request, "one"), table_problem(tmp_path, TINY)
    result = run_search(problem, OseConfig(stride=3), storage=storage, directory=tmp_path)
    assert run_search(problem, OseConfig(stride=3), storage=storage, directory=tmp_path) == result
    assert study_status(storage, tmp_path).candidates["complete"] == 8


def test_the_command_line_knows_all_four(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.app.main import entry

    space = ["depth=[1,2]", "heads=[2]", "hidden=[8,16]", "intermediate=[16]", "maximum_point=6-4-64-256"]
    choices = ["strategy=lightest", "strategy.trials=3", "error=bottleneck", "latency=layers", "storage=plain"]
    arguments = [*choices, *(f"search_space.{item}" for item in space), "tracking=off", f"hydra.run.dir={tmp_path}/search"]
    monkeypatch.setattr(sys, "argv", ["bort search", *arguments])
    monkeypatch.chdir(tmp_path)
    entry("search")()
    result = read_json(tmp_path / "search" / "result.json")
    assert result["strategy"] == {"name": "lightest", "trials": 3, "seed": 0}
    assert result["error"]["estimator"] == "bottleneck"
    assert (result["latency"]["name"], result["latency"]["unit"]) == ("layers", "ms")
    assert len(result["candidates"]) == 3
    assert (tmp_path / "search" / "plain.journal").exists()


# Here the class is a plugin's, whose name is registered as a choice too.
@pytest.mark.filterwarnings("ignore:.*schema with the same name")
def test_the_yaml_file_is_composed(tmp_path: Path) -> None:
    from hydra import compose, initialize_config_dir

    yaml = re.search(r"`conf/strategy/lightest\.yaml`.*?```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert yaml
    (tmp_path / "strategy").mkdir()
    (tmp_path / "strategy" / "lightest.yaml").write_text(yaml[1] + "trials: 5\n")
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        overrides = [f"hydra.searchpath=[file://{tmp_path}]", "strategy=lightest", "error=proxy", "root=."]
        composed = compose("search", overrides=overrides)
    assert asdict(schema.typed(composed).strategy) == {"name": "lightest", "trials": 5}

"""Who may know whom: the rooms of the library import only those that they are allowed to, and few of them know what is outside."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import pytest

import bort

LIBRARY = Path(bort.__file__).parent
PIPELINES = LIBRARY.parent / "pipelines"
#: The one module of the library that runs the commands: the console script.
LAUNCHER = LIBRARY / "__main__.py"
#: What every room may know: it holds no room's knowledge.
BASE = {
    "architecture",
    "candidate",
    "checkpoints",
    "curve",
    "errors",
    "files",
    "locks",
    "model_facts",
    "observer",
    "optuna_storage",
    "quantities",
    "quiet",
    "randomness",
    "record",
    "redaction",
    "registry",
    "runtime",
    "runtime_config",
    "settings",
    "statistics",
}
#: The rooms that each room may know beside itself.
MAY_KNOW: dict[str, set[str]] = {
    "search": set(),
    "corpus": set(),
    "tasks": set(),
    "measure": set(),
    "tracking": set(),
    "fetch": set(),
    "teacher": {"corpus"},
    "distillation": {"corpus", "teacher"},
    "finetuning": {"baselines", "tasks", "teacher"},
    "baselines": {"tasks", "teacher"},
    "export": {"distillation", "measure"},
    "benchmarks": {"corpus", "distillation", "export", "finetuning", "measure", "search", "tasks", "teacher"},
    "report": {"benchmarks", "measure", "search"},
}
#: Who may import what is outside; nobody in the library reads Hydra's configurations or writes to a console.
OUTSIDE: dict[str, set[str]] = {
    "mlflow": {"tracking"},
    "optuna": {"benchmarks", "search", "finetuning", "optuna_storage"},
    "lightning": {"distillation", "finetuning", "runtime"},
    "hydra": set(),
    "omegaconf": set(),
    "rich": set(),
    "pipelines": set(),
}


def room(file: Path) -> str:
    """A folder of the library, or a module beside the folders."""
    return file.relative_to(LIBRARY).parts[0].removesuffix(".py")


FILES = [file for file in sorted(LIBRARY.rglob("*.py")) if room(file) != "__init__" and file != LAUNCHER]


def nodes(file: Path) -> Iterator[ast.AST]:
    yield from ast.walk(ast.parse(file.read_text(encoding="utf-8")))


def imported(file: Path) -> Iterator[str]:
    """Every module that is imported anywhere in a file, in functions too."""
    for node in nodes(file):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = "." * node.level and resolve_name("." * node.level, ".".join(file.relative_to(LIBRARY.parent).parts[:-1]))
            module = ".".join(part for part in (package, node.module) if part)
            yield from (f"{module}.{name.name}" for name in node.names)


@pytest.mark.parametrize("name", sorted({room(file) for file in FILES}))
def test_a_room_knows_only_whom_it_may(name: str):
    # The package itself holds the version alone.
    allowed = BASE | MAY_KNOW.get(name, set()) | {name, ""}
    for file in (file for file in FILES if room(file) == name):
        for module in imported(file):
            top, _, rest = module.partition(".")
            assert top != "bort" or rest.partition(".")[0] in allowed, f"{file} imports {module}"
            assert name in OUTSIDE.get(top, {name}), f"{file} imports {module}"


def test_the_library_names_its_modules_in_full_and_the_commands_theirs_relatively():
    # The commands are `pipelines` in a clone and `bort._pipelines` in an installation.
    for file in sorted([*LIBRARY.rglob("*.py"), *PIPELINES.rglob("*.py")]):
        for node in nodes(file):
            if isinstance(node, ast.ImportFrom):
                assert not node.level or file.is_relative_to(PIPELINES), f"{file}:{node.lineno}"
                assert node.level or f"{node.module}.".partition(".")[0] != "pipelines", f"{file}:{node.lineno}"
            elif isinstance(node, ast.Import):
                assert not any(f"{name.name}.".startswith("pipelines.") for name in node.names), f"{file}:{node.lineno}"


def test_only_the_launcher_names_the_commands():
    for file in sorted(LIBRARY.rglob("*.py")):
        named = [
            node.value
            for node in nodes(file)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.match(r"(bort\._)?pipelines(\.|$)", node.value)
        ]
        assert bool(named) == (file == LAUNCHER), f"{file} names {named}"


def test_what_every_room_may_know_knows_no_room():
    for file in (file for file in FILES if room(file) in BASE):
        known = {module.split(".")[1] for module in imported(file) if module.startswith("bort.")}
        assert known <= BASE, file


def test_the_library_prints_nothing():
    for file in FILES:
        for node in nodes(file):
            called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            assert called not in ("print", "input", "exec", "eval"), f"{file}:{node.lineno}"


def modules() -> dict[str, Path]:
    """Returns every module of the library and of the commands by its dotted name."""
    roots = {"bort": LIBRARY, "pipelines": PIPELINES}
    return {
        ".".join([top, *file.relative_to(root).with_suffix("").parts]).removesuffix(".__init__"): file
        for top, root in roots.items()
        for file in root.rglob("*.py")
    }


def test_no_modules_import_each_other_in_a_circle():
    known = modules()
    graph = {
        name: {module if module in known else module.rpartition(".")[0] for module in imported(file)} & known.keys()
        for name, file in known.items()
    }
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" → ".join(reversed(error.args[1])))

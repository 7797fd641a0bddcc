"""Every command that the documentation shows is one that works: it composes, or it can be made; every link leads somewhere."""

import itertools
import re
import shlex
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
#: Commands that take words of their own instead of Hydra's overrides.
PLAIN = {"--version", "fetch", "size", "convert", "ui", "claims", "track"}


@cache
def text_of(page: Path) -> str:
    return re.sub(r"<!--.*?-->", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def commands() -> list[list[str]]:
    found = []
    for page in PAGES:
        for block in re.findall(r"^```bash\n(.*?)^```", text_of(page), flags=re.DOTALL | re.MULTILINE):
            lines = block.replace("\\\n", " ").splitlines()
            found += [words for line in lines if (words := shlex.split(line, comments=True))]
    return found


def named(first: str) -> list[list[str]]:
    return [words for words in commands() if words[0] == first]


def targets() -> dict[str, str]:
    return dict(re.findall(r"^([a-z-]+):.*## (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))


def jobs(overrides: list[str], sweep: bool) -> list[list[str]]:
    """Returns the overrides of each job: one, or every combination of a sweep's values."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    if not sweep:
        return [overrides]
    parsed = OverridesParser.create().parse_overrides(overrides)
    choices = [
        [f"{item.get_key_element()}={value}" for value in item.sweep_string_iterator()]
        if item.is_sweep_override()
        else [item.input_line or ""]
        for item in parsed
    ]
    return [list(job) for job in itertools.product(*choices)]


def test_the_readme_opens_with_the_two_commands_that_show_everything():
    first = re.search(r"```bash\n(.*?)```", text_of(ROOT / "README.md"), flags=re.DOTALL)
    assert first is not None
    assert [shlex.split(line, comments=True) for line in first.group(1).splitlines()] == [["make", "demo"], ["make", "test"]]


def test_commands_are_bort_make_or_pip():
    assert {words[0] for words in commands()} <= {"bort", "make", "pip"}


def test_pip_installs_this_package_with_extras_that_it_has():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    installed = named("pip")
    assert installed
    for words in installed:
        assert words[1] == "install"
        wanted = re.fullmatch(r"\.\[([a-z,]+)\]", words[2])
        assert wanted is not None
        assert set(wanted.group(1).split(",")) <= extras.keys()


def test_bort_commands_exist():
    from pipelines.__main__ import COMMANDS

    assert {words[1] for words in named("bort")} <= COMMANDS.keys() | {"--version"}


@pytest.mark.parametrize("words", [words for words in named("bort") if words[1] not in PLAIN], ids=" ".join)
def test_bort_commands_compose(words):
    import hydra

    from pipelines.app.environment import CONF
    from pipelines.app.overrides import expand, register_resolvers
    from pipelines.benchmark import KINDS
    from pipelines.engine.schema import register_schema, typed

    stage, *rest = words[1:]
    if stage == "benchmark" and rest and rest[0] in KINDS:
        stage, *rest = KINDS[rest[0]], *rest[1:]
    if stage == "search" and rest[0] == "status":
        rest = rest[1:]
    overrides = [word for word in rest if "=" in word]
    flags = [word for word in rest if "=" not in word]
    assert set(flags) <= {"-m", "--multirun", "--help", "--cfg", "job"}
    register_schema()
    register_resolvers()
    for job in jobs(expand(overrides), sweep=bool({"-m", "--multirun"} & set(flags))):
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            composed = hydra.compose(config_name=stage, overrides=job)
        assert typed(composed).root.startswith("outputs/")


@pytest.mark.parametrize("words", [words for words in named("bort") if words[1] == "size"], ids=" ".join)
def test_sizes_are_known(words):
    from bort.measure.sizes import size_table

    for name in words[2:]:
        assert size_table(name)["rows"]


@pytest.mark.parametrize("words", named("make"), ids=" ".join)
def test_make_targets_exist(words):
    goals = [word for word in words[1:] if "=" not in word]
    assert set(goals) <= targets().keys()


def test_what_can_be_made_says_what_it_is():
    lines = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", lines, flags=re.MULTILINE)
    assert phony is not None
    assert set(phony.group(1).split()) == targets().keys()
    assert {"demo", "test", "check", "ui", "help", "clean", "lock", "format"} <= targets().keys()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    prose = re.sub(r"^```.*?^```", "", text_of(page), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)#\s]+)", prose):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), f"{page.name} links to {target}, which is not there"


def test_the_rooms_that_the_readme_lists_are_the_ones_there_are():
    listed = set(re.findall(r"^  ([a-z]+)/", text_of(ROOT / "README.md"), flags=re.MULTILINE))
    rooms = {path.parent.name for path in (ROOT / "bort").glob("*/__init__.py")}
    assert listed == rooms


def test_the_citation_names_the_three_papers():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert {"2010.10499", "2010.08512", "2010.07990"} <= set(re.findall(r"arXiv:(\d{4}\.\d{5})", citation))


def test_the_lock_pins_every_package_by_hash_and_names_no_place():
    lock = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    pins = re.findall(r"^([a-z0-9][a-z0-9._-]*)==([^\s;\\]+)", lock, flags=re.MULTILINE)
    assert len(pins) > 100
    assert len(re.findall(r"^[a-z0-9][a-z0-9._-]*==[^\n]*\\\n    --hash=sha256:", lock, flags=re.MULTILINE)) == len(pins)
    assert not re.search(r"://|--index|--find-links|^[-/.]", lock, flags=re.MULTILINE)
    versions = dict(pins)
    assert "torch" not in versions
    assert versions["lightning"] not in ("2.6.2", "2.6.3")

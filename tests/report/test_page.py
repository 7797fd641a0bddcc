from __future__ import annotations

import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from bort.files import finite
from bort.report.page import build_report
from tests.report.example import example_result

VOID = {"meta", "link", "br", "img", "hr", "input"}


class Outline(HTMLParser):
    """Checks that tags are balanced, and gathers ids, references and texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.references: set[str] = set()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.tags[tag] += 1
        self.attributes.append((tag, named))
        if named.get("id"):
            self.ids.append(str(named["id"]))
        for key in ("aria-labelledby", "aria-describedby"):
            self.references |= set((named.get(key) or "").split())
        for key in ("href", "xlink:href"):
            if (named.get(key) or "").startswith("#"):
                self.references.add(str(named[key])[1:])
        self.references |= set(re.findall(r"url\(#([^)]+)\)", " ".join(value or "" for value in named.values())))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_report(example_result(), tmp_path_factory.mktemp("report")).parent


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return (folder / "index.html").read_text(encoding="utf-8")


def test_the_page_is_whole(page: str) -> None:
    outline = Outline(page)
    assert [name for name, count in Counter(outline.ids).items() if count > 1] == []
    assert outline.references - set(outline.ids) == set()
    assert outline.tags["h1"] == 1
    assert outline.tags["section"] == 8
    assert outline.tags["figure"] == 9
    text = " ".join(outline.words).replace("\u00a0", " ")
    for words in ("W = 0.365", "twin without teacher", "not measured yet", "make demo", "Example CPU", "D6-A12-H384-I1536"):
        assert words in text


def test_nothing_is_asked_of_the_network(page: str) -> None:
    addresses = set(re.findall(r"(?:https?:)?//[\w./-]+", re.sub(r"/\*.*?\*/|^\s*//.*$", "", page, flags=re.MULTILINE)))
    assert {address for address in addresses if "w3.org" not in address} <= {"////home/me/outputs/mlflow.db."}
    assert "default-src 'none'" in page
    for loader in ("@import", "<img", "<iframe", "<object", "src=", "fetch(", "XMLHttpRequest"):
        assert loader not in page


def test_figures_can_be_read_aloud_and_follow_the_page(page: str) -> None:
    figures = re.findall(r"<figure.*?</figure>", page, flags=re.DOTALL)
    for figure in figures:
        assert 'role="img"' in figure
        assert re.search(r"<title id=[^>]+>[^<]{10,}</title><desc id=[^>]+>[^<]{30,}</desc>", figure)
        assert "<figcaption>" in figure
        colours = set(re.findall(r"#[0-9a-f]{6}\b", figure))
        assert colours == set(), "colours that dark pages would not change"
        assert "DejaVu" not in figure
    assert any("<title>D" in figure for figure in figures), "candidates are named under the pointer"


def test_tables_can_be_sorted_by_keyboard_and_have_heads(page: str) -> None:
    outline = Outline(page)
    heads = [named for tag, named in outline.attributes if tag == "th"]
    assert all(named.get("scope") in ("col", "row") for named in heads)
    assert page.count('aria-sort="none"') == page.count('<button type="button">')
    assert outline.tags["caption"] == outline.tags["table"]
    assert page.count('data-key="') > 100


def test_figures_are_files_as_well(folder: Path) -> None:
    names = {path.name for path in (folder / "figures").iterdir()}
    assert {"why.svg", "why.png", "front.svg", "rungs.svg", "cost.svg", "sensitivity.svg", "curves.svg", "task.png"} <= names
    for path in (folder / "figures").glob("*.svg"):
        assert "prefers-color-scheme: dark" in path.read_text()
    for path in (folder / "figures").glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")


def test_the_same_result_makes_the_same_page(folder: Path, tmp_path: Path) -> None:
    stored = json.loads(json.dumps(finite(example_result())))
    again = build_report(stored, tmp_path).parent
    for path in (folder / "index.html", *(folder / "figures").iterdir()):
        assert (again / path.relative_to(folder)).read_bytes() == path.read_bytes()


def test_text_of_a_result_is_never_markup_and_passwords_never_shown(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>\"'&"
    result = example_result()
    result["name"] = result["teacher"]["name"] = result["corpus"]["name"] = evil
    result["commands"] = [evil]
    result["distill"]["architecture"] = result["distill"]["twin"]["architecture"] = evil
    result["benchmark"]["models"]["student"]["architecture"] = evil
    result["benchmark"]["environment"]["processor"] = evil
    result["finetune"]["task"]["name"] = evil
    result["search"]["candidates"][0]["name"] = evil
    result["mlflow"]["store"] = "postgresql://me:planted-secret@host/db"
    result["config"]["task"] = {"path": "http://me:planted-secret@host/data"}
    page = build_report(result, tmp_path).read_text(encoding="utf-8")
    Outline(page)
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "planted-secret" not in page


@pytest.mark.parametrize(
    ("stage", "shown"),
    [
        ("search", {"search", "claims"}),
        ("distill", {"distillation"}),
        ("finetune", {"task", "claims", "provenance"}),
        ("export", {"export"}),
        ("benchmark", {"latency", "claims", "provenance"}),
        ("corpus", set()),
    ],
)
def test_a_stage_alone_makes_a_page_of_its_own_sections(stage: str, shown: set[str], tmp_path: Path) -> None:
    result: dict[str, Any] = {"stage": stage, **example_result()[stage]}
    outline = Outline(build_report(result, tmp_path).read_text(encoding="utf-8"))
    assert {str(named["id"]) for tag, named in outline.attributes if tag == "section"} - {"costs"} == shown


def test_results_with_holes_make_a_page(tmp_path: Path) -> None:
    result = example_result()
    search = result["search"]
    for candidate in search["candidates"][:5]:
        candidate.update(error=None, w=None, curve=[[40, None]], state="failed")
    for key in ("front", "sensitivity", "correlation", "history", "maximum_point", "space"):
        search[key] = None
    result["finetune"]["models"]["twin"]["metrics"]["accuracy"].update(low=None, high=None, values=[])
    result["distill"]["twin"]["curve"] = []
    result["distill"]["heldout"]["relation_kl"] = None
    result["benchmark"]["ratios"] = None
    result["benchmark"]["environment"] = None
    result["seconds"]["search"] = None
    outline = Outline(build_report(result, tmp_path).read_text(encoding="utf-8"))
    assert outline.tags["section"] >= 6


def test_cheap_errors_are_said_to_agree_with_full_trainings(tmp_path: Path) -> None:
    search = dict(example_result()["search"])
    search["correlation"] = {
        "kendall_tau": 0.87, "between": [0, 0], "n": 9, "by_rung": [],
        "reference": {"n": 7, "kendall_tau": 0.87},
    }  # fmt: skip
    page = build_report({"schema": 1, "stage": "search", **search}, tmp_path).read_text(encoding="utf-8")
    assert "rank the 7 candidates that were trained in full elsewhere" in page
    assert re.search(r"rank\s+correlation of τ\W+0\.87", page)
    assert "between 0 and 0 steps" not in page

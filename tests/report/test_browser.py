"""Opens the report and MLflow's pages in a real browser, where there is one, and looks at what a person would see."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from bort.report.page import build_report
from bort.tracking.config import TrackingConfig
from bort.tracking.tracker import Tracker
from tests.report.example import example_result

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
#: What MLflow's own page asks of a server without users.
EXPECTED = "/mlflow/users/current"
pytestmark = pytest.mark.slow


class Watched:
    """A page, with what it asked for and what its console complained of."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.errors: list[str] = []
        self.requests: list[str] = []
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", self._console)

    def _console(self, message: Any) -> None:
        if message.type == "error" and EXPECTED not in str(message.location.get("url")):
            self.errors.append(message.text)

    def foreign(self, own: str) -> list[str]:
        """Returns the requests that left ``own``."""
        return [url for url in self.requests if not url.startswith((own, "data:", "blob:"))]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no chromium: apt-get install chromium lets these tests look at the pages")
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install bort[dev] lets these tests run")
    with playwright.sync_playwright() as library:
        opened = library.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    path = build_report(example_result(), tmp_path_factory.mktemp("report"))
    watched = Watched(browser.new_page(viewport={"width": 1000, "height": 1400}))
    watched.page.goto(path.as_uri())
    yield watched
    watched.page.close()


def test_the_report_asks_for_nothing_and_complains_of_nothing(report: Watched) -> None:
    assert report.requests == [report.page.url]
    assert report.errors == []
    assert report.page.locator("h1").inner_text()
    figures = report.page.locator("figure svg[role=img]")
    assert figures.count() == 9
    for figure in figures.all():
        assert figure.bounding_box()["width"] > 300
        named = figure.get_attribute("aria-labelledby")
        assert report.page.locator(f"#{named}").text_content()


def test_the_report_is_sorted_from_the_keyboard(report: Watched) -> None:
    page = report.page
    page.evaluate("window.scrollTo(0, 0)")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip", "the first stop leads past the navigation"

    def sorted_by(name: str) -> list[str]:
        button = page.locator("#search table").get_by_role("button", name=name, exact=True)
        button.focus()
        page.keyboard.press("Enter")
        states.append(button.evaluate("button => button.closest('th').getAttribute('aria-sort')"))
        return [text.strip() for text in page.locator("#search tbody th").all_inner_texts()]

    states: list[str | None] = []
    rows = {row["name"]: row for row in example_result()["candidates"]}
    assert sorted_by("p") == sorted(rows, key=lambda name: rows[name]["parameters"])
    assert sorted_by("p") == sorted(rows, key=lambda name: -rows[name]["parameters"])
    missing = [rows[name]["w"] is None for name in sorted_by("W")]
    assert any(missing)
    assert missing == sorted(missing), "what is missing comes last"
    assert states == ["ascending", "descending", "ascending"]


def test_the_report_is_light_dark_narrow_and_printed(report: Watched) -> None:
    page = report.page

    def colours() -> list[str]:
        return page.evaluate(
            "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector('figure svg text')).fill]"
        )

    shades = {}
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        shades[scheme] = colours()
    assert shades["light"][0] != shades["dark"][0]
    assert shades["light"][1] != shades["dark"][1], "figures follow the page"
    page.emulate_media(media="print", color_scheme="dark")
    assert colours() == shades["light"], "paper is white"
    assert not page.locator("nav").is_visible()
    page.emulate_media(media="screen", color_scheme="light")
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing reaches beyond a small screen"
    assert report.errors == []


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A study as the stages record it; returns the folder of its store and the ids of its candidates."""
    folder = tmp_path_factory.mktemp("study")
    tracker = Tracker(TrackingConfig(uri=f"sqlite:///{folder}/mlflow.db"), folder / "spool")
    with tracker, tracker.run("small search seed=1", key="search-small", tags={"bort.stage": "search"}) as parent:
        parent.params({"strategy": "ose", "winner": "D2-A2-H16-I32"})
        parent.metrics({"winner/w": 2.5})
        parent.describe("D2-A2-H16-I32 wins with W = 2.500")
        for depth in (1, 2, 3):
            with parent.child(f"D{depth}-A2-H16-I32", f"search-small/{depth}") as child:
                child.params({"depth": depth, "heads": 2, "hidden": 16, "intermediate": 32})
                child.metric_batch([("error", 1.0 / depth + 2.0 / step, step) for step in (20, 40)])
                child.metrics({"w": 2.0 + depth / 4, "parameters": 1000.0 * depth, "operations": 5000.0 * depth})
                child.dataset("some text", "0123456789", "text", {"tokens": 1000}, context="training")
    report = tracker.sync()
    assert report.error is None
    return folder, [str(tracker.run_id(f"search-small/{depth}")) for depth in (1, 2, 3)]


@pytest.fixture(scope="module")
def server(browser: Any, study: tuple[Path, list[str]]) -> Iterator[str]:
    """`bort ui` on the study; returns MLflow's address. The browser comes first: without one nothing needs to be served."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "pipelines.ui", str(study[0]), "--port", str(port)]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2], start_new_session=True, stdout=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            time.sleep(0.2)
            try:
                urllib.request.urlopen(f"{address}/health", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, "bort ui ended by itself"
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


def test_mlflows_table_opens_on_views_that_compare(browser: Any, server: str) -> None:
    watched = Watched(browser.new_page(viewport={"width": 1600, "height": 950}))
    page = watched.page
    page.goto(f"{server}/#/experiments/1/runs?workflowType=machine_learning")
    page.get_by_text("small search seed=1").wait_for()
    view = page.get_by_role("link", name="candidates by W").get_attribute("href")
    page.goto("about:blank")
    page.goto(f"{server}/{view}")
    page.get_by_text("D3-A2-H16-I32").wait_for()
    names = [text for text in page.get_by_role("link").all_inner_texts() if text.startswith(("D1", "D2", "D3"))]
    assert names == ["D3-A2-H16-I32", "D2-A2-H16-I32", "D1-A2-H16-I32"], "the largest W stands on top"
    columns = {text.strip() for text in page.get_by_role("columnheader").all_inner_texts()}
    assert {"error", "operations", "parameters", "w"} <= columns
    assert watched.foreign(server) == []
    assert watched.errors == []
    page.close()


def test_mlflows_compare_page_shows_what_differs(browser: Any, server: str, study: tuple[Path, list[str]]) -> None:
    watched = Watched(browser.new_page(viewport={"width": 1600, "height": 2400}))
    page = watched.page
    page.goto(f"{server}/#/compare-runs?runs={quote(json.dumps(study[1]))}&experiments={quote(json.dumps(['1']))}")
    page.get_by_text("Comparing 3 Runs").first.wait_for()
    for name in ("D1-A2-H16-I32", "D2-A2-H16-I32", "D3-A2-H16-I32"):
        page.get_by_text(name).first.wait_for()
    text = page.locator("body").inner_text()
    assert "depth" in text
    assert "parameters" in text
    assert watched.foreign(server) == []
    assert watched.errors == []
    page.close()

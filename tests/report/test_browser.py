"""Opens the page in a real browser, where there is one, and looks at what a person would see."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from example import example_result

from bort.report import build_report

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--enable-logging=stderr",
    "--v=0",
    "--virtual-time-budget=3000",
    "--window-size=1000,1400",
    "--dump-dom",
]

#: Presses a table's buttons as the keyboard would, and writes down what then stands in its first column.
PROBE = """
const table = document.querySelector("#search table");
const first = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent).join(" ");
const button = (name) => [...table.querySelectorAll("th button")].find((one) => one.textContent === name);
const seen = [];
for (const name of ["p", "p", "architecture", "W"]) {
  button(name).focus();
  document.activeElement.click();
  seen.push(first() + "|" + button(name).closest("th").getAttribute("aria-sort"));
}
const wide = [...document.querySelectorAll("figure svg")].every((svg) => svg.getBoundingClientRect().width > 300);
const ink = getComputedStyle(document.querySelector("figure svg text")).fill;
document.title = JSON.stringify({ seen, wide, ink, overflow: document.documentElement.scrollWidth > innerWidth });
"""


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no chromium: apt-get install chromium lets this test look at the page")
def test_the_page_in_a_browser(tmp_path: Path) -> None:
    page = build_report(example_result(), tmp_path / "report")
    probed = tmp_path / "probed.html"
    probed.write_text(page.read_text(encoding="utf-8").replace("</body>", f"<script>{PROBE}</script></body>"), encoding="utf-8")
    command = [str(BROWSER), *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", probed.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert not [line for line in shown.stderr.splitlines() if "CONSOLE" in line], "errors in the browser's console"
    title = re.search(r"<title>(\{.*?\})</title>", shown.stdout)
    assert title is not None
    found = json.loads(title[1])
    names = [text.split("|")[0].split() for text in found["seen"]]
    assert [text.split("|")[1] for text in found["seen"]] == ["ascending", "descending", "ascending", "ascending"]
    size = {row["name"]: row["parameters"] for row in example_result()["candidates"]}
    assert names[0] == sorted(names[0], key=lambda name: size[name])
    assert names[1] == sorted(names[1], key=lambda name: -size[name])
    weight = {row["name"]: row["w"] for row in example_result()["candidates"]}
    assert [weight[name] is None for name in names[3]] == sorted(weight[name] is None for name in names[3]), (
        "what is missing comes last"
    )
    assert found["wide"]
    assert not found["overflow"]

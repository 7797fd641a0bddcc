"""`bort benchmark search` and `bort benchmark collect` from the command line."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from bort.architecture import Architecture
from bort.files import read_json, write_json
from bort.search.table import TABLE, write_table
from pipelines.app.environment import CONF

SHAPES = [Architecture(depth, 2, 32, width) for depth in (1, 2) for width in (64, 128)]
SPACE = ["search_space.depth=[1,2]", "search_space.heads=[2]", "search_space.hidden=[32]", "search_space.intermediate=[64,128]"]
ROWS = 1064


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(CONF.parent), "COLUMNS": "200"}
    command = [sys.executable, "-m", "pipelines", "benchmark", *arguments, "outputs=out", "name=t", "tracking=off"]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)


def search(folder: Path, seed: int) -> None:
    """Writes what a finished search leaves behind."""
    point = Architecture(4, 4, 64, 256)
    manifest = {"stage": "search", "state": "done", "settings": {"seed": seed}, "inputs": {"teacher": "abc"}, "digest": str(seed)}
    write_json(folder / "manifest.json", manifest)
    result = {
        "maximum_point": {**vars(point), "p": point.parameters(ROWS, 0)},
        "trained_steps": 1,
        "tokens": 1,
        "processor_seconds": 1.0,
    }
    write_json(folder / "result.json", result)
    rows: list[dict[str, Any]] = [
        {**vars(shape), "steps": steps, "error": (1 + 0.01 * seed + 0.1 * place) / steps, "seed": seed}
        for place, shape in enumerate(SHAPES)
        for steps in (10, 20)
    ]
    write_table(folder / TABLE, rows)


def test_tables_are_collected_and_replayed(tmp_path: Path) -> None:
    for seed in (0, 1):
        search(tmp_path / f"s{seed}", seed)
    done = run("collect", "collect.searches=[s0,s1]", "collect.table=made/bench.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    manifest = read_json(tmp_path / "made" / "manifest.json")
    assert (manifest["architectures"], manifest["several_seeds"], manifest["seeds"]) == (4, 4, [0, 1])
    assert manifest["embedding_rows"] == ROWS
    assert "collect.searches=[s0,s1]" in manifest["command"]
    table = ["error=table", "error.path=made/bench.csv", f"error.embedding_rows={ROWS}", "search_space.maximum_point=4-4-64-256"]
    quick = ["replay.seeds=3", "replay.budgets=[0.5,1.0]", "replay.strategies=[ose,random]", "replay.resamples=100"]
    done = run("search", *table, *SPACE, *quick, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Found the exhaustive winner, 3 replays on drawn tables" in done.stderr
    folder = next((tmp_path / "out" / "t").rglob("benchmark_search"))
    result = read_json(folder / "result.json")
    assert all(row["success"]["value"] == 1.0 for row in result["rows"] if row["budget"] == 1.0)
    with (folder / "outcomes.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 3 * 2 * 2 + 3 * 2 + 2
    assert (folder / "figures" / "replay.svg").exists()


def test_what_cannot_be_replayed_or_collected_is_one_sentence(tmp_path: Path) -> None:
    for arguments, words in (
        (["search", "error=proxy"], "error=proxy"),
        (["collect", "collect.searches=[nowhere]"], "nowhere"),
    ):
        done = run(*arguments, cwd=tmp_path)
        lines = [line for line in done.stderr.splitlines() if line.startswith("bort: ")]
        assert done.returncode == 1
        assert len(lines) == 1
        assert words in lines[0]
    assert not list(tmp_path.rglob("*.json"))


def test_any_models_are_timed_without_the_chain(tmp_path: Path) -> None:
    from bort.measure.models import build_model

    build_model(Architecture(1, 2, 16, 16), vocab_size=50, positions=128).save_pretrained(tmp_path / "mine")
    quick = [
        "benchmark.backends=[eager,onnx]",
        "benchmark.batch=[1]",
        "benchmark.sequence_length=[16]",
        "benchmark.repeats=3",
        "benchmark.warmup=0",
        "benchmark.threads=1",
        "benchmark.resamples=100",
        "benchmark.mixes=[sentences]",
        "benchmark.requests=3",
    ]
    models = "benchmark.models=[1-1-16-16,mine]"
    done = run("latency", models, *quick, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "mine (onnx)" in done.stderr
    (path,) = tmp_path.glob("out/t/*/benchmark/result.json")
    result = read_json(path)
    assert [(row["model"], row["backend"]) for row in result["rows"]] == [
        ("1-1-16-16", "eager"), ("1-1-16-16", "onnx"), ("mine", "eager"), ("mine", "onnx"),
    ]  # fmt: skip
    assert {row["over_model"] for row in result["ratios"]} == {"1-1-16-16", "mine"}
    assert [row["way"] for row in result["serving"]] == ["padded", "one by one", "planned"] * 2
    assert (path.parent / "latency-batch1-length16.svg").read_text(encoding="utf-8").startswith("<svg")
    assert (path.parent / "latency-batch1-length16.png").is_file()

    refused = run("latency", models, *quick, "benchmark.backends=[cuda]", cwd=tmp_path)
    assert refused.returncode == 1
    assert "benchmark.backends=cuda is invalid" in refused.stderr
    refused = run("latency", "benchmark.models=[nothing]", *quick, cwd=tmp_path)
    assert refused.returncode == 1
    assert "nothing=nothing cannot be measured" in refused.stderr

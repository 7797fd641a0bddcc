"""The benchmark: equal steps, cells that are never run twice, paired intervals, the verdict."""

from __future__ import annotations

import csv
from dataclasses import replace

import pytest

import bort.benchmarks.agora as benchmark
from bort.benchmarks.agora import AgoraBenchmarkSetup, compare, run_benchmark
from bort.errors import ConfigurationError
from bort.finetuning.agora.config import ARMS, AgoraBenchmarkConfig, AgoraConfig, LabelerConfig
from bort.finetuning.config import FinetuningConfig
from bort.settings import check_settings
from bort.tasks.config import TaskConfig

FINETUNING = FinetuningConfig(batch_size=8, dropout=0.0, pooling="mean", search={"learning_rate": [1e-2, 3e-3]})


def compared(encoder_dir, tasks, config, agora, path):
    return run_benchmark(AgoraBenchmarkSetup(encoder_dir, tasks, config, FINETUNING, agora), path)


@pytest.fixture(scope="module")
def setting(encoder_dir, toy, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "toy.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label"])
        rows.writerows([one.texts[0], int(one.label)] for split in (toy.train, toy.steering, toy.heldout) for one in split)
    tasks = {"toy/task": TaskConfig(name="toy", path=str(path), heldout=30, max_length=24)}
    agora = AgoraConfig(
        judgements=1,
        least=20,
        before=8,
        most=24,
        per_mistake=2,
        labeller=LabelerConfig(encoder=str(encoder_dir), accuracy=0.5, refused="plain"),
    )
    return tasks, AgoraBenchmarkConfig(tasks={"toy/task": {}}, sizes=[24], seeds=[0, 1], steering=20, steps={4: 6}), agora


@pytest.fixture(scope="module")
def found(setting, encoder_dir, tmp_path_factory):
    path = tmp_path_factory.mktemp("cells")
    tasks, config, agora = setting
    return compared(encoder_dir, tasks, config, agora, path), path


def test_all_arms_get_the_same_examples_and_steps(found):
    result, _ = found
    cells = result["cells"]
    assert len(cells) == 2 * len(ARMS)
    assert {cell["steps"] for cell in cells} == {3 * 6}  # two sets, then one
    for seed in (0, 1):
        own = [cell for cell in cells if cell["seed"] == seed]
        assert len({cell["data"] for cell in own}) == 1
        assert own[0]["examples"] == {"train": 24, "steering": 20, "heldout": 30}
    assert cells[0]["data"] != cells[-1]["data"]
    points = {(cell["seed"], cell["arm"]): cell["points"] for cell in cells}
    for seed in (0, 1):
        assert points[seed, "plain"] == points[seed, "distill"] == 0
        assert 0 < points[seed, "random"] <= points[seed, "agora"]
    assert result["settings"][0]["differences"]["agora"]["low"] is not None


def test_cells_that_are_done_are_not_run_again(found, setting, encoder_dir, monkeypatch):
    result, path = found
    tasks, config, agora = setting
    monkeypatch.setattr(benchmark, "Bench", None)
    again = compared(encoder_dir, tasks, config, agora, path)
    assert again == result
    one = compared(encoder_dir, tasks, replace(config, seeds=[1], arms=["agora", "plain"]), agora, path)
    assert [cell for cell in result["cells"] if cell["seed"] == 1 and cell["arm"] in ("agora", "plain")] == one["cells"]
    with pytest.raises(TypeError):
        compared(encoder_dir, tasks, replace(config, seeds=[2]), agora, path)


def test_killed_in_the_midst_of_an_arm_it_ends_the_same(found, setting, encoder_dir, monkeypatch, tmp_path):
    class Killed(BaseException):
        pass

    tasks, config, agora = setting
    real, calls = benchmark.run_loop, []

    def dying(parts, folder):
        calls.append(folder.name)
        found = real(parts, folder)
        if len(calls) in (2, 5):
            raise Killed
        return found

    monkeypatch.setattr(benchmark, "run_loop", dying)
    one = replace(config, seeds=[0])
    for _ in range(2):
        with pytest.raises(Killed):
            compared(encoder_dir, tasks, one, agora, tmp_path)
    resumed = compared(encoder_dir, tasks, one, agora, tmp_path)
    for cell, whole in zip(resumed["cells"], found[0]["cells"][: len(ARMS)], strict=True):
        assert [cell[key] for key in ("arm", "heldout", "steering", "points")] == [
            whole[key] for key in ("arm", "heldout", "steering", "points")
        ]


def test_a_refused_labeller_makes_agora_plain(setting, encoder_dir, tmp_path):
    tasks, config, agora = setting
    strict = replace(agora, labeller=replace(agora.labeller, accuracy=1.0))
    result = compared(encoder_dir, tasks, replace(config, seeds=[0]), strict, tmp_path)
    cells = {cell["arm"]: cell for cell in result["cells"]}
    assert "above 1.000" in cells["agora"]["refused"]
    assert cells["agora"]["points"] == cells["paper"]["points"] == 0
    assert cells["agora"]["heldout"] == cells["paper"]["heldout"] == cells["plain"]["heldout"]
    assert cells["random"]["points"] > 0
    assert result["settings"][0]["refused"] == 1


def cell(task, size, seed, arm, value):
    return {
        "task": task, "size": size, "seed": seed, "arm": arm, "metric": "accuracy", "heldout": {"accuracy": value},
        "majority": {"accuracy": 0.5}, "refused": "", "labeller": None, "steps": 10, "processor_seconds": 1.0, "points": 0,
    }  # fmt: skip


def test_differences_are_paired_and_the_verdict_follows_the_target():
    def result(ahead, elsewhere):
        cells = []
        for seed, level in enumerate((0.60, 0.70, 0.80)):
            for task, gain in (("a", ahead), ("b", elsewhere)):
                cells += [cell(task, 100, seed, "plain", level), cell(task, 100, seed, "agora", level + gain + 0.001 * seed)]
        return compare(cells, ["agora", "plain"], 0.95)

    good = result(0.08, 0.00)
    # The level differs by 20 points between seeds, the difference by 0.2: its interval is narrow.
    assert good["settings"][0]["differences"]["agora"]["mean"] == pytest.approx(8.1)
    assert good["settings"][0]["differences"]["agora"]["high"] < 9
    assert good["overall"]["agora"]["values"] == pytest.approx([4.0, 4.1, 4.2])
    assert good["verdict"]["met"]
    assert not result(0.08, -0.01)["verdict"]["met"]
    assert result(0.08, -0.01)["verdict"]["worst"]["task"] == "b"
    assert not result(0.03, 0.02)["verdict"]["met"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("tasks", {}), ("sizes", []), ("sizes", [2]), ("seeds", [1, 1]), ("arms", ["magic"]), ("only", ["x"]), ("steps", {1: 0})],
)
def test_what_cannot_be_compared_is_named(name, value):
    with pytest.raises(ConfigurationError, match=rf"agora_benchmark\.{name}"):
        check_settings(AgoraBenchmarkConfig(**{"tasks": {"a": {}}, name: value}), "agora_benchmark")


def test_steps_are_those_of_the_largest_size_below():
    config = AgoraBenchmarkConfig(steps={100: 60, 500: 80})
    assert [config.steps_of(size, 7) for size in (50, 100, 499, 2000)] == [7, 60, 60, 80]

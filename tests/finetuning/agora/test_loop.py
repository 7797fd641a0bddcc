"""The whole loop: it learns, leaks nothing, keeps its ledger, and ends the same when it was killed."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

import bort.finetuning.agora.loop as loop
import bort.finetuning.agora.state as state
from bort.errors import ConfigurationError, RecordError
from bort.finetuning.agora.config import AgoraConfig, LabelerConfig
from bort.finetuning.agora.labeler import LabelerRefusedError
from bort.finetuning.agora.runs import finetune_agora
from bort.finetuning.agora.setup import AgoraSetup
from bort.finetuning.agora.similarity import overlap, shingles
from bort.finetuning.config import FinetuningConfig
from bort.finetuning.scoring import evaluate
from bort.finetuning.setup import FinetuningSetup
from bort.tasks.split import text_key

FINETUNING = FinetuningConfig(
    batch_size=8,
    head_rate=5.0,
    seeds=[0],
    resamples=20,
    search={"learning_rate": [2e-2, 1e-2], "weight_decay": [0.0, 0.1]},
    dropout=0.0,
    pooling="mean",
)


def agora(encoder_dir, **changes):
    settings = {
        "steps": 24, "judgements": 2, "per_mistake": 3, "before": 10, "least": 30, "most": 40, "generators": ["substitute", "mix"],
        "labeller": LabelerConfig(encoder=str(encoder_dir), accuracy=0.6),
    }  # fmt: skip
    return AgoraConfig(**{**settings, **changes})


def run(encoder_dir, task, path, finetuning=FINETUNING, **changes):
    return finetune_agora(AgoraSetup(FinetuningSetup(encoder_dir, task, finetuning), agora(encoder_dir, **changes)), path)


@pytest.fixture(scope="module")
def finished(encoder_dir, toy, tmp_path_factory):
    path = tmp_path_factory.mktemp("agora")
    return run(encoder_dir, toy, path), path


def test_it_learns_and_keeps_its_ledger(finished, toy):
    result, path = finished
    assert result["metrics"]["accuracy"]["mean"] > 0.7
    ledger = result["seeds"][0]["ledger"]
    assert ledger[0]["left"] == [0, 1, 2, 3]
    assert len(ledger) == 2
    assert [len(row["trainings"]) for row in ledger] == [4, 2]
    assert sorted(ledger[-1]["pruned"]) == ledger[-1]["left"]
    assert 0 < ledger[0]["points"] <= 10
    assert 0 < ledger[0]["kept"] == ledger[1]["points"] - ledger[0]["points"]
    assert ledger[0]["made"] == ledger[0]["kept"] + sum(ledger[0]["dropped"].values())
    assert ledger[1]["made"] == 0  # nothing would be trained on them
    for row in ledger:
        # Half as many for the four of the first iteration; what that saves goes to the two of the second.
        assert row["cost"]["steps"] == {4: 12 * 4, 2: (24 + 24) * 2}[len(row["trainings"])]
        assert row["cost"]["processor_seconds"] > 0
        assert set(row["heldout"]) == {"accuracy", "f1"}
        assert row["best"]["steering"] == max(training["steering"] for training in row["trainings"])
    assert json.loads((path / "seeds" / "0" / "ledger.json").read_text()) == ledger
    best = ledger[result["seeds"][0]["best_iteration"]]
    assert evaluate(path / "model", toy)["metrics"]["accuracy"]["value"] == pytest.approx(best["heldout"]["accuracy"])
    assert len((path / "predictions.jsonl").read_text().splitlines()) == len(toy.heldout)
    assert not (path / "seeds" / "0" / "iteration-000" / "model").exists()


def test_no_steering_example_enters_train(finished, toy, encoder_dir, monkeypatch, tmp_path):
    seen = []
    real = loop.AgoraRun.examples
    monkeypatch.setattr(loop.AgoraRun, "examples", lambda self, points: seen.append(real(self, points)) or seen[-1])
    for variant in ("best", "paper"):
        result = run(
            encoder_dir, toy, tmp_path / variant, variant=variant, generators=["swap", "delete", "substitute"], similarity=0.8
        )
        assert result["seeds"][0]["points"] > 0
    judged = {text_key(example) for example in [*toy.steering, *toy.heldout]}
    trained = [example for examples in seen for example in examples]
    assert len(trained) > len(toy.train)
    assert not judged & {text_key(example) for example in trained}
    made = {example.texts for example in trained if example.identity.startswith("made:")}
    for texts in made:
        assert max(overlap(shingles(texts), shingles(example.texts)) for example in toy.steering) < 0.8


class Forbidden(list):
    """Held-out examples that may not be read until the loop is over."""

    open = False

    def __iter__(self):
        assert Forbidden.open, "held-out examples were read"
        return super().__iter__()

    def __getitem__(self, item):
        assert Forbidden.open, "held-out examples were read"
        return super().__getitem__(item)


def test_heldout_is_not_read_before_the_loop_is_over(toy, encoder_dir, monkeypatch, tmp_path):
    import bort.finetuning.agora.runs as runs

    real = runs.run_loop

    def watched(*arguments):
        Forbidden.open = False
        found = real(*arguments)
        Forbidden.open = True
        return found

    toy.digest  # the identity of the data is worked out from all of it, before anything is trained  # noqa: B018
    task = replace(toy, heldout=Forbidden(toy.heldout))
    Forbidden.open = True
    monkeypatch.setattr(runs, "run_loop", watched)
    real_workspace = runs.AgoraWorkspace.__init__

    def closed(self, *arguments, **keywords):
        Forbidden.open = False
        real_workspace(self, *arguments, **keywords)

    monkeypatch.setattr(runs.AgoraWorkspace, "__init__", closed)
    assert run(encoder_dir, task, tmp_path)["metrics"]["accuracy"]["mean"] > 0


class Killed(BaseException):
    """What a test ends a run with."""


def comparable(result):
    """A result without what it cost in time, and where it lies."""
    times = {"seconds", "processor_seconds", "training_seconds", "model", "predictions"}

    def strip(value):
        if isinstance(value, dict):
            return {key: strip(item) for key, item in value.items() if key not in times}
        return [strip(item) for item in value] if isinstance(value, list) else value

    return json.dumps(strip(result), sort_keys=True)


#: Each life ends before so many things are written: within a training, between a model and its record, amid points and rows.
LIVES = [1, 2, 3, 2, 5, 4, 3]


@pytest.mark.parametrize(
    ("lives", "changes"),
    [(LIVES, {}), ([4, 8], {"warm_start": True, "replay": 1, "prune": "halving", "steps": 4, "judgements": 1})],
)
def test_killed_at_any_point_it_ends_the_same(lives, changes, encoder_dir, toy, monkeypatch, tmp_path, finished):
    import bort.finetuning.agora.runs as runs

    whole = run(encoder_dir, toy, tmp_path / "whole", **changes) if changes else finished[0]
    left = {"writes": 0}

    def dying(real):
        def write(*arguments, **keywords):
            left["writes"] -= 1
            if left["writes"] == 0:
                raise Killed
            real(*arguments, **keywords)

        return write

    for module, names in ((state, ("write_json", "save_classifier")), (runs, ("write_json", "write_text"))):
        for name in names:
            monkeypatch.setattr(module, name, dying(getattr(module, name)))
    for life in lives:
        left["writes"] = life
        with pytest.raises(Killed):
            run(encoder_dir, toy, tmp_path / "resumed", **changes)
    left["writes"] = 0
    assert comparable(run(encoder_dir, toy, tmp_path / "resumed", **changes)) == comparable(whole)


def test_another_run_in_the_same_folder_is_refused(finished, toy, encoder_dir):
    with pytest.raises(RecordError, match=r"agora\."):
        run(encoder_dir, toy, finished[1], per_mistake=5)


def test_a_refused_labeller_ends_the_run_or_leaves_plain_fine_tuning(toy, encoder_dir, tmp_path):
    strict = LabelerConfig(encoder=str(encoder_dir), accuracy=1.0)
    with pytest.raises(LabelerRefusedError, match=r"above 1\.000"):
        run(encoder_dir, toy, tmp_path / "raise", labeller=strict)
    result = run(encoder_dir, toy, tmp_path / "plain", labeller=replace(strict, refused="plain"))
    assert result["seeds"][0]["points"] == 0
    assert "above 1.000" in result["seeds"][0]["labeller"]["refused"]
    assert [row["made"] for row in result["seeds"][0]["ledger"]] == [0, 0]


def test_ranges_and_other_kinds_of_task_are_refused(toy, encoder_dir, tmp_path):
    ranged = replace(FINETUNING, search={"learning_rate": {"low": 1e-4, "high": 1e-3}})
    with pytest.raises(ConfigurationError, match=r"finetuning\.search\.learning_rate"):
        run(encoder_dir, toy, tmp_path, finetuning=ranged)
    many = replace(FINETUNING, search={"learning_rate": [1e-4 * (i + 1) for i in range(65)]})
    with pytest.raises(ConfigurationError, match="at most 64"):
        run(encoder_dir, toy, tmp_path, finetuning=many)
    with pytest.raises(ConfigurationError, match="classification"):
        run(encoder_dir, replace(toy, kind="regression", labels=[]), tmp_path)


def test_the_latest_of_what_is_as_good_as_the_best_is_returned():
    ledger = [{"best": {"steering": score}} for score in (0.70, 0.74, 0.71, 0.60)]
    # A standard error of 100 examples is 5 points, of 10,000 half a point.
    assert loop._latest(ledger, 100) == 2
    assert loop._latest(ledger, 10_000) == 1

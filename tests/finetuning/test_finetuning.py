from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bort.errors import BortError, ConfigurationError, RecordError
from bort.finetuning.config import FinetuningConfig
from bort.finetuning.model import load_classifier
from bort.finetuning.runs import finetune
from bort.finetuning.scoring import evaluate
from bort.finetuning.setup import FinetuningSetup
from bort.finetuning.train import finetune_once
from bort.runtime_config import ImplConfig
from bort.tasks.task import Example, Task

WORDS = [*"abcdefghijklmnopqrstuvwxyz", "good", "bad", "film"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A tiny masked LM of BERT's kind with its tokenizer: no pooler, as a distilled student."""
    from transformers import BertConfig, BertForMaskedLM, BertTokenizer

    path = tmp_path_factory.mktemp("encoder")
    vocabulary = {word: index for index, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    BertForMaskedLM(BertConfig(vocab_size=len(vocabulary), max_position_embeddings=24, **shape)).save_pretrained(path)
    BertTokenizer(vocab=vocabulary, model_max_length=24).save_pretrained(path)
    return path


def examples(count, kind="classification", pair=False, start=0):
    generator = np.random.default_rng(start)
    made = []
    for index in range(count):
        words = list(generator.choice(WORDS[:26], size=generator.integers(2, 9)))
        sign = index % 2
        # Half of the words tell, so that a model this small finds out within seconds.
        words[::2] = ["good" if sign else "bad"] * len(words[::2])
        texts = (" ".join(words), "film") if pair else (" ".join(words),)
        made.append(Example(f"f:{start + index}", texts, float(sign) * 40 + 100 if kind == "regression" else sign))
    return made


def toy(kind="classification", pair=False):
    metrics = ["pearson"] if kind == "regression" else ["accuracy", "f1"]
    labels = [] if kind == "regression" else ["negative", "positive"]
    parts = [examples(count, kind, pair, start) for count, start in ((128, 0), (24, 1000), (40, 2000))]
    return Task("toy", kind, labels, metrics, *parts, max_length=16)


QUICK = FinetuningConfig(learning_rate=1e-2, head_rate=5.0, epochs=3, seeds=[0, 1], batch_size=8, resamples=50, dropout=0.1)


def with_(**changes):
    from dataclasses import replace

    return replace(QUICK, **changes)


def once(encoder, task, theta, *, seed, config, directory=None, **impl):
    return finetune_once(FinetuningSetup(encoder, task, config, seed, **impl).with_theta(theta), directory)


def tuned(encoder, task, config, *, directory, seed=0, **keywords):
    return finetune(FinetuningSetup(encoder, task, config, seed), directory, **keywords)


def without_times(result):
    """A result as JSON less what it cost in time, and where it lies."""
    times = {"seconds", "processor_seconds", "training_seconds", "cost", "model", "predictions"}

    def strip(value):
        if isinstance(value, dict):
            return {key: strip(item) for key, item in value.items() if key not in times}
        return [strip(item) for item in value] if isinstance(value, list) else value

    return json.dumps(strip(result), sort_keys=True)


def test_it_learns_and_its_model_loads_with_plain_transformers(encoder, tmp_path):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    task = toy()
    result = tuned(encoder, task, QUICK, directory=tmp_path)
    assert result["metrics"]["accuracy"]["mean"] > 0.8
    assert result["baseline"]["metrics"]["accuracy"] == 0.5
    assert [record["seed"] for record in result["seeds"]] == [0, 1]
    assert set(result["seeds"][0]) >= {"steering", "heldout", "epochs", "processor_seconds"}
    assert result["interval"]["metric"] == "accuracy"
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert model.config.id2label == {0: "negative", 1: "positive"}
    said = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert len(said) == len(task.heldout)
    with torch.inference_mode():
        for example, record in zip(task.heldout, said, strict=True):
            found = model(**tokenizer(*example.texts, return_tensors="pt")).logits.softmax(-1)[0]
            assert record["id"] == example.identity
            assert record["probabilities"]["positive"] == pytest.approx(float(found[1]), abs=1e-5)
    scored = evaluate(tmp_path / "model", task)
    chosen = next(record for record in result["seeds"] if record["seed"] == result["chosen_seed"])
    assert scored["metrics"]["accuracy"]["value"] == pytest.approx(chosen["heldout"]["accuracy"])


#: Mean loss of each epoch and the best one, of the version before the loop was a callback.
GOLDEN = {
    "classification": ([0.665209, 0.080421, 0.001449], 2),
    "regression": ([1.137859, 0.232001, 0.028838], 3),
    "frozen": ([0.745882, 0.720937, 0.702796], 1),
    "mean": ([0.351842, 0.001738, 0.000007], 1),
}


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_losses_are_the_golden_ones(encoder, name):
    task = toy("regression" if name == "regression" else "classification", pair=name == "mean")
    theta = {"frozen": {"freeze": 1}, "mean": {"layer_rate": 0.5}}.get(name, {})
    record = once(encoder, task, theta, seed=0, config=with_(pooling="mean" if name == "mean" else "first"))
    losses, best = GOLDEN[name]
    # To rounding, which differs between processors.
    assert [point["loss"] for point in record["curve"]] == pytest.approx(losses, rel=1e-3, abs=1e-5)
    assert record["best_epoch"] == best


def test_killed_and_resumed_it_ends_bit_identical(encoder, tmp_path, monkeypatch):
    import bort.finetuning.runs as runs

    task = toy()
    config = with_(trials=3, epochs=2, search={"learning_rate": {"low": 5e-3, "high": 2e-2, "log": True}, "batch_size": [8, 16]})
    whole = tuned(encoder, task, config, directory=tmp_path / "whole", name="student")
    real, calls = runs.train_classifier, []

    class Killed(BaseException):
        pass

    def dying(*arguments, **keywords):
        calls.append(1)
        if len(calls) in (2, 4, 6):  # in the midst of a trial, of another, and of a seed
            raise Killed
        return real(*arguments, **keywords)

    monkeypatch.setattr(runs, "train_classifier", dying)
    for _ in range(3):
        with pytest.raises(Killed):
            tuned(encoder, task, config, directory=tmp_path / "resumed", name="student")
    resumed = tuned(encoder, task, config, directory=tmp_path / "resumed", name="student")
    assert len(calls) == 3 + 2 + 3  # every trial and seed once, and the three that died
    assert without_times(resumed) == without_times(whole)
    here, there = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "resumed"))
    assert all(torch.equal(here[key], there[key]) for key in here)
    assert [trial["number"] for trial in whole["trials"]] == [0, 1, 2]
    again = tuned(encoder, task, config, directory=tmp_path / "resumed", name="student")
    assert len(calls) == 8
    assert without_times(again) == without_times(whole)


def test_the_first_trial_is_the_default(encoder, tmp_path):
    config = with_(trials=2, epochs=1, seeds=[0], search={"learning_rate": {"low": 5e-3, "high": 2e-2}})
    result = tuned(encoder, toy(), config, directory=tmp_path)
    assert result["trials"][0]["theta"] == {"learning_rate": 1e-2}
    best = max(result["trials"], key=lambda trial: trial["steering"]["accuracy"])
    assert result["theta"]["learning_rate"] == best["theta"]["learning_rate"]


def test_a_directory_of_another_run_is_refused(encoder, tmp_path):
    config = with_(epochs=1, seeds=[0])
    tuned(encoder, toy(), config, directory=tmp_path)
    with pytest.raises(RecordError, match=r"settings\."):
        tuned(encoder, toy(), with_(epochs=2, seeds=[0]), directory=tmp_path)
    with pytest.raises(RecordError, match=r"seed: 0 there, 1 here"):
        tuned(encoder, toy(), config, directory=tmp_path, seed=1)


def test_frozen_layers_keep_their_weights_and_caching_them_changes_nothing(encoder, tmp_path, monkeypatch):
    import bort.finetuning.workspace as workspace

    config, task = with_(freeze=1, seeds=[0], dropout=0.0), toy()
    cached = tuned(encoder, task, config, directory=tmp_path / "cached")
    monkeypatch.setattr(workspace, "_CACHE_LIMIT", 0)
    plain = tuned(encoder, task, config, directory=tmp_path / "plain")
    before = load_file(encoder / "model.safetensors")
    after, other = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("cached", "plain"))
    for name, value in after.items():
        frozen = "embeddings" in name or "layer.0." in name
        if name in before:
            assert torch.equal(before[name], value) == frozen, name
        torch.testing.assert_close(value, other[name], atol=1e-2, rtol=0)
    curves = [[point["loss"] for point in result["seeds"][0]["curve"]] for result in (cached, plain)]
    assert curves[0] == pytest.approx(curves[1], abs=1e-3)


def test_freezing_more_than_there_is_is_refused(encoder):
    with pytest.raises(ConfigurationError, match=r"finetuning\.freeze=3 is invalid: must be <= 2, as the model has 2 layers"):
        once(encoder, toy(), {"freeze": 3}, seed=0, config=FinetuningConfig())


def test_pairs_carry_token_types(encoder):
    record = once(encoder, toy(pair=True), {}, seed=0, config=QUICK)
    assert record["heldout"]["accuracy"] > 0.8


def test_regression_gives_the_units_of_its_targets(encoder, tmp_path):
    from transformers import AutoModelForSequenceClassification

    task = toy("regression")
    record = once(encoder, task, {}, seed=0, config=QUICK, directory=tmp_path)
    assert record["heldout"]["pearson"] > 0.8
    said = [json.loads(line)["prediction"] for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert 95 < np.mean(said) < 145
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").config.num_labels == 1
    assert evaluate(tmp_path / "model", task)["metrics"]["pearson"]["value"] == pytest.approx(record["heldout"]["pearson"])


def test_mean_pooling_is_saved_apart_and_loads_with_its_own_loader(encoder, tmp_path):
    from transformers import AutoModel, AutoModelForSequenceClassification

    task = toy()
    record = once(encoder, task, {}, seed=0, config=with_(pooling="mean"), directory=tmp_path)
    assert record["heldout"]["accuracy"] > 0.8
    with pytest.raises((OSError, ValueError)):
        AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    AutoModel.from_pretrained(tmp_path / "model" / "encoder")
    load_classifier(tmp_path / "model")
    assert evaluate(tmp_path / "model", task)["metrics"]["accuracy"]["value"] == pytest.approx(record["heldout"]["accuracy"])


def test_a_finished_single_run_is_read_not_repeated(encoder, tmp_path):
    first = once(encoder, toy(), {"epochs": 1}, seed=0, config=QUICK, directory=tmp_path)
    assert once(encoder, toy(), {"epochs": 1}, seed=0, config=QUICK, directory=tmp_path) == json.loads(json.dumps(first))
    other = once(encoder, toy(), {"epochs": 1}, seed=1, config=QUICK, directory=tmp_path)
    assert other["seed"] == 1


def test_labels_are_matched_by_name_when_scoring(encoder, tmp_path):
    task = toy()
    record = once(encoder, task, {}, seed=0, config=QUICK, directory=tmp_path)

    def turned(split):
        return [Example(example.identity, example.texts, 1 - example.label) for example in split]

    swapped = Task(
        "toy", task.kind, ["positive", "negative"], ["accuracy"], *map(turned, (task.train, task.steering, task.heldout))
    )
    assert evaluate(tmp_path / "model", swapped)["metrics"]["accuracy"]["value"] == record["heldout"]["accuracy"]
    other = Task("toy", task.kind, ["yes", "no"], ["accuracy"], task.train, task.steering, task.heldout)
    with pytest.raises(BortError, match=r"labels \(negative, positive\) are not those of task toy \(yes, no\)"):
        evaluate(tmp_path / "model", other)


def test_diverging_trials_are_passed_over_and_a_diverging_seed_is_refused(encoder, tmp_path):
    config = with_(learning_rate=1e30, clip=0.0, epochs=1)
    with pytest.raises(BortError, match="diverged with learning_rate=1e"):
        tuned(encoder, toy(), config, directory=tmp_path / "a")
    searched = with_(clip=0.0, epochs=1, seeds=[0], trials=2, search={"learning_rate": [5e-3, 1e30]}, learning_rate=1e30)
    result = tuned(encoder, toy(), searched, directory=tmp_path / "b")
    assert result["trials"][0]["diverged"]
    assert result["theta"]["learning_rate"] == 5e-3 or all(trial["diverged"] for trial in result["trials"])


@pytest.mark.parametrize("content", ["nothing", "config", "half"])
def test_an_unreadable_model_is_one_sentence(encoder, tmp_path, content):
    if content != "nothing":
        shutil.copytree(encoder, tmp_path / "model")
        if content == "config":
            (tmp_path / "model" / "model.safetensors").write_bytes(b"broken")
        else:
            from safetensors.torch import save_file

            kept = {key: value for key, value in load_file(encoder / "model.safetensors").items() if "layer.1" not in key}
            save_file(kept, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BortError) as caught:
        once(tmp_path / "model", toy(), {}, seed=0, config=FinetuningConfig())
    assert "\n" not in str(caught.value)


def turned(task):
    """The same task with its labels in the other order."""

    def other(split):
        return [Example(example.identity, example.texts, 1 - example.label) for example in split]

    return Task(task.name, task.kind, task.labels[::-1], task.metrics, *map(other, (task.train, task.steering, task.heldout)))


def test_a_teacher_is_heard_by_the_names_of_its_labels(encoder, tmp_path):
    task = toy()
    # Its outputs are the other way round than the student's: by position it would teach the opposite.
    taught = once(encoder, turned(task), {}, seed=3, config=QUICK, directory=tmp_path / "teacher")
    assert taught["heldout"]["accuracy"] > 0.8
    heard = with_(teacher=str(tmp_path / "teacher" / "model"), teacher_weight=1.0)
    record = once(encoder, task, {}, seed=0, config=heard, directory=tmp_path / "student")
    assert record["heldout"]["accuracy"] > 0.8
    plain = once(encoder, task, {}, seed=0, config=QUICK)
    assert [point["loss"] for point in record["curve"]] != [point["loss"] for point in plain["curve"]]
    silent = once(encoder, task, {}, seed=0, config=with_(teacher=heard.teacher, teacher_weight=0.0))
    assert [point["loss"] for point in silent["curve"]] == [point["loss"] for point in plain["curve"]]


def test_a_teacher_with_other_labels_is_refused_before_training(encoder, tmp_path):
    once(encoder, toy(), {"epochs": 1}, seed=0, config=QUICK, directory=tmp_path / "teacher")
    task = toy()
    other = Task("other", task.kind, ["no", "yes"], ["accuracy"], task.train, task.steering, task.heldout)
    config = with_(teacher=str(tmp_path / "teacher" / "model"))
    with pytest.raises(BortError, match=r"The teacher's labels \(negative, positive\) are not those of task other \(no, yes\)"):
        tuned(encoder, other, config, directory=tmp_path / "run")
    with pytest.raises(BortError, match="The teacher is fine-tuned for a classification and task toy is a regression"):
        once(encoder, toy("regression"), {}, seed=0, config=config)


def test_another_teacher_is_another_run(encoder, tmp_path):
    for seed in (0, 1):
        once(encoder, toy(), {"epochs": 1}, seed=seed, config=QUICK, directory=tmp_path / f"teacher{seed}")
    config = with_(epochs=1, seeds=[0], teacher=str(tmp_path / "teacher0" / "model"))
    tuned(encoder, toy(), config, directory=tmp_path / "run")
    with pytest.raises(RecordError, match=r"teacher: \w+… there"):
        tuned(
            encoder, toy(), with_(**{**vars(config), "teacher": str(tmp_path / "teacher1" / "model")}), directory=tmp_path / "run"
        )


def test_each_trial_is_watched_by_an_observer_of_its_own(encoder, tmp_path):
    from contextlib import contextmanager

    from bort.observer import Quiet

    seen = {}

    @contextmanager
    def watch(number, theta):
        class Curve(Quiet):
            def metrics(self, values, step):
                seen.setdefault(number, []).append((step, sorted(values)))

        yield Curve()
        seen[number].append("closed")

    config = with_(trials=2, epochs=2, seeds=[0], search={"learning_rate": [5e-3, 1e-2]})
    tuned(encoder, toy(), config, directory=tmp_path, watch=watch)
    assert seen == {n: [(1, ["loss", "steering_accuracy"]), (2, ["loss", "steering_accuracy"]), "closed"] for n in (0, 1)}
    # Only the chosen model is kept.
    assert not list((tmp_path / "seeds").glob("*/"))
    assert (tmp_path / "model" / "model.safetensors").is_file()


def test_mixed_precision_changes_the_result_by_rounding_alone(encoder):
    full, mixed = (
        once(encoder, toy(), {"epochs": 2}, seed=0, config=with_(dropout=0.0), impl=ImplConfig(precision=name))
        for name in ("32", "bf16")
    )
    losses = [[point["loss"] for point in record["curve"]] for record in (full, mixed)]
    assert losses[0] == pytest.approx(losses[1], abs=0.03)


def test_lower_rates_for_lower_layers_move_them_less(encoder, tmp_path):
    before = load_file(encoder / "model.safetensors")
    moved = {}
    for share in (1.0, 0.1):
        once(encoder, toy(), {"epochs": 1, "layer_rate": share}, seed=0, config=QUICK, directory=tmp_path / str(share))
        after = load_file(tmp_path / str(share) / "model" / "model.safetensors")
        name = "bert.encoder.layer.{}.attention.self.query.weight"
        moved[share] = [float((after[name.format(layer)] - before[name.format(layer)]).abs().mean()) for layer in (0, 1)]
    assert moved[0.1][0] < moved[1.0][0] / 3
    assert moved[0.1][1] > moved[1.0][1] / 3

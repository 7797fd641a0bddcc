from __future__ import annotations

import math
import threading
import time

import pytest

from bort.errors import BortError
from bort.finetuning.config import FinetuningConfig
from bort.finetuning.search import best_theta, search_theta

SPACE = {"learning_rate": {"low": 1e-5, "high": 1e-2, "log": True}, "batch_size": [8, 16, 32]}
EPOCHS = 3


def config(**changes):
    return FinetuningConfig(**{"search": SPACE, "trials": 9, "learning_rate": 1e-3, **changes})


def training(trial):
    """Stands in for a training: its curve is a function of θ, best at a rate of 3e-3 and a batch of 16."""
    best = 0.0
    for epoch in range(1, EPOCHS + 1):
        distance = abs(math.log10(trial.config.learning_rate / 3e-3)) + abs(math.log2(trial.config.batch_size / 16)) / 4
        best = (1 - distance / 4) * epoch / EPOCHS
        if trial.should_prune(epoch, best):
            return record(best, epoch, True)
    return record(best, EPOCHS, False)


def record(best, epochs, pruned):
    figures = {"epochs": epochs, "best_epoch": epochs, "seconds": 0.0, "processor_seconds": 0.0}
    return {"steering": {"accuracy": best}, "pruned": pruned, **figures}


def search(folder, run=training, seed=5, **changes):
    return search_theta(
        config(**changes), run, seed=seed, storage=folder / "study.journal", locks=folder / "locks", name="s", primary="accuracy"
    )


def test_it_finds_a_good_setting_and_starts_from_the_default(tmp_path):
    found = search(tmp_path, trials=12)
    assert [one["number"] for one in found] == list(range(12))
    assert found[0]["theta"]["learning_rate"] == 1e-3
    assert (
        best_theta(found, "accuracy")
        == max((one for one in found if not one["pruned"]), key=lambda one: one["steering"]["accuracy"])["theta"]
    )


def test_trials_below_the_median_are_given_up_and_never_chosen(tmp_path):
    found = search(tmp_path / "pruned")
    given_up = [one for one in found if one["pruned"]]
    assert given_up
    assert all(one["number"] >= 4 and one["epochs"] < EPOCHS for one in given_up)
    assert not any(one["pruned"] for one in search(tmp_path / "whole", pruning=False))
    falsely_good = [*found, {**given_up[0], "steering": {"accuracy": 2.0}}]
    assert best_theta(falsely_good, "accuracy") == best_theta(found, "accuracy")


@pytest.mark.parametrize("round_", [1, 3])
def test_killed_and_resumed_it_is_the_same(round_, tmp_path):
    whole = search(tmp_path / "whole", round=round_)
    calls = []

    def dying(trial):
        calls.append(trial.number)
        if len(calls) in (2, 5, 9):
            raise KeyboardInterrupt
        return training(trial)

    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            search(tmp_path / "resumed", dying, round=round_)
    assert search(tmp_path / "resumed", dying, round=round_) == whole
    assert len(calls) == 9 + 3
    assert search(tmp_path / "resumed", dying, round=round_) == whole
    assert len(calls) == 12


def test_several_workers_share_the_trials_and_find_the_same(tmp_path):
    alone = search(tmp_path / "alone", round=3)
    ran: dict[str, list[int]] = {"a": [], "b": []}
    found = {}

    def work(name):
        def slowly(trial):
            ran[name].append(trial.number)
            time.sleep(0.05)
            return training(trial)

        found[name] = search(tmp_path / "shared", slowly, round=3)

    workers = [threading.Thread(target=work, args=(name,)) for name in ran]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found["a"] == found["b"] == alone
    assert sorted([*ran["a"], *ran["b"]]) == list(range(9))
    assert ran["a"]
    assert ran["b"]


def test_rounds_propose_without_knowing_each_other(tmp_path):
    one, three = search(tmp_path / "one"), search(tmp_path / "three", round=3)
    # The first proposals are drawn at random; later ones follow what was found, which a round of three knows later.
    assert [a["theta"] for a in one] != [b["theta"] for b in three]


def test_its_objective_is_named_for_the_dashboard_also_in_a_study_that_has_no_name_for_it_yet(tmp_path):
    import optuna
    from optuna.storages.journal import JournalFileBackend

    journal = tmp_path / "study.journal"
    found = search(tmp_path, trials=2)
    for _ in range(2):
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(journal)))
        assert optuna.load_study(study_name="s", storage=storage).metric_names == ["steering accuracy"]
        lines = journal.read_bytes().splitlines(keepends=True)
        journal.write_bytes(b"".join(line for line in lines if b"study:metric_names" not in line))
        assert len(journal.read_bytes().splitlines()) == len(lines) - 1
        assert search(tmp_path, trials=2) == found


def test_another_search_of_that_name_is_refused(tmp_path):
    search(tmp_path, trials=1)
    with pytest.raises(BortError, match="over another Θ"):
        search(tmp_path, trials=1, seed=6)


def test_when_everything_diverges_there_is_no_best(tmp_path):
    with pytest.raises(BortError, match="diverged with every θ"):
        search(tmp_path, lambda trial: None, trials=2)


def test_several_workers_share_the_seeds(tmp_path, monkeypatch):
    import bort.finetuning.runs as runs
    from bort.files import write_json

    trained = {"a": [], "b": []}

    def slowly(run, settings, number):
        trained[run.label].append(number)
        time.sleep(0.05)
        write_json(run.home / "seeds" / f"{number}.json", {"seed": number})

    monkeypatch.setattr(runs.FinetuningRun, "train_seed", slowly)
    found = {}

    def work(name):
        found[name] = runs.FinetuningRun(None, None, tmp_path, None, name).train_seeds(config(seeds=[3, 1, 2, 0]))

    workers = [threading.Thread(target=work, args=(name,)) for name in trained]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found["a"] == found["b"] == [{"seed": number} for number in (3, 1, 2, 0)]
    assert sorted([*trained["a"], *trained["b"]]) == [0, 1, 2, 3]


def test_the_chosen_model_is_kept_and_the_others_go_even_when_killed_in_between(tmp_path):
    import shutil

    import bort.finetuning.runs as runs

    def made():
        for number in (0, 1):
            (tmp_path / "seeds" / str(number) / "model").mkdir(parents=True)
            (tmp_path / "seeds" / str(number) / "model" / "weights").write_text(str(number))
            (tmp_path / "seeds" / str(number) / "predictions.jsonl").write_text(f"{number}\n")

    made()
    runs.keep_seed(tmp_path, 1, [0, 1])
    assert (tmp_path / "model" / "weights").read_text() == "1"
    assert (tmp_path / "predictions.jsonl").read_text() == "1\n"
    assert not list((tmp_path / "seeds").glob("*/"))
    runs.keep_seed(tmp_path, 1, [0, 1])
    assert (tmp_path / "model" / "weights").read_text() == "1"
    # Killed after the chosen model was removed and before its predictions were.
    made()
    shutil.rmtree(tmp_path / "seeds" / "1" / "model")
    runs.keep_seed(tmp_path, 1, [0, 1])
    assert (tmp_path / "model" / "weights").read_text() == "1"
    assert not list((tmp_path / "seeds").glob("*/"))

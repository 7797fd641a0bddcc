"""Agora's figures say in words what they show."""

from __future__ import annotations

from bort.report.agora import ledgers, worth


def row(number, steering, heldout, points, left):
    counts = {"points": points, "kept": 10, "left": left}
    return {"iteration": number, "best": {"steering": steering}, "heldout": {"accuracy": heldout}, **counts}


def test_the_ledger_draws_every_seed_and_their_mean(tmp_path):
    seeds = [
        {"ledger": [row(0, 0.7, 0.6, 0, [0, 1]), row(1, 0.8, 0.7, 10, [1])]},
        {"ledger": [row(0, 0.6, 0.6, 0, [0, 1])]},
    ]
    result = {"interval": {"metric": "accuracy"}, "seeds": seeds, "task": {"name": "toy"}}
    drawing = ledgers(result, "student")
    assert "iteration 1 was the best" in drawing.text
    assert "steering: 65.0, 80.0" in drawing.svg
    drawing.write(tmp_path)
    assert (tmp_path / "ledger.svg").stat().st_size > 1000


def test_what_agora_is_worth_is_drawn_for_every_setting():
    def ahead(mean, sure=True):
        return {"mean": mean, "low": mean - 1 if sure else None, "high": mean + 1 if sure else None, "values": [mean]}

    arms = {"agora": ahead(4.0), "random": ahead(1.0, sure=False)}
    result = {"settings": [{"task": "toy", "size": 2000, "differences": arms}], "overall": arms, "seeds": [0, 1]}
    drawing = worth(result)
    assert "Agora +4.0 points" in drawing.text
    assert "toy, 2,000, random augmentation: +1.0 points" in drawing.svg

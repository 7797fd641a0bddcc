"""Near-duplicates, the sieve and its counts, labels; and that no steering example ever enters train."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bort.finetuning.agora.points import Draft, Point, Sieve, label
from bort.finetuning.agora.similarity import Neighbourhood, overlap, shingles
from bort.tasks.task import Example, Task

WORD = st.sampled_from(["aa", "bb", "cc", "Dd", "ee,", "ff"])
TEXT = st.lists(WORD, min_size=1, max_size=6).map(" ".join)


@given(st.lists(TEXT, min_size=1, max_size=8), TEXT)
def test_the_nearest_is_found_without_comparing_all(texts, text):
    def jaccard(one, other):
        a, b = shingles([one]), shingles([other])
        return len(a & b) / len(a | b)

    near = Neighbourhood([one] for one in texts)
    assert near.nearest([text]) == pytest.approx(max(jaccard(one, text) for one in texts))
    assert Neighbourhood().nearest([text]) == 0


def test_spelling_does_not_count_and_order_does():
    assert overlap(shingles(["A  good, FILM!"]), shingles(["a good film"])) == 1
    assert overlap(shingles(["good a film"]), shingles(["a good film"])) < 1
    assert overlap(shingles(["a", "b"]), shingles(["b", "a"])) == 0


def task():
    train = [Example("t:0", ("the good film of the year by far",), 1.0), Example("t:1", ("a dull bore",), 0.0)]
    steering = [Example("s:0", ("what a truly great story it is",), 1.0)]
    return Task("toy", "classification", ["negative", "positive"], ["accuracy"], train, steering, steering)


def draft(text, source="a source of its own"):
    return Draft((text,), Example("x", (source,), 0.0), "swap")


def test_the_sieve_says_why_it_drops():
    sieve = Sieve(task(), similarity=0.7, distinct=0.1)
    kept, dropped = sieve.screen(
        [
            draft(" "),
            draft("A dull BORE!"),
            draft("what a truly great story, it is", "what a truly great story it is"),
            draft("what a truly great story it is indeed"),
            draft("the good film of the year by"),
            draft("something else of its own"),
            draft("Something else, of its own"),
            draft("something else of its own again"),
            draft("nothing whatever in common"),
            draft("another source of its own"),
        ],
        10,
    )
    assert [one.texts[0] for one in kept] == ["something else of its own", "another source of its own"]
    assert dropped == {
        "empty": 1,
        "same as train": 1,
        "same as steering": 1,
        "near steering": 1,
        "near train": 1,
        "same as drafts": 1,
        "near drafts": 1,
        "too distinct": 1,
    }
    # What was kept is remembered when it has become a point, and not before.
    assert sieve.screen([draft("something else of its own")], 1)[1] == {}
    sieve.take([Point(("something else of its own",), (0.5, 0.5), "x", "swap")])
    assert sieve.screen([draft("something else of its own")], 1)[1] == {"same as points": 1}


def test_it_stops_at_what_is_wanted():
    made = (draft(f"number {number} of its own source") for number in ("one", "two", "three", "four"))
    kept, dropped = Sieve(task(), 0.9, 0.1).screen(made, 2)
    assert (len(kept), dropped.total()) == (2, 0)
    assert "four" in next(made).texts[0]


@given(st.lists(TEXT, min_size=1, max_size=5), st.lists(TEXT, min_size=1, max_size=30), st.floats(0.3, 1.0))
def test_nothing_kept_is_a_near_duplicate_of_a_steering_example(steering, texts, similarity):
    judged = [Example(f"s:{number}", (text,), 0.0) for number, text in enumerate(steering)]
    sieve = Sieve(Task("toy", "classification", ["a", "b"], ["accuracy"], [], judged, []), similarity, 0.0)
    kept, dropped = sieve.screen([draft(text) for text in texts], len(texts))
    assert len(kept) + dropped.total() == len(texts)
    for one in kept:
        for text in steering:
            assert overlap(shingles(one.texts), shingles([text])) < similarity


def test_labels_are_hard_or_soft_and_the_unsure_and_the_too_many_go():
    drafts = [draft(f"text {number}") for number in range(7)]
    likely = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.9, 0.1], [0.1, 0.9], [0.55, 0.45], [0.95, 0.05]])
    even = np.array([0.5, 0.5])
    points, dropped = label(drafts, likely, hard=True, confidence=0.6, shares=even)
    # One of the rarer class lets 1.25 of the other in, rounded up.
    assert [point.target for point in points] == [(1.0, 0.0), (1.0, 0.0), (0.0, 1.0)]
    assert dropped == {"unsure": 1, "unbalanced": 3}
    # Where the first class is wanted four times as often, five of it pass beside one of the other.
    assert label(drafts, likely, hard=True, confidence=0.6, shares=np.array([0.8, 0.2]))[1] == {"unsure": 1}
    points, dropped = label(drafts, likely, hard=False, confidence=0.0, shares=None)
    assert [point.target for point in points] == [tuple(row) for row in likely.tolist()]
    assert not dropped
    # A labeller that sees one class only leaves nothing to balance with.
    assert len(label(drafts[:4], likely[:4], hard=True, confidence=0.0, shares=even)[0]) == 4
    assert Point.of(points[0].record()) == points[0]

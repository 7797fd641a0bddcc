"""What is asked of Bort's shapes on a processor, and what the paper claims for them, judged by the measured ratios."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bort.architecture import BORT, BORT_PUBLISHED
from bort.measure.comparison import Comparison

#: Where the targets apply: one sequence of 128 tokens.
CELL = (1, 128)
#: Words, backend of Bort, baseline (None: Bort itself), its backend, and the least ratio.
_TARGETS = (
    ("exported to ONNX at least as fast as eager", "onnx", None, "eager", 1.0),
    ("compiled at least as fast as eager", "compile", None, "eager", 1.0),
    ("int8 at least twice as fast as eager", "int8", None, "eager", 2.0),
    ("int8 at least 20 times as fast as eager BERT-large", "int8", "bert-large", "eager", 20.0),
    ("the paper: 7.9 times as fast as BERT-large", "eager", "bert-large", "eager", 7.9),
    ("the paper: 7.9 times as fast as BERT-base", "eager", "bert-base", "eager", 7.9),
    ("the paper: 20 times as fast as BERT-large", "eager", "bert-large", "eager", 20.0),
)


def targets(facts: Mapping[str, Mapping[str, Any]], comparison: Comparison) -> list[dict[str, Any]]:
    """Returns a row for each target that was measured, at batch 1 and 128 tokens.

    Args:
        facts: What is known of each model; its ``architecture`` tells Bort's shapes.
        comparison: The times.

    Returns:
        ``model``, ``target`` (words), ``backend``, ``over_model``, ``over_backend``, ``least``, ``ratio``, ``low``, ``high`` and
        ``met``: True where the whole interval is at or above the least, False where it is below, None where it straddles it.
    """
    found = []
    for model, fact in facts.items():
        if fact.get("architecture") not in (str(BORT), str(BORT_PUBLISHED)):
            continue
        for words, backend, baseline, over, least in _TARGETS:
            figures = comparison.ratio((baseline or model, over), (model, backend), CELL)
            if figures is not None:
                met = True if figures["low"] >= least else False if figures["high"] < least else None
                row = {"model": model, "target": words, "backend": backend, "over_model": baseline or model, "over_backend": over}
                found.append({**row, "least": least, **figures, "met": met})
    return found

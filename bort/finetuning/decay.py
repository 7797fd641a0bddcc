"""The schedule of the learning rate, and how much of a weight decoupled decay leaves over a training."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

from bort.finetuning.config import FinetuningConfig

#: Below this share of its size a weight counts as destroyed rather than regularised.
LEAST = 0.5


def kept_share(learning_rate: float, weight_decay: float, warmup: float, steps: int) -> float:
    """Return the share of a weight that decoupled decay leaves over a run: Π (1 − lr_t · weight_decay).

    The learning rate rises linearly over the warm-up and falls linearly to 0, so its sum is about half the peak times the
    steps. The released recipe (learning rate 5e-5, decay 110, one epoch of MRPC) leaves 0.28.

    Args:
        learning_rate: Peak.
        weight_decay: Decay, as AdamW takes it.
        warmup: Share of the steps with a rising learning rate.
        steps: Steps of the run.
    """
    if weight_decay == 0:
        return 1.0
    rates = (learning_rate * rate(step, steps, warmup) for step in range(steps))
    logarithm = 0.0
    for value in rates:
        factor = 1 - value * weight_decay
        if factor <= 0:
            return 0.0
        logarithm += math.log(factor)
    return math.exp(logarithm)


def rate(step: int, steps: int, warmup: float) -> float:
    """Return the learning rate of ``step`` (from 0) as a share of the peak: up over the warm-up, down to 0, both linear."""
    rising = int(warmup * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    return (steps - step) / max(1, steps - rising)


def decay_warning(config: FinetuningConfig, examples: int) -> str | None:
    """Return a warning if some θ of Θ would shrink decayed weights below half over its run, else ``None``.

    Args:
        config: Its θ, or its Θ if it has trials.
        examples: Train examples.
    """
    names = ("learning_rate", "weight_decay", "warmup", "batch_size", "epochs")
    searched = config.search if config.trials else {}
    options = [_ends(searched[name]) if name in searched else [getattr(config, name)] for name in names]
    worst, flagged, total = (1.0, ""), 0, 0
    decays: set[float] = set()
    for learning_rate, weight_decay, warmup, batch_size, epochs in itertools.product(*options):
        total += 1
        steps = int(epochs) * math.ceil(examples / int(batch_size))
        share = kept_share(learning_rate, weight_decay, warmup, steps)
        if share >= LEAST:
            continue
        flagged += 1
        decays.add(weight_decay)
        if share < worst[0]:
            worst = (share, f"weight_decay={weight_decay:g} with learning_rate={learning_rate:g} over {steps:,} steps")
    if not flagged:
        return None
    shown = ", ".join(f"{value:g}" for value in sorted(decays))
    return (
        f"Weight decay would shrink what the model has learnt below half in {flagged} of {total} settings of Θ "
        f"(weight_decay {shown}); worst is {worst[1]}, which leaves {worst[0]:.2g} of every weight."
    )


def _ends(wanted: Any) -> list[Any]:
    """Return the choices, or both ends of a range."""
    return [wanted["low"], wanted["high"]] if isinstance(wanted, Mapping) else list(wanted)

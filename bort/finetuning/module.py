"""The training loop of fine-tuning: one model, one θ, one seed, in Lightning."""

from __future__ import annotations

import itertools
import math
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

from bort.finetuning.config import FinetuningConfig
from bort.finetuning.encode import Encoded, training_batches
from bort.finetuning.objective import Objective
from bort.model_facts import first_output
from bort.quiet import quiet

#: Below this share of its size a weight counts as destroyed rather than regularised.
LEAST = 0.5


def kept_share(learning_rate: float, weight_decay: float, warmup: float, steps: int) -> float:
    """Returns what decoupled weight decay alone leaves of a weight over a run: Π (1 − lr_t · weight_decay).

    The rate rises linearly over the warm-up and falls linearly to 0, so its sum is about half the peak times the steps. The
    released recipe (rate 5e-5, decay 110, one epoch of MRPC) leaves 0.28.

    Args:
        learning_rate: Peak rate.
        weight_decay: Decay, as AdamW takes it.
        warmup: Share of the steps with a rising rate.
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
    """Returns the rate of ``step`` (from 0) of ``steps`` as a share of the peak: linear up over the warm-up, linear down to 0."""
    rising = int(warmup * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    return (steps - step) / max(1, steps - rising)


def decay_warning(config: FinetuningConfig, examples: int) -> str | None:
    """Returns a warning where some θ of Θ would shrink decayed weights below half over its run, else ``None``.

    Args:
        config: Its own θ, or its Θ where trials are asked for.
        examples: Training examples, which make the steps.
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
    """Returns the choices, or both ends of a range."""
    return [wanted["low"], wanted["high"]] if isinstance(wanted, Mapping) else list(wanted)


#: The number of a layer in a parameter's name, as every family of encoders has it.
_LAYER = re.compile(r"\.(?:layers?|layer_modules|h)\.(\d+)\.")

#: From the numbers of some sequences to the model's inputs; gives the frozen bottom its hidden states on the way.
Feed = Callable[[NDArray[np.int64]], dict[str, Tensor]]


class FinetuningModule(lightning.LightningModule):
    """Trains a classifier on batches of like length and keeps the weights of the best epoch.

    Args:
        model: The classifier.
        data: The train split.
        feed: Makes a batch of it.
        config: θ and the rest.
        seed: Of the order of batches.
        fresh: Names of the head's parameters, whose rate is ``head_rate`` times the others'.
        objective: The loss of a batch.
        judge: Scores the model on steering examples, higher is better.
        after_epoch: Told of (epoch, mean loss, steering score); says whether to give up.
        after_step: Told of the steps that are done.
    """

    def __init__(
        self,
        model: Any,
        data: Encoded,
        feed: Feed,
        config: FinetuningConfig,
        *,
        seed: int,
        fresh: frozenset[str],
        objective: Objective,
        judge: Callable[[], float],
        after_epoch: Callable[[int, float, float], bool],
        after_step: Callable[[int, int], None],
    ) -> None:
        super().__init__()
        self.model, self.settings = model, config
        self._data, self._feed, self._seed, self._fresh, self._objective = data, feed, seed, fresh, objective
        self._judge, self._after_epoch, self._after_step = judge, after_epoch, after_step
        self._losses: list[Tensor] = []
        self.batches_per_epoch = math.ceil(len(data.labels) / config.batch_size)
        self.steps = self.batches_per_epoch * config.epochs
        self.best_score, self.best_epoch, self.epochs_run = -math.inf, 0, 0
        self.diverged = self.pruned = False
        self._best: dict[str, Tensor] = {}

    def train_dataloader(self) -> DataLoader[Any]:
        """Returns the batches of the current epoch as arrays of indices; called anew for each."""
        batches = training_batches(self._data.sizes, self.settings.batch_size, self._seed, self.current_epoch)
        return DataLoader(batches, batch_size=None, collate_fn=None, shuffle=False)  # type: ignore[arg-type]

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Leaves indices where they are; the inputs made of them go to the device."""
        return batch

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Returns the mean loss of one batch."""
        indices = np.asarray(batch)
        sequences, arrangement = self._data.pick(indices)
        loss = self._objective.loss(arrangement.gather(first_output(self.model, self._feed(sequences)).float()), indices)
        self._losses.append(loss.detach())
        self._after_step(self.global_step + 1, self.steps)
        return loss

    def on_train_epoch_end(self) -> None:
        """Scores the epoch on steering examples, keeps the best weights, stops where there is no hope."""
        loss = float(torch.stack(self._losses).mean())
        self._losses.clear()
        self.epochs_run += 1
        if not math.isfinite(loss):
            self.diverged = True
            self.trainer.should_stop = True
            return
        score = self._judge()
        if score > self.best_score:
            self.best_score, self.best_epoch = score, self.epochs_run
            self._best = {name: value.detach().clone() for name, value in self.model.named_parameters() if value.requires_grad}
        if self._after_epoch(self.epochs_run, loss, score):
            self.pruned = self.trainer.should_stop = True
        patience = self.settings.patience
        if patience is not None and self.epochs_run - self.best_epoch >= patience:
            self.trainer.should_stop = True

    def restore_best(self) -> None:
        """Gives the model the weights of its best epoch."""
        with torch.no_grad():
            for name, value in self.model.named_parameters():
                if name in self._best:
                    value.copy_(self._best[name])
        self._best = {}

    def configure_optimizers(self) -> Any:
        """AdamW; weights decay, biases and norms do not; the rate rises and falls linearly, and is lower for lower layers."""
        config = self.settings
        groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
        shares = layer_rates((name for name, _ in self.model.named_parameters()), config.layer_rate)
        for name, value in self.model.named_parameters():
            if value.requires_grad:
                share = config.head_rate if name in self._fresh else shares[name]
                groups.setdefault((share, value.dim() > 1), []).append(value)
        optimizer = torch.optim.AdamW(
            [
                {
                    "params": values,
                    "lr": config.learning_rate * share,
                    "weight_decay": config.weight_decay if decayed else 0.0,
                }
                for (share, decayed), values in groups.items()
            ],
            # Lightning does not clip the gradients of a fused optimiser in mixed precision.
            fused=self.trainer.precision == "32-true",
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: rate(min(step, self.steps - 1), self.steps, config.warmup)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def layer_rates(names: Iterable[str], layer_rate: float) -> dict[str, float]:
    """Returns the multiple of the rate of each parameter: 1 in the top layer and above, ``layer_rate`` times as much a layer below.

    Embeddings, and whatever else belongs to no layer but lies in the encoder, count as the layer below the lowest.

    Args:
        names: Of all parameters.
        layer_rate: In (0, 1]; 1 gives all layers the same rate.
    """
    found = {name: _LAYER.search(name) for name in names}
    numbers = {name: int(match.group(1)) for name, match in found.items() if match}
    top = max(numbers.values(), default=0)
    bottom = [name for name in found if name not in numbers and "embedding" in name]
    depths = {name: top - number for name, number in numbers.items()} | dict.fromkeys(bottom, top + 1)
    return {name: layer_rate ** depths.get(name, 0) for name in found}


def fit(module: FinetuningModule, device: str, precision: str) -> None:
    """Runs the loop with nothing of Lightning's that costs time here: no logger, bar, summary, sanity check or checkpoint."""
    with quiet("lightning"), warnings.catch_warnings(action="ignore"):
        trainer = lightning.Trainer(
            accelerator="auto" if device == "auto" else device,
            devices=1,
            precision={"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}.get(precision, precision),
            max_epochs=module.settings.epochs,
            gradient_clip_val=module.settings.clip or None,
            reload_dataloaders_every_n_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
        )
        trainer.fit(module)

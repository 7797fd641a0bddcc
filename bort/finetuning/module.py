"""The training loop of fine-tuning: a LightningModule for the steps and a callback for the epochs."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from bort.finetuning.batches import BatchSchedule
from bort.finetuning.classifier import Classifier
from bort.finetuning.decay import rate
from bort.finetuning.objective import Objective
from bort.observer import Observer, Quiet
from bort.runtime import quiet_lightning

#: The number of a layer in a parameter's name, in every family of encoders.
_LAYER = re.compile(r"\.(?:layers?|layer_modules|h)\.(\d+)\.")


class Pruner(Protocol):
    """Decides whether a trial of a search is given up."""

    def should_prune(self, epoch: int, steering: float) -> bool:
        """Record the steering score of an epoch and return whether the trial is hopeless."""


@dataclass(frozen=True)
class Reporting:
    """The receivers of a training's progress and scores.

    Args:
        label: Label of the progress.
        observer: Receives progress in steps and metrics by epoch.
        pruner: Receives every steering score; without one no training is pruned.
    """

    label: str
    observer: Observer = field(default_factory=Quiet)
    pruner: Pruner | None = None


class FinetuningModule(lightning.LightningModule):
    """The steps of a training: batches of similar length, their loss, AdamW.

    Args:
        classifier: The model and its data.
        objective: The loss.
        schedule: The batches.
    """

    def __init__(self, classifier: Classifier, objective: Objective, schedule: BatchSchedule) -> None:
        super().__init__()
        self.model, self.classifier, self.objective, self.schedule = classifier.model, classifier, objective, schedule

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the batches of the current epoch as arrays of indices; called for each epoch."""
        batches = self.schedule.epoch(self.current_epoch)
        return DataLoader(batches, batch_size=None, collate_fn=None, shuffle=False)  # type: ignore[arg-type]

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Leave indices where they are; the inputs made of them go to the device."""
        return batch

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the mean loss of one batch."""
        indices = np.asarray(batch)
        sequences, arrangement = self.classifier.train_split.pick(indices)
        return self.objective.loss(arrangement.gather(self.classifier.forward("train", sequences).float()), indices)

    def configure_optimizers(self) -> Any:
        """Return AdamW and its schedule: biases and norms do not decay, lower layers have lower learning rates."""
        config, steps = self.classifier.config, self.schedule.steps
        groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
        shares = layer_rates((name for name, _ in self.model.named_parameters()), config.layer_rate)
        for name, value in self.model.named_parameters():
            if value.requires_grad:
                share = config.head_rate if name in self.classifier.workspace.fresh else shares[name]
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
            # Lightning does not clip the gradients of a fused optimizer in mixed precision.
            fused=self.trainer.precision == "32-true",
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(min(step, steps - 1), steps, config.warmup))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class BestEpoch(lightning.Callback):
    """The epochs of a training: scores each on steering examples, keeps the best weights, stops if no epoch will be better.

    Args:
        reporting: Where to report to.
    """

    def __init__(self, reporting: Reporting) -> None:
        self._reporting = reporting
        self._losses: list[Tensor] = []
        self._weights: dict[str, Tensor] = {}
        self.curve: list[dict[str, float]] = []
        self.epochs, self.best_epoch, self.best_score = 0, 0, -math.inf
        self.diverged = self.pruned = False

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Mapping[str, Tensor], batch: Any, batch_idx: int) -> None:
        """Collect the loss and report progress."""
        self._losses.append(outputs["loss"])
        self._reporting.observer.progress(self._reporting.label, trainer.global_step, pl_module.schedule.steps)

    def on_train_epoch_end(self, trainer: Any, pl_module: FinetuningModule) -> None:
        """Score the epoch and decide whether it is the best and whether it is the last."""
        classifier, reporting = pl_module.classifier, self._reporting
        loss = float(torch.stack(self._losses).mean())
        self._losses.clear()
        self.epochs += 1
        if not math.isfinite(loss):
            self.diverged = trainer.should_stop = True
            return
        metric = classifier.workspace.task.primary
        steering = classifier.score("steering")[metric]
        self.curve.append({"epoch": self.epochs, "loss": loss, f"steering_{metric}": steering})
        reporting.observer.metrics({"loss": loss, f"steering_{metric}": steering}, self.epochs)
        if steering > self.best_score:
            self.best_score, self.best_epoch = steering, self.epochs
            trained = ((name, value) for name, value in classifier.model.named_parameters() if value.requires_grad)
            self._weights = {name: value.detach().clone() for name, value in trained}
        self.pruned = reporting.pruner is not None and reporting.pruner.should_prune(self.epochs, steering)
        patience = classifier.config.patience
        impatient = patience is not None and self.epochs - self.best_epoch >= patience
        if self.pruned or impatient:
            trainer.should_stop = True

    def restore(self, model: nn.Module) -> None:
        """Give the model the weights of the best epoch."""
        with torch.no_grad():
            for name, value in model.named_parameters():
                if name in self._weights:
                    value.copy_(self._weights[name])
        self._weights = {}


def fit(module: FinetuningModule, callback: BestEpoch) -> None:
    """Run the loop without a logger, progress bar, summary, sanity check or checkpoints of Lightning's."""
    config, workspace = module.classifier.config, module.classifier.workspace
    with quiet_lightning(), warnings.catch_warnings(action="ignore"):
        lightning.Trainer(
            accelerator={"cuda": "gpu"}.get(workspace.device.type, workspace.device.type),
            devices=1,
            precision="bf16-mixed" if workspace.impl.precision == "bf16" else "32-true",
            max_epochs=module.schedule.epochs,
            gradient_clip_val=config.clip or None,
            reload_dataloaders_every_n_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            callbacks=[callback],
        ).fit(module)


def layer_rates(names: Iterable[str], layer_rate: float) -> dict[str, float]:
    """Return the multiple of the learning rate of each parameter: 1 in the top layer, ``layer_rate`` times as much a layer below.

    Embeddings count as the layer below the lowest; the head and whatever lies above the layers has 1.

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

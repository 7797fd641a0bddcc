"""A masked-LM head for a teacher that has none: fitted on the corpus, on the frozen encoder or with all its layers."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from bort.checkpoints import CheckpointFolder, restore_optimizer, restore_weights, training_tensors
from bort.corpus.config import MaskingConfig
from bort.corpus.dataset import Corpus
from bort.corpus.masking import mask_blocks
from bort.corpus.order import BlockOrder
from bort.curve import Curve
from bort.errors import BortError
from bort.files import atomic_path, digest, file_digest, read_json, write_json
from bort.observer import Observer, Quiet
from bort.quiet import quiet
from bort.settings import check_settings
from bort.teacher.config import TeacherConfig
from bort.teacher.load import load_masked_lm, load_teacher, load_tokenizer
from bort.teacher.model import SplitHead, check_vocabulary

_CHUNK = 4096


def token_counts(corpus: Corpus, size: int) -> NDArray[np.float64]:
    """Returns how often each of ``size`` tokens stands in the train blocks, special tokens left out."""
    counts = np.zeros(size)
    for start in range(0, len(corpus.train), _CHUNK):
        counts += np.bincount(corpus.train[slice(start, start + _CHUNK)].ravel(), minlength=size)
    counts[[token for name, token in corpus.special.items() if name != "unk"]] = 0
    return counts


class Baselines:
    """Accuracy and cross-entropy of two answers that need no context, over masked positions.

    ``unigram`` always gives the train blocks' frequencies (with one added to each count) and answers the most frequent token.
    ``copy`` answers the token that stands at the position, and the most frequent one where that is the mask token. Its
    probabilities are the best that can be had from the position alone: where token x stands, by Bayes' rule from the shares of
    ``masking``, x was kept with weight f(x)·(keep + random/V), and any other y replaced by x with weight f(y)·random/V.

    Args:
        counts: How often each token stands in the train blocks, [V].
        masking: The shares of kept and of random tokens.
        special: Ids of the special tokens.
    """

    def __init__(self, counts: NDArray[np.float64], masking: MaskingConfig, special: Mapping[str, int]) -> None:
        self._frequencies = (counts + 1.0) / (counts + 1.0).sum()
        self._most_frequent = int(counts.argmax())
        self._mask = special["mask"]
        self._replaced = masking.random / (len(counts) - len(special))
        self._keep = masking.keep
        self._total = 0
        self._right = {"unigram": 0, "copy": 0}
        self._nats = {"unigram": 0.0, "copy": 0.0}

    def add(self, shown: NDArray[np.int64], labels: NDArray[np.int64]) -> None:
        """Counts the answers where ``shown`` stands and ``labels`` stood, both [B, K]."""
        frequencies = self._frequencies[labels]
        copied = np.where(shown == self._mask, self._most_frequent, shown)
        kept = self._frequencies[shown] * self._keep
        weight = frequencies * (self._replaced + self._keep * (shown == labels))
        with np.errstate(divide="ignore", invalid="ignore"):
            informed = np.where(shown == self._mask, frequencies, weight / (self._replaced + kept))
        self._total += labels.size
        for name, answer, probability in (
            ("unigram", np.full_like(labels, self._most_frequent), frequencies),
            ("copy", copied, informed),
        ):
            self._right[name] += int((answer == labels).sum())
            self._nats[name] -= float(np.log(probability).sum())

    def figures(self) -> dict[str, dict[str, float]]:
        """Returns accuracy and cross-entropy (nats a position) of each baseline."""
        total = self._total
        return {
            name: {
                "accuracy": self._right[name] / total if total else math.nan,
                "cross_entropy": self._nats[name] / total if total else math.nan,
            }
            for name in self._right
        }


MODEL = "model"

RECORD = "head.json"

CHECKPOINTS = "checkpoints"

SCHEMA = 1

#: Settings of the fit that change nothing of its result.
_FREE = ("missing", "log_every", "checkpoint_every")


def fit_identity(config: TeacherConfig, corpus: Corpus, masking: MaskingConfig) -> dict[str, Any]:
    """Returns what a fitted head is made from; the digest of this names the folder that it is kept in.

    Raises:
        BortError: The teacher cannot be read, or the corpus was tokenised by another tokenizer.
    """
    teacher = load_teacher(config)
    check_vocabulary(teacher, corpus.vocab_size, corpus.tokenizer_digest)
    settings = {name: value for name, value in asdict(config.head).items() if name not in _FREE}
    return {"teacher": teacher.digest, "corpus": corpus.digest, "masking": asdict(masking), "head": settings}


def fit_head(
    config: TeacherConfig,
    corpus: Corpus,
    masking: MaskingConfig,
    directory: Path | str,
    *,
    device: str = "cpu",
    observer: Observer | None = None,
) -> dict[str, Any]:
    """Fits a masked-LM head to a teacher by masked LM on the corpus, going on from the last good checkpoint in ``directory``.

    The head is the one of the teacher's family in transformers, its decoder tied to the word embedding; its bias starts at the
    logarithm of the tokens' frequencies, so that the first step already knows the unigram. There is no dropout: a fit rarely sees
    a block twice. Killed at any moment and called again, it ends with the same weights, bit for bit on one processor with the same
    number of threads.

    Args:
        config: The teacher and the settings of the fit.
        corpus: The blocks, tokenised by the teacher's tokenizer.
        masking: How they are masked; with the masks of epoch 0 for held-out blocks, as in distillation.
        directory: Gets ``model/`` (which ``AutoModelForMaskedLM`` reads), ``head.json`` and ``curve.jsonl``.
        device: Where it is trained.
        observer: Told of progress, curve and damaged files.

    Returns:
        The record, as in ``head.json``: held-out ``accuracy`` and ``cross_entropy`` (nats a masked token), ``accuracy_at_mask`` on
        the positions that show the mask token alone, the same of the ``unigram`` and ``copy`` baselines, and what it cost.

    Raises:
        BortError: The inputs do not go together, or training diverged.
        RecordError: ``directory`` holds a fit of other settings.
    """
    observer, directory = observer or Quiet(), Path(directory)
    check_settings(config, "teacher.head")
    check_settings(masking, "masking")
    identity = fit_identity(config, corpus, masking)
    made = _made(directory, identity, observer)
    if made is not None:
        return made
    if not (directory / CHECKPOINTS).exists():
        observer.warn(
            f"The teacher {config.path} has no masked-LM head: one is fitted in {config.head.steps} steps with "
            f"{'all layers' if config.head.train == 'all' else 'the head alone'} in training (teacher.head.…)."
        )
    fit = _Fit(config, corpus, masking, directory, device, observer, digest(identity))
    figures = fit.run()
    if figures.get("cross_entropy", math.inf) >= figures.get("baselines", {}).get("copy", {}).get("cross_entropy", math.inf):
        observer.warn(
            f"The fitted head knows no more ({figures['cross_entropy']:.2f} nats held out) than what stands at a position tells "
            f"({figures['baselines']['copy']['cross_entropy']:.2f}): a longer fit is needed (teacher.head.steps)."
        )
    with atomic_path(directory / MODEL) as temporary, quiet("transformers"):
        fit.model.cpu().save_pretrained(temporary)
        load_tokenizer(config).save_pretrained(temporary)
    record = {
        "schema": SCHEMA,
        "identity": identity,
        "digest": digest(identity),
        "weights": file_digest(directory / MODEL / "model.safetensors"),
        **figures,
        "steps": config.head.steps,
        "tokens": config.head.steps * config.head.batch_size * corpus.block_length,
        "trained": config.head.train,
        "seconds": fit.seconds,
        "processor_seconds": fit.processor_seconds,
        "curve": fit.points,
    }
    write_json(directory / RECORD, record)
    fit.checkpoints.clear()
    return record


def _made(directory: Path, identity: dict[str, Any], observer: Observer) -> dict[str, Any] | None:
    """Returns the record of a finished fit of this identity whose weights are whole."""
    if not (directory / RECORD).exists():
        return None
    record: dict[str, Any] = read_json(directory / RECORD)
    weights = directory / MODEL / "model.safetensors"
    if record.get("identity") != identity:
        return None
    if not weights.exists() or file_digest(weights) != record["weights"]:
        observer.warn(f"{weights} is missing or damaged; the head is fitted again.")
        return None
    return record


class _Fit:
    """One fit: a plain loop whose every step is a function of the step's number and of the state before it."""

    def __init__(
        self,
        config: TeacherConfig,
        corpus: Corpus,
        masking: MaskingConfig,
        directory: Path,
        device: str,
        observer: Observer,
        fingerprint: str,
    ) -> None:
        self.config, self.corpus, self.masking, self.device, self.observer = config.head, corpus, masking, device, observer
        self.directory = directory
        self.checkpoints = CheckpointFolder(directory / CHECKPOINTS, fingerprint)
        self.seconds = self.processor_seconds = 0.0
        self.points: list[dict[str, Any]] = []
        self.model, _ = load_masked_lm(config, seed=config.head.seed)
        self.model.eval().to(device)
        self.head = SplitHead(self.model)
        if not self.head.works():
            raise BortError(
                f"A head cannot be fitted to teacher.path={config.path}: the masked LM of its family has no plain decoder."
            )
        self.counts = token_counts(corpus, self.model.config.vocab_size)
        self.trained = self._prepare()
        count = min(len(corpus.train), self.config.blocks or len(corpus.train))
        self.order = BlockOrder(count, self.config.batch_size, self.config.seed)

    def run(self) -> dict[str, Any]:
        """Trains what is left to train and returns the held-out figures beside those of the baselines."""
        optimizer = self._optimizer()
        resumed = self.checkpoints.load(self.observer, self.config.steps)
        if resumed:
            restore_weights(self.model, resumed)
            restore_optimizer(self.model, optimizer, resumed)
            self.seconds, self.processor_seconds = resumed.state["seconds"], resumed.state["processor_seconds"]
        first = resumed.step if resumed else 0
        window: list[float] = list(resumed.state["window"]) if resumed else []
        curve = Curve(self.directory / "curve.jsonl", first)
        clock = time.perf_counter(), time.process_time()
        try:
            for step in range(first, self.config.steps):
                loss = self._step(step, optimizer)
                window.append(loss)
                done = step + 1
                self.observer.progress("head", done, self.config.steps, f"loss {loss:.3f}")
                if done % self.config.log_every == 0 or done == self.config.steps:
                    point = {"loss": sum(window) / len(window), "learning_rate": self.config.rate(step)}
                    window = []
                    curve.add(done, point)
                    self.observer.metrics(point, done)
                if done % self.config.checkpoint_every == 0 or done == self.config.steps:
                    now = time.perf_counter(), time.process_time()
                    self.seconds += now[0] - clock[0]
                    self.processor_seconds += now[1] - clock[1]
                    clock = now
                    curve.flush()
                    state = {"window": window, "seconds": self.seconds, "processor_seconds": self.processor_seconds}
                    self.checkpoints.save(done, training_tensors(self.model, optimizer), state)
            self.points = curve.points
        finally:
            curve.close()
        return self._measure()

    def _prepare(self) -> list[nn.Parameter]:
        """Starts the decoder's bias at the unigram, and frees the parameters that are trained."""
        self.model.requires_grad_(False)
        frequencies = (self.counts + 1.0) / (self.counts + 1.0).sum()
        with torch.no_grad():
            if self.head.decoder.bias is not None:
                self.head.decoder.bias.copy_(torch.from_numpy(np.log(frequencies)).float())
        own = [parameter for _, parameter in self.head.parameters()]
        trained = own if self.config.train == "head" else list(self.model.parameters())
        for parameter in trained:
            parameter.requires_grad_(True)
        return trained

    def _optimizer(self) -> torch.optim.Optimizer:
        decayed = [parameter for parameter in self.trained if parameter.ndim > 1]
        spared = [parameter for parameter in self.trained if parameter.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": self.config.weight_decay}, {"params": spared, "weight_decay": 0.0}]
        return torch.optim.AdamW([group for group in groups if group["params"]], lr=self.config.learning_rate, fused=True)

    def _step(self, step: int, optimizer: torch.optim.Optimizer) -> float:
        epochs, indices = self.order.batch(step)
        logits, labels, _ = self._predict(self.corpus.train[indices], indices, epochs)
        loss = functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        gradients = [parameter for parameter in self.trained if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in gradients if parameter.grad is not None])
        value = float(loss.detach())
        if not math.isfinite(value) or not math.isfinite(float(norm)):
            kept = self.checkpoints.steps()
            rest = f"the checkpoint of step {kept[-1]} is kept" if kept else "no checkpoint had been written"
            raise BortError(
                f"The fit of the head diverged at step {step + 1}; {rest}. Try a smaller teacher.head.learning_rate than "
                f"{self.config.learning_rate}."
            )
        if self.config.clip > 0:
            torch.nn.utils.clip_grads_with_norm_(gradients, self.config.clip, norm)
        for group in optimizer.param_groups:
            group["lr"] = self.config.rate(step)
        optimizer.step()
        return value

    def _predict(
        self, blocks: NDArray[np.int64], indices: NDArray[np.int64], epochs: NDArray[np.int64]
    ) -> tuple[Tensor, Tensor, NDArray[np.int64]]:
        """Returns logits [B, K, V], labels [B, K] and the tokens shown at the masked positions [B, K]."""
        masked = mask_blocks(blocks, indices, epochs, self.masking, self.corpus.special, self.corpus.vocab_size, self.corpus.words)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.train == "all"):
            hidden = self.model.base_model(input_ids=torch.from_numpy(masked.input_ids).to(self.device)).last_hidden_state
        positions = torch.from_numpy(masked.positions).to(self.device)
        chosen = hidden.gather(1, positions[..., None].expand(-1, -1, hidden.shape[-1]))
        shown = np.take_along_axis(masked.input_ids, masked.positions, axis=1)
        return self.head.logits(self.head.transform(chosen)), torch.from_numpy(masked.labels).to(self.device), shown

    @torch.no_grad()
    def _measure(self) -> dict[str, Any]:
        """Returns the held-out figures of the fitted head and of the baselines, over the same positions."""
        count = min(len(self.corpus.heldout), self.config.heldout_blocks or len(self.corpus.heldout))
        baselines = Baselines(self.counts, self.masking, self.corpus.special)
        right, masked_right, total, at_mask, entropy = 0, 0, 0, 0, 0.0
        for start in range(0, count, self.config.batch_size):
            indices = np.arange(start, min(start + self.config.batch_size, count))
            logits, labels, shown = self._predict(self.corpus.heldout[indices], indices, np.zeros_like(indices))
            hits = (logits.argmax(-1) == labels).cpu().numpy()
            hidden = shown == self.corpus.special["mask"]
            right, total = right + int(hits.sum()), total + hits.size
            masked_right, at_mask = masked_right + int(hits[hidden].sum()), at_mask + int(hidden.sum())
            entropy += float(functional.cross_entropy(logits.flatten(0, 1).double(), labels.flatten(), reduction="sum"))
            baselines.add(shown, labels.cpu().numpy())
            self.observer.progress("held out", start + len(indices), count)
        figures: dict[str, Any] = {"heldout_blocks": count, "heldout_positions": total}
        if total:
            figures |= {
                "accuracy": right / total,
                "accuracy_at_mask": masked_right / at_mask if at_mask else math.nan,
                "cross_entropy": entropy / total,
                "baselines": baselines.figures(),
            }
        return figures

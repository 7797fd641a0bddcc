"""The settings of a teacher, of the head that is fitted to it, and of its soft targets."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from bort.errors import ConfigurationError

#: What of the teacher is kept: its last layer's representations, or what its logits at the masked positions come from.
KINDS = ("representation", "logits")
#: How logits are kept.
FORMS = ("exact", "topk")
DTYPES = ("float16", "float32")
#: Encoders that count positions from the padding id upwards, as RoBERTa does; their students are RoBERTas.
ROBERTA_LIKE = (
    "camembert",
    "data2vec-text",
    "ibert",
    "longformer",
    "mpnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
)
#: The other encoders of transformers with a masked-LM class; their students are BERTs.
BERT_LIKE = (
    "albert",
    "bert",
    "big_bird",
    "convbert",
    "deberta",
    "deberta-v2",
    "distilbert",
    "electra",
    "ernie",
    "eurobert",
    "gte",
    "jina_embeddings_v3",
    "megatron-bert",
    "mobilebert",
    "modernbert",
    "nomic_bert",
    "nystromformer",
    "rembert",
    "roc_bert",
    "roformer",
    "squeezebert",
    "yoso",
)
#: The families that can teach, by transformers' ``model_type``, and the family of the student that learns from each.
FAMILIES = dict.fromkeys(ROBERTA_LIKE, "roberta") | dict.fromkeys(BERT_LIKE, "bert")


@dataclass
class HeadConfig:
    """What is done for a teacher without a masked-LM head where its logits are needed.

    Args:
        missing: ``fit`` gives it one, trained by masked LM on the corpus; ``refuse`` stops with a sentence.
        train: ``all`` trains every layer with the head, which changes the teacher; ``head`` trains the head alone on the frozen
            encoder, which for a sentence encoder hardly beats the unigram.
        steps: Steps of the fit.
        batch_size: Blocks in a step.
        learning_rate: Peak learning rate of AdamW; it falls linearly to 0 at the last step.
        warmup_steps: Steps over which the rate rises linearly.
        weight_decay: Decoupled weight decay; biases and norms are spared.
        clip: Largest global norm of the gradient; 0 leaves it as it is.
        blocks: So many of the first train blocks are used; null for all.
        heldout_blocks: So many of the first held-out blocks are measured on; null for all.
        seed: Seeds the head's random weights and the order of the blocks.
        log_every: Steps between two points of the curve.
        checkpoint_every: Steps between two checkpoints, from which a killed fit goes on.
    """

    missing: str = "fit"
    train: str = "all"
    steps: int = 400
    batch_size: int = 32
    learning_rate: float = 5e-4
    warmup_steps: int = 40
    weight_decay: float = 0.01
    clip: float = 1.0
    blocks: int | None = None
    heldout_blocks: int | None = 256
    seed: int = 0
    log_every: int = 10
    checkpoint_every: int = 50

    def check(self) -> None:
        """Checks every value on its own.

        Raises:
            ConfigurationError: A value cannot be used.
        """
        for name, known in (("missing", ("fit", "refuse")), ("train", ("all", "head"))):
            if getattr(self, name) not in known:
                raise ConfigurationError(f"teacher.head.{name}", getattr(self, name), f"use {' or '.join(known)}")
        least = {"steps": 1, "batch_size": 1, "warmup_steps": 0, "seed": 0, "log_every": 1, "checkpoint_every": 1}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                accepted = f"a whole number of at least {smallest} is accepted"
                raise ConfigurationError(f"teacher.head.{name}", getattr(self, name), accepted)
        for name in ("blocks", "heldout_blocks"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigurationError(f"teacher.head.{name}", value, "null or a whole number of at least 1 is accepted")
        if not 0 < self.learning_rate < math.inf:
            raise ConfigurationError("teacher.head.learning_rate", self.learning_rate, "a number above 0 is accepted")
        for name in ("weight_decay", "clip"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigurationError(f"teacher.head.{name}", getattr(self, name), "a number of at least 0 is accepted")

    def rate(self, step: int) -> float:
        """Returns the learning rate of step ``step``, counted from 0."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        return self.learning_rate * (self.steps - step) / max(1, self.steps - self.warmup_steps)


@dataclass
class TeacherConfig:
    """Which encoder teaches.

    Args:
        name: The teacher's name in records and reports.
        path: A directory in the layout of transformers, or a hub id (``owner/name``).
        revision: For a hub id, the commit that is read.
        head: What is done where a masked-LM head is needed and there is none.
    """

    name: str = "directory"
    path: str = ""
    revision: str | None = None
    head: HeadConfig = field(default_factory=HeadConfig)

    def check(self) -> None:
        """Checks that a teacher is named.

        Raises:
            ConfigurationError: There is no path, or a setting of the head cannot be used.
        """
        if not self.path:
            raise ConfigurationError("teacher.path", self.path, "name a directory in the layout of transformers, or a hub id")
        self.head.check()

    def check_family(self, model_type: str) -> None:
        """Checks that a model of transformers' ``model_type`` can teach.

        Raises:
            ConfigurationError: It is no encoder with a masked-LM class.
        """
        if model_type not in FAMILIES:
            accepted = f"it is a '{model_type}' model, and encoders of these types can teach: {', '.join(sorted(FAMILIES))}"
            raise ConfigurationError("teacher.path", self.path, accepted)


@dataclass
class TargetConfig:
    """Which soft targets are kept, and for how many blocks.

    Args:
        kind: ``representation`` keeps the last hidden state, and what the last layer's queries, keys and values come from, at every
            position of the unmasked block; ``logits`` keeps what the logits at the masked positions of the masked block come from;
            ``both`` keeps both; null keeps what the loss needs.
        form: How logits are kept. ``exact``: the head's transformed hidden state, from which one product gives them back;
            ``topk``: the largest logits and a sample of the others, unbiased on average. A teacher whose head cannot be cut before
            its decoder gets ``topk``.
        top_k: For ``topk``, how many of the largest logits are kept.
        tail_samples: For ``topk``, how many of the others are drawn.
        temperature: For ``topk``, the temperature of the distribution they are drawn from; null for the loss's.
        blocks: So many of the first train blocks; null for all.
        heldout_blocks: So many of the first held-out blocks; null for all.
        epochs: For ``logits``, the epochs whose masks are covered. Representations do not depend on the epoch.
        dtype: ``float16`` or ``float32``.
    """

    kind: str | None = None
    form: str = "exact"
    top_k: int = 32
    tail_samples: int = 32
    temperature: float | None = None
    blocks: int | None = None
    heldout_blocks: int | None = None
    epochs: int = 1
    dtype: str = "float16"

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds apart: ``representation``, ``logits`` or the two; representations where none is named."""
        return KINDS if self.kind == "both" else (self.kind or "representation",)

    def for_loss(self, kind: str | None, temperature: float) -> TargetConfig:
        """Returns these settings with what a loss needs in the place of what is left open.

        Args:
            kind: The kind of targets of the loss; none for masked LM alone.
            temperature: Its temperature.
        """
        return replace(self, kind=self.kind or kind, temperature=temperature if self.temperature is None else self.temperature)

    def check(self) -> None:
        """Checks every value on its own.

        Raises:
            ConfigurationError: A value cannot be used.
        """
        if self.kind is not None and self.kind not in (*KINDS, "both"):
            raise ConfigurationError(
                "targets.kind", self.kind, f"use one of {', '.join(KINDS)} and both, or null for what the loss needs"
            )
        if self.form not in FORMS:
            raise ConfigurationError("targets.form", self.form, f"use one of {', '.join(FORMS)}")
        for name in ("top_k", "tail_samples", "epochs"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"targets.{name}", getattr(self, name), "a whole number of at least 1 is accepted")
        if self.temperature is not None and not 0 < self.temperature < math.inf:
            raise ConfigurationError("targets.temperature", self.temperature, "null or a number above 0 is accepted")
        if self.blocks is not None and self.blocks < 1:
            raise ConfigurationError("targets.blocks", self.blocks, "null or a whole number of at least 1 is accepted")
        if self.heldout_blocks is not None and self.heldout_blocks < 0:
            raise ConfigurationError(
                "targets.heldout_blocks", self.heldout_blocks, "null or a whole number of at least 0 is accepted"
            )
        if self.dtype not in DTYPES:
            raise ConfigurationError("targets.dtype", self.dtype, f"use one of {', '.join(DTYPES)}")

"""Settings of a teacher, of the head fitted to it, and of its soft targets."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated

from annotated_types import Ge, Gt

from bort.errors import ConfigurationError
from bort.settings import OneOf

#: Cached outputs of the teacher: its last layer's representations, or the inputs of its logits at the masked positions.
KINDS = ("representation", "logits")
#: Forms of cached logits.
FORMS = ("exact", "topk")
DTYPES = ("float16", "float32")
#: Encoders whose positions start after the padding id, as RoBERTa's do; their students are RoBERTas.
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
#: The family of the student by the teacher's ``model_type``, for every type that can teach.
FAMILIES = dict.fromkeys(ROBERTA_LIKE, "roberta") | dict.fromkeys(BERT_LIKE, "bert")


def provides(kind: str | None, needed: str) -> bool:
    """Return whether targets of ``kind`` (``None`` without targets) hold those of kind ``needed``."""
    return kind in (needed, "both")


@dataclass
class HeadConfig:
    """Treatment of a teacher without a masked-LM head if its logits are needed."""

    missing: Annotated[str, OneOf("fit", "refuse")] = "fit"
    """``fit`` trains a head by masked LM on the corpus; ``refuse`` stops with an error."""

    train: Annotated[str, OneOf("all", "head")] = "all"
    """``all`` trains every layer with the head, which changes the teacher; ``head`` trains the head alone on
    the frozen encoder, which for a sentence encoder barely beats the unigram baseline.
    """

    steps: Annotated[int, Ge(1)] = 400
    """Steps of the fit."""

    batch_size: Annotated[int, Ge(1)] = 32
    """Blocks in a step."""

    learning_rate: Annotated[float, Gt(0)] = 5e-4
    """Peak learning rate of AdamW; it falls linearly to 0 at the last step."""

    warmup_steps: Annotated[int, Ge(0)] = 40
    """Steps over which the learning rate rises linearly."""

    weight_decay: Annotated[float, Ge(0)] = 0.01
    """Decoupled weight decay; biases and norms are exempt."""

    clip: Annotated[float, Ge(0)] = 1.0
    """Largest global norm of the gradient; 0 turns clipping off."""

    blocks: Annotated[int, Ge(1)] | None = None
    """Number of train blocks, from the first; ``null`` for all."""

    heldout_blocks: Annotated[int, Ge(1)] | None = 256
    """Number of held-out blocks for metrics, from the first; ``null`` for all."""

    seed: Annotated[int, Ge(0)] = 0
    """Seed of the head's random weights and of the order of the blocks."""

    log_every: Annotated[int, Ge(1)] = 10
    """Steps between two points of the curve."""

    checkpoint_every: Annotated[int, Ge(1)] = 50
    """Steps between two checkpoints, from which a killed fit resumes."""

    def rate(self, step: int) -> float:
        """Returns the learning rate of step ``step``, counted from 0."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        return self.learning_rate * (self.steps - step) / max(1, self.steps - self.warmup_steps)


@dataclass
class TeacherConfig:
    """The encoder that teaches."""

    name: str = "directory"
    """Name of the teacher in records and reports."""

    path: str = ""
    """A directory in the layout of transformers, or a hub id (``owner/name``)."""

    revision: str | None = None
    """For a hub id, the commit."""

    head: HeadConfig = field(default_factory=HeadConfig)
    """Treatment of a missing masked-LM head if one is needed."""

    def check(self, key: str) -> None:
        """Refuse a teacher without a path."""
        if not self.path:
            accepted = "a directory in the layout of transformers, or a hub id"
            raise ConfigurationError(f"{key}.path", self.path, accepted)

    def check_family(self, model_type: str) -> None:
        """Checks that a model of transformers' ``model_type`` can teach.

        Raises:
            ConfigurationError: It is no encoder with a masked-LM class.
        """
        if model_type not in FAMILIES:
            accepted = f"an encoder of one of these types, not a '{model_type}' model: {', '.join(sorted(FAMILIES))}"
            raise ConfigurationError("teacher.path", self.path, accepted)


@dataclass
class TargetConfig:
    """Kind, form and number of the cached soft targets."""

    kind: Annotated[str, OneOf(*KINDS, "both")] | None = None
    """``representation`` caches the last hidden state, and the inputs of the last layer's queries, keys and
    values, at every position of the unmasked block; ``logits`` caches the inputs of the logits at the masked
    positions of the masked block; ``both`` caches both; ``null`` caches what the loss needs.
    """

    form: Annotated[str, OneOf(*FORMS)] = "exact"
    """Form of cached logits. ``exact``: the head's transformed hidden state, from which one product restores
    them; ``topk``: the largest logits and a sample of the others, unbiased on average. A teacher whose head
    cannot be cut before its decoder gets ``topk``.
    """

    top_k: Annotated[int, Ge(1)] = 32
    """For ``topk``, the number of largest logits."""

    tail_samples: Annotated[int, Ge(1)] = 32
    """For ``topk``, the number of samples from the others."""

    temperature: Annotated[float, Gt(0)] | None = None
    """For ``topk``, the temperature of the sampling distribution; ``null`` for the loss's."""

    blocks: Annotated[int, Ge(1)] | None = None
    """Number of train blocks, from the first; ``null`` for all."""

    heldout_blocks: Annotated[int, Ge(0)] | None = None
    """Number of held-out blocks, from the first; ``null`` for all."""

    epochs: Annotated[int, Ge(1)] = 1
    """For ``logits``, the number of epochs whose masks are covered. Representations do not depend on the
    epoch.
    """

    dtype: Annotated[str, OneOf(*DTYPES)] = "float16"
    """``float16`` or ``float32``."""

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

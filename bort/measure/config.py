"""What a latency benchmark measures, and how often."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge, Gt, Interval, MinLen

from bort.settings import DISTINCT, OneOf

#: Backends by name: PyTorch as it comes, and through torch.compile; ONNX Runtime on the exported model, and on its int8 form;
#: PyTorch on a GPU, in float32 and in bfloat16.
BACKENDS = ("eager", "compile", "onnx", "int8", "cuda", "cuda_bf16")
_Backends = Annotated[list[Annotated[str, OneOf(*BACKENDS)]], MinLen(1), DISTINCT]
PARTS = ("encoder", "whole")
MIXES = ("sentences", "pairs", "paragraphs")


@dataclass
class BenchmarkConfig:
    """How models are timed.

    Every pair of model and backend is a series. Models are measured one after another, each with all its series and the reference
    beside them: in each round every one is called once, in an order drawn for that round, so that whatever the machine is doing
    falls on all of them alike; a call that is not timed goes right before each that is, so that caches are as if it ran alone.
    """

    models: Annotated[list[str], MinLen(1), DISTINCT] = field(default_factory=lambda: ["teacher", "student"])
    """What to time: ``teacher`` and ``student`` of the run, published names, shapes, directories of models
    and of exports, ONNX files.
    """

    backends: _Backends = field(default_factory=lambda: ["eager", "onnx"])
    """Any of ``eager``, ``compile``, ``onnx``, ``int8``, ``cuda`` and ``cuda_bf16``."""

    part: Annotated[str, OneOf(*PARTS)] = "encoder"
    """``encoder`` times embeddings and layers without any head, so that models with different heads compare;
    ``whole`` times the model with the head it was saved with.
    """

    batch: Annotated[list[Annotated[int, Ge(1)]], MinLen(1)] = field(default_factory=lambda: [1])
    """Sequences in one call; each value is measured with each sequence length."""

    sequence_length: Annotated[list[Annotated[int, Ge(1)]], MinLen(1)] = field(default_factory=lambda: [128])
    """Tokens of each sequence, special tokens included, none of them padding."""

    repeats: Annotated[int, Ge(2)] = 50
    """Rounds of each cell of the grid."""

    warmup: Annotated[int, Ge(0)] = 5
    """Rounds before them that do not count."""

    seconds: Annotated[float, Gt(0)] | None = None
    """Time after which a cell ends early, provided it has five rounds; null for no limit."""

    threads: Annotated[int, Ge(1)] | None = None
    """Threads of each backend; null for all processors that the process may use."""

    reference: str | None = None
    """The model that the others are compared with; null for the first. On the first of the backends it is
    measured beside every other model.
    """

    over: Annotated[list[str], DISTINCT] = field(default_factory=list)
    """Further models to compare with, by way of the reference."""

    mixes: Annotated[list[Annotated[str, OneOf(*MIXES)]], DISTINCT] = field(default_factory=list)
    """Mixes of lengths in which the models also serve a batch of requests, any of ``sentences``, ``pairs``
    and ``paragraphs``; in ONNX Runtime, with and without paying for padding.
    """

    requests: Annotated[int, Ge(2)] = 32
    """Sequences of such a batch."""

    confidence: Annotated[float, Interval(gt=0, lt=1)] = 0.95
    """Level of the bootstrap intervals."""

    resamples: Annotated[int, Ge(100)] = 1000
    """Bootstrap resamples."""

    seed: Annotated[int, Ge(0)] = 0
    """Seed of the token ids, the order of the series and the bootstrap."""

"""Settings of a latency benchmark."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge, Gt, Interval, MinLen

from bort.settings import DISTINCT, OneOf

#: PyTorch eager and compiled; ONNX Runtime on the exported model and on its int8 form; PyTorch on a GPU in float32 and in bfloat16.
BACKENDS = ("eager", "compile", "onnx", "int8", "cuda", "cuda_bf16")
_Backends = Annotated[list[Annotated[str, OneOf(*BACKENDS)]], MinLen(1), DISTINCT]
PARTS = ("encoder", "whole")
MIXES = ("sentences", "pairs", "paragraphs")


@dataclass
class BenchmarkConfig:
    """The timing of models.

    Every pair of model and backend is a series. Models are measured one after another, each with all its series and beside the
    reference: in each round every series is called once, in an order drawn for that round, so that the load of the machine affects
    all of them alike; an untimed call precedes each timed one, so that caches are as if the series ran alone.
    """

    models: Annotated[list[str], MinLen(1), DISTINCT] = field(default_factory=lambda: ["teacher", "student"])
    """Models to time: ``teacher`` and ``student`` of the run, published names, shapes, directories of models
    and of exports, ONNX files.
    """

    backends: _Backends = field(default_factory=lambda: ["eager", "onnx"])
    """Any of ``eager``, ``compile``, ``onnx``, ``int8``, ``cuda`` and ``cuda_bf16``."""

    part: Annotated[str, OneOf(*PARTS)] = "encoder"
    """``encoder`` times embeddings and layers without any head, so that models with different heads compare;
    ``whole`` times the model with its saved head.
    """

    batch: Annotated[list[Annotated[int, Ge(1)]], MinLen(1)] = field(default_factory=lambda: [1])
    """Sequences in one call; each value is measured with each sequence length."""

    sequence_length: Annotated[list[Annotated[int, Ge(1)]], MinLen(1)] = field(default_factory=lambda: [128])
    """Tokens of each sequence, special tokens included, without padding."""

    repeats: Annotated[int, Ge(2)] = 50
    """Rounds of each cell of the grid."""

    warmup: Annotated[int, Ge(0)] = 5
    """Untimed rounds before them."""

    seconds: Annotated[float, Gt(0)] | None = None
    """Time in seconds after which a cell ends early, provided it has five rounds; ``null`` for no limit."""

    threads: Annotated[int, Ge(1)] | None = None
    """Threads of each backend; ``null`` for all processors that the process may use."""

    reference: str | None = None
    """The model that the others are compared with; ``null`` for the first. On the first of the backends it is
    measured beside every other model.
    """

    over: Annotated[list[str], DISTINCT] = field(default_factory=list)
    """Further models to compare with, through the reference."""

    mixes: Annotated[list[Annotated[str, OneOf(*MIXES)]], DISTINCT] = field(default_factory=list)
    """Mixes of lengths in which the models also serve a batch of requests, any of ``sentences``, ``pairs``
    and ``paragraphs``; in ONNX Runtime, with and without computing padding.
    """

    requests: Annotated[int, Ge(2)] = 32
    """Sequences of such a batch."""

    confidence: Annotated[float, Interval(gt=0, lt=1)] = 0.95
    """Level of the bootstrap intervals."""

    resamples: Annotated[int, Ge(100)] = 1000
    """Bootstrap resamples."""

    seed: Annotated[int, Ge(0)] = 0
    """Seed of the token ids, the order of the series and the bootstrap."""

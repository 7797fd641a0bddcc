"""What a latency benchmark measures, and how often."""

from __future__ import annotations

from dataclasses import dataclass, field

from bort.errors import ConfigurationError

#: Backends by name: PyTorch as it comes, and through torch.compile; ONNX Runtime on the exported model, and on its int8 form;
#: PyTorch on a GPU, in float32 and in bfloat16.
BACKENDS = ("eager", "compile", "onnx", "int8", "cuda", "cuda_bf16")
PARTS = ("encoder", "whole")
MIXES = ("sentences", "pairs", "paragraphs")


@dataclass
class BenchmarkConfig:
    """How models are timed.

    Every pair of model and backend is a series. Models are measured one after another, each with all its series and the reference
    beside them: in each round every one is called once, in an order drawn for that round, so that whatever the machine is doing
    falls on all of them alike; a call that is not timed goes right before each that is, so that caches are as if it ran alone.

    Args:
        models: What to time: ``teacher`` and ``student`` of the run, published names, shapes, directories of models and of exports,
            ONNX files.
        backends: Any of ``eager``, ``compile``, ``onnx``, ``int8``, ``cuda`` and ``cuda_bf16``.
        part: ``encoder`` times embeddings and layers without any head, so that models with different heads compare; ``whole`` times
            the model with the head it was saved with.
        batch: Sequences in one call; each value is measured with each sequence length.
        sequence_length: Tokens of each sequence, special tokens included, none of them padding.
        repeats: Rounds of each cell of the grid.
        warmup: Rounds before them that do not count.
        seconds: Time after which a cell ends early, provided it has five rounds; null for no limit.
        threads: Threads of each backend; null for all processors that the process may use.
        reference: The model that the others are compared with; null for the first. On the first of the backends it is measured
            beside every other model.
        over: Further models to compare with, by way of the reference.
        mixes: Mixes of lengths in which the models also serve a batch of requests, any of ``sentences``, ``pairs`` and
            ``paragraphs``; in ONNX Runtime, with and without paying for padding.
        requests: Sequences of such a batch.
        confidence: Level of the bootstrap intervals.
        resamples: Bootstrap resamples.
        seed: Seed of the token ids, the order of the series and the bootstrap.
    """

    models: list[str] = field(default_factory=lambda: ["teacher", "student"])
    backends: list[str] = field(default_factory=lambda: ["eager", "onnx"])
    part: str = "encoder"
    batch: list[int] = field(default_factory=lambda: [1])
    sequence_length: list[int] = field(default_factory=lambda: [128])
    repeats: int = 50
    warmup: int = 5
    seconds: float | None = None
    threads: int | None = None
    reference: str | None = None
    over: list[str] = field(default_factory=list)
    mixes: list[str] = field(default_factory=list)
    requests: int = 32
    confidence: float = 0.95
    resamples: int = 1000
    seed: int = 0

    def check(self) -> None:
        """Refuses settings that cannot be measured.

        Raises:
            ConfigurationError: The first setting that cannot be used.
        """
        if not self.models:
            accepted = "at least one model is needed: teacher, student, a published name, a shape, a directory or an .onnx file"
            raise ConfigurationError("benchmark.models", "[]", accepted)
        for key in ("models", "backends", "over", "mixes"):
            values = getattr(self, key)
            if len(set(values)) < len(values):
                raise ConfigurationError(f"benchmark.{key}", values, "each may be named once")
        for backend in self.backends:
            if backend not in BACKENDS:
                raise ConfigurationError("benchmark.backends", backend, f"any of {', '.join(BACKENDS)} are accepted")
        if not self.backends:
            raise ConfigurationError("benchmark.backends", "[]", f"at least one of {', '.join(BACKENDS)} is needed")
        if self.part not in PARTS:
            raise ConfigurationError("benchmark.part", self.part, f"one of {', '.join(PARTS)} is accepted")
        for key in ("batch", "sequence_length"):
            values = getattr(self, key)
            if not values or min(values) < 1:
                raise ConfigurationError(f"benchmark.{key}", values, "a list of whole numbers of at least 1 is accepted")
        for mix in self.mixes:
            if mix not in MIXES:
                raise ConfigurationError("benchmark.mixes", mix, f"any of {', '.join(MIXES)} are accepted")
        for key, least in (("requests", 2), ("repeats", 2), ("warmup", 0), ("resamples", 100), ("seed", 0)):
            if getattr(self, key) < least:
                raise ConfigurationError(f"benchmark.{key}", getattr(self, key), f"a whole number of at least {least} is accepted")
        if self.threads is not None and self.threads < 1:
            raise ConfigurationError("benchmark.threads", self.threads, "a whole number of at least 1, or null, is accepted")
        if self.seconds is not None and not self.seconds > 0:
            raise ConfigurationError("benchmark.seconds", self.seconds, "a number above 0, or null, is accepted")
        if not 0 < self.confidence < 1:
            raise ConfigurationError("benchmark.confidence", self.confidence, "a number between 0 and 1 is accepted")

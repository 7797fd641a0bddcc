"""What a forward pass can be run with, each behind the same interface: PyTorch, compiled, ONNX Runtime, int8, a GPU.

A backend says whether this machine has what it needs, and turns a model into a function from token ids and mask to the model's
first output. :data:`BACKENDS` holds all of them by name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bort.errors import BortError, ConfigurationError, first_line
from bort.measure.runtime import feed, open_session, require_onnx
from bort.model_facts import first_output
from bort.quiet import quiet

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

Ids = NDArray[np.int64]
#: Turns a model in memory into an ONNX file: ``bort.export.onnx_file`` fits.
Converter = Callable[["PreTrainedModel", Path], object]
#: Turns an ONNX file into one of int8: ``bort.export.convert.quantise`` fits.
Quantiser = Callable[[Path, Path], object]


@dataclass(frozen=True)
class Forms:
    """What there is of one model, and how to make what is missing.

    Args:
        name: The model's name, for messages.
        model: The model in memory, in evaluation mode; None where there is only a file.
        onnx: Its ONNX file in float32, where there is one already.
        int8: Its int8 file, where there is one already.
        folder: Where files that are made go.
        converter: Makes ONNX files.
        quantiser: Makes int8 files.
    """

    name: str
    model: PreTrainedModel | None
    folder: Path
    onnx: Path | None = None
    int8: Path | None = None
    converter: Converter | None = None
    quantiser: Quantiser | None = None

    def full(self) -> Path:
        """Returns the ONNX file in float32, made if need be."""
        if self.onnx is not None:
            return self.onnx
        path = self.folder / f"{_plain(self.name)}.onnx"
        if not path.is_file():
            if self.converter is None or self.model is None:
                raise BortError(f"{self.name} has no ONNX file: export it first, or take onnx and int8 out of benchmark.backends.")
            self.converter(self.model, path)
        return path

    def small(self) -> Path:
        """Returns the int8 file, made if need be."""
        if self.int8 is not None:
            return self.int8
        path = self.folder / f"{_plain(self.name)}_int8.onnx"
        if not path.is_file():
            if self.quantiser is None:
                raise BortError(f"{self.name} has no int8 file: export it first, or take int8 out of benchmark.backends.")
            self.quantiser(self.full(), path)
        return path


@dataclass(frozen=True)
class Forward:
    """A model ready to run.

    Args:
        run: One forward pass over token ids and attention mask [B, S]; returns when the work is done.
        array: Turns what ``run`` returned into the model's first output.
        file: The file that is run, where one is.
    """

    run: Callable[[Ids, Ids], Any]
    array: Callable[[Any], NDArray[np.float32]]
    file: Path | None = None

    def __call__(self, input_ids: Ids, attention_mask: Ids | None = None) -> NDArray[np.float32]:
        """Returns the first output; without a mask, for sequences without padding."""
        return self.array(self.run(input_ids, np.ones_like(input_ids) if attention_mask is None else attention_mask))


class Backend(ABC):
    """One way of running a model.

    Args:
        name: Its name in ``benchmark.backends``.
    """

    #: Where the work is done, ``cpu`` or ``cuda``.
    device = "cpu"

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def require(self) -> None:
        """Makes sure that this machine has what the backend needs.

        Raises:
            BortError: It lacks something; the message says what.
        """

    @abstractmethod
    def prepare(self, forms: Forms, threads: int) -> Forward:
        """Makes a model ready to run.

        Args:
            forms: The model.
            threads: Threads of runtimes that are told so model by model; PyTorch's are the caller's to set.

        Raises:
            BortError: The model has no form that this backend runs.
        """


class Torch(Backend):
    """A transformers model as PyTorch runs it.

    Args:
        name: Its name.
        device: ``cpu`` or ``cuda``.
        precision: ``float32`` or ``bfloat16``; weights are converted, outputs are float32 again when read.
    """

    def __init__(self, name: str, device: str = "cpu", precision: str = "float32") -> None:
        super().__init__(name)
        self.device, self.precision = device, precision

    def require(self) -> None:
        """Makes sure that there is a GPU, where one is needed."""
        if self.device == "cuda":
            with quiet("transformers", everything=True):
                import torch

            if not torch.cuda.is_available():
                raise ConfigurationError(
                    "benchmark.backends", self.name, "another backend: this machine has no GPU that PyTorch can use"
                )

    def prepare(self, forms: Forms, threads: int) -> Forward:
        """Returns the model's own forward pass; on a GPU, of a copy there."""
        import torch

        model = _in_memory(forms, self.name)
        if self.device != "cpu":
            from copy import deepcopy

            model = deepcopy(model).to(device=self.device, dtype=getattr(torch, self.precision))
        return Forward(self._runner(model), _array)

    def _runner(self, model: PreTrainedModel) -> Callable[[Ids, Ids], Any]:
        import torch

        device = self.device

        def run(input_ids: Ids, attention_mask: Ids) -> Tensor:
            with torch.inference_mode():
                inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
                output = first_output(model, {name: torch.from_numpy(values).to(device) for name, values in inputs.items()})
                if device == "cuda":
                    # Calls only queue the work; what is timed ends when it is done.
                    torch.cuda.synchronize()
                return output

        return run


class Compiled(Torch):
    """The same through ``torch.compile``, compiled for each batch and length by itself."""

    def require(self) -> None:
        """Makes sure that there is a compiler for the code that PyTorch writes."""
        super().require()
        with quiet("transformers", everything=True):
            from torch._inductor import cpp_builder, exc

            try:
                cpp_builder.get_cpp_compiler()
            except exc.InvalidCxxCompiler as error:
                accepted = (
                    "another backend, unless g++ or clang is installed: torch.compile needs a C++ compiler, and none was found"
                )
                raise ConfigurationError("benchmark.backends", self.name, accepted) from error

    def prepare(self, forms: Forms, threads: int) -> Forward:
        """Returns the compiled model; each new batch and length is compiled at its first call."""
        import torch

        model = _in_memory(forms, self.name)
        # What was compiled before counts against a limit, beyond which PyTorch silently compiles no more.
        torch._dynamo.reset()

        def forward(input_ids: Tensor, attention_mask: Tensor) -> Tensor:
            return first_output(model, {"input_ids": input_ids, "attention_mask": attention_mask})

        compiled = torch.compile(forward, dynamic=False, fullgraph=True)

        def run(input_ids: Ids, attention_mask: Ids) -> Any:
            with torch.inference_mode(), torch._dynamo.config.patch(recompile_limit=1 << 20, accumulated_recompile_limit=1 << 20):
                try:
                    return compiled(torch.from_numpy(input_ids), torch.from_numpy(attention_mask))
                except (torch._dynamo.exc.TorchDynamoException, torch._inductor.exc.InductorError) as error:
                    raise BortError(f"{forms.name} cannot be compiled by torch.compile: {first_line(error)}") from error

        return Forward(run, _array)


class Onnx(Backend):
    """ONNX Runtime on the processor.

    Args:
        name: Its name.
        int8: Whether the int8 form is run, embeddings and products in 8 bits, or that in float32.
    """

    def __init__(self, name: str, *, int8: bool = False) -> None:
        super().__init__(name)
        self.int8 = int8

    def require(self) -> None:
        """Makes sure that the ``export`` extra is installed."""
        require_onnx()

    def prepare(self, forms: Forms, threads: int) -> Forward:
        """Returns a session's call."""
        path = forms.small() if self.int8 else forms.full()
        session = open_session(path, threads)

        def run(input_ids: Ids, attention_mask: Ids) -> Any:
            return session.run(None, feed(session, input_ids, attention_mask))[0]

        return Forward(run, lambda output: output, path)


BACKENDS: dict[str, Backend] = {
    "eager": Torch("eager"),
    "compile": Compiled("compile"),
    "onnx": Onnx("onnx"),
    "int8": Onnx("int8", int8=True),
    "cuda": Torch("cuda", "cuda"),
    "cuda_bf16": Torch("cuda_bf16", "cuda", "bfloat16"),
}


def _in_memory(forms: Forms, backend: str) -> PreTrainedModel:
    if forms.model is None:
        raise BortError(f"{forms.name} is an ONNX file, which {backend} cannot run: give a model directory, or use onnx or int8.")
    return forms.model


def _array(output: Tensor) -> NDArray[np.float32]:
    values: NDArray[np.float32] = output.float().cpu().numpy()
    return values


def _plain(name: str) -> str:
    """Returns a model's name as a file's."""
    return "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in name)

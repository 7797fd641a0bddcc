"""From torch to ONNX, from ONNX to what ONNX Runtime makes of it, and to int8."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bort.errors import BortError, ConfigurationError, first_line
from bort.export.config import ExportConfig
from bort.files import atomic_path
from bort.measure.models import tells_texts_apart
from bort.measure.runtime import POSITIONS_KEY, TOKEN_TYPES, VOCABULARY_KEY, open_session, require_onnx
from bort.model_facts import first_output, usable_positions
from bort.quiet import quiet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import PreTrainedModel

#: A protobuf file ends at 2 GiB; the graph around the weights needs little.
_LARGEST = 2_000_000_000
#: The operators whose weights are quantised. The embedding is most of a small encoder's file.
EMBEDDING, EVERYTHING = ("Gather",), ("MatMul", "Gather")


def onnx_file(
    model: PreTrainedModel, path: Path | str, *, opset: int = ExportConfig.opset, token_types: bool | None = None
) -> None:
    """Writes an encoder, masked-LM model, sequence classifier or multiple-choice model as ONNX with dynamic batch and length.

    The graph takes ``input_ids`` and ``attention_mask``, and ``token_type_ids`` where token types are told, all
    [B, S], and gives the model's first output: ``last_hidden_state`` [B, S, H], or ``logits`` [B, S, V] or [B, C]; of a
    multiple-choice model [B, 1], one for each option.

    Args:
        model: The model, in evaluation mode.
        path: The file to write.
        opset: ONNX operator set.
        token_types: Whether token types are told, or zero throughout; by default they are where the model has more than one.

    Raises:
        BortError: The packages of the ``export`` extra are missing, the model is larger than one ONNX file can be, or it has
            operations that cannot be exported.
        ConfigurationError: The operator set is none that the exporter can write.
    """
    require_onnx()
    size = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    if size > _LARGEST:
        raise BortError(f"A model of {size / 1e9:.1f} GB does not fit into one ONNX file, which ends at 2 GB.")
    with quiet("transformers", everything=True), _plain_attention(model):
        import torch

        class FirstOutput(torch.nn.Module):
            """Fixes the names and the order of the inputs, and leaves out every output but the first."""

            def __init__(self) -> None:
                super().__init__()
                self.model = model

            def forward(
                self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None = None
            ) -> torch.Tensor:
                inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
                return first_output(self.model, inputs if token_type_ids is None else {**inputs, TOKEN_TYPES: token_type_ids})

        # Sizes of 0 and 1 would be taken for constants; different sizes keep batch and length apart.
        ids = torch.ones(2, 7, dtype=torch.long)
        mask = torch.ones_like(ids)
        mask[1, 5:] = 0
        axes = {0: "batch", 1: "sequence"}
        inputs = {"input_ids": ids, "attention_mask": mask}
        if tells_texts_apart(model) if token_types is None else token_types:
            inputs[TOKEN_TYPES] = torch.zeros_like(ids)
        try:
            program = torch.onnx.export(
                FirstOutput().eval(),
                tuple(inputs.values()),
                dynamo=True,
                input_names=list(inputs),
                output_names=["last_hidden_state" if _is_encoder(model) else "logits"],
                dynamic_shapes=dict.fromkeys(inputs, axes),
                opset_version=opset,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise BortError(f"{type(model).__name__} cannot be exported to ONNX: {first_line(error)}") from error
        if program is None:
            raise BortError(f"{type(model).__name__} cannot be exported to ONNX.")
        written = program.model.opset_imports.get("", opset)
        if written != opset:
            raise ConfigurationError("export.opset", opset, f"{written} or 20: this exporter wrote operator set {written} instead")
        # The exporter notes where each operation stood in the source, with the paths of the machine it ran on.
        for node in program.model.graph.all_nodes():
            node.metadata_props.clear()
        _keep_norms_apart(program.model.graph)
        notes = {
            VOCABULARY_KEY: model.config.vocab_size,
            POSITIONS_KEY: usable_positions(model.config),
            "bort.class": type(model).__name__,
            "bort.parameters": sum(parameter.numel() for parameter in model.parameters()),
        }
        program.model.metadata_props.update({key: str(value) for key, value in notes.items()})
        with atomic_path(path) as temporary:
            program.save(str(temporary), external_data=False)


@contextmanager
def _plain_attention(model: PreTrainedModel) -> Iterator[None]:
    """Has the model compute attention as products and a softmax for a while.

    PyTorch's own operator is exported with a treatment of rows that attend to nothing, four more passes over all attention weights
    that no runtime takes out again.
    """
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _keep_norms_apart(graph: Any) -> None:
    """Writes the sum before each layer norm as ``Sum`` instead of ``Add``, which means the same.

    ONNX Runtime fuses ``Add`` and ``LayerNormalization`` to an operator that is not vectorised on processors: of Bort's shape it
    took seven times as long as the two (5.3 against 0.8 ms of 72, eight of them, ONNX Runtime 1.31).
    """
    for node in graph:
        if node.op_type == "LayerNormalization" and node.inputs[0] is not None:
            before = node.inputs[0].producer()
            if before is not None and before.op_type == "Add":
                before.op_type = "Sum"


def optimise(source: Path, target: Path) -> None:
    """Writes the graph of ``source`` as ONNX Runtime optimises it on any processor: operators fused, constants folded."""
    with atomic_path(target) as temporary:
        open_session(source, optimised=temporary)


def quantise(source: Path, target: Path, *, operators: tuple[str, ...] = EVERYTHING) -> None:
    """Writes ``source`` with int8 weights: matrix products are quantised dynamically, embeddings are stored as int8.

    Quantising products alone would leave the embedding in float32, and that is most of a small encoder's file.

    Args:
        source: The ONNX file in float32.
        target: The file to write.
        operators: Whose weights are quantised: :data:`EVERYTHING`, or the :data:`EMBEDDING` alone.

    Raises:
        BortError: ONNX Runtime cannot quantise this graph.
    """
    require_onnx("onnx", "onnxruntime")
    with quiet("transformers", everything=True):
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic

        model = onnx.load(str(source))
        # The quantiser turns Gemm into MatMul and transposes its weight, but not the shape the exporter noted for it: without the
        # notes it infers the shapes itself.
        del model.graph.value_info[:]
        with atomic_path(target) as temporary:
            try:
                quantize_dynamic(
                    model,
                    str(temporary),
                    op_types_to_quantize=list(operators),
                    weight_type=QuantType.QInt8,
                    per_channel=True,
                )
            except (ValueError, RuntimeError, KeyError, onnx.shape_inference.InferenceError) as error:
                raise BortError(f"{source} cannot be quantised to int8: {first_line(error)}") from error


def _is_encoder(model: PreTrainedModel) -> bool:
    return model.base_model is model


def directory_bytes(directory: Path) -> int:
    """Returns the bytes of all files in a directory, at any depth."""
    return sum(os.path.getsize(Path(folder) / file) for folder, _, files in os.walk(directory) for file in files)

"""ONNX Runtime behind two functions, and the sentence for when it is not installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.errors import BortError, ConfigurationError, first_line

INPUTS = ("input_ids", "attention_mask")
#: A third input, of files whose model tells the two texts of a pair apart.
TOKEN_TYPES = "token_type_ids"
#: What an exported file says of itself, so that it can be fed without its configuration at hand.
VOCABULARY_KEY, POSITIONS_KEY = "bort.vocab_size", "bort.positions"
#: Version of the file format of a probe: old enough for any runtime.
_PROBE_FORMAT = 10


def require_onnx(*packages: str) -> None:
    """Makes sure that the packages of the ``export`` extra are installed.

    Raises:
        BortError: One is missing; the message names it and how to install it.
    """
    missing = [name for name in packages or ("onnx", "onnxruntime", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise BortError(f"ONNX needs {', '.join(missing)}, which is not installed: run pip install 'bort[export]'.")


def require_opset(opset: int, key: str = "export.opset") -> None:
    """Makes sure that the installed ONNX Runtime reads an operator set: nothing could be checked, or run, otherwise.

    Args:
        opset: The operator set.
        key: What messages call it.

    Raises:
        BortError: The packages of the ``export`` extra are missing.
        ConfigurationError: It reads only older ones.
    """
    require_onnx()
    if not _reads(opset):
        import onnxruntime

        newest = next(older for older in range(opset - 1, 0, -1) if _reads(older))
        raise ConfigurationError(
            key, opset, f"<= {newest}, the newest operator set that ONNX Runtime {onnxruntime.__version__} reads"
        )


def _reads(opset: int) -> bool:
    import onnx
    import onnxruntime

    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "ab"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["a"], ["b"])], "probe", ends[:1], ends[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=_PROBE_FORMAT)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:  # ONNX Runtime's exceptions share no base class of their own.
        return False
    return True


def open_session(path: Path | str, threads: int | None = None, *, optimised: Path | None = None) -> Any:
    """Opens an ONNX file with ONNX Runtime on the processor.

    Args:
        path: The ONNX file.
        threads: Threads inside one operator; None for ONNX Runtime's own choice.
        optimised: Where to write the graph as ONNX Runtime optimised it, leaving out what only fits this processor.

    Raises:
        BortError: ONNX Runtime is missing, or cannot open the file.
    """
    require_onnx("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # A worker that keeps spinning after its call would take the processor from whatever is measured next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    if optimised is not None:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(optimised)
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no base class of their own.
        raise BortError(f"ONNX Runtime {onnxruntime.__version__} cannot open {path}: {first_line(error)}") from error
    wanted = {node.name for node in session.get_inputs()}
    if not wanted <= {*INPUTS, TOKEN_TYPES}:
        raise BortError(f"{path} takes {', '.join(sorted(wanted))}: only {', '.join(INPUTS)} and {TOKEN_TYPES} can be fed.")
    return session


def vocabulary_and_positions(session: Any) -> tuple[int, int]:
    """Returns the vocabulary and the longest sequence of an open file; 1000 and 512 for a file that does not say."""
    notes = session.get_modelmeta().custom_metadata_map
    return int(notes.get(VOCABULARY_KEY, 1000)), int(notes.get(POSITIONS_KEY, 512))


def run_session(
    session: Any, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64], token_type_ids: NDArray[np.int64] | None = None
) -> NDArray[np.float32]:
    """Returns the first output of a session for token ids and mask [B, S]; token types are zero where they are not given."""
    return session.run(None, feed(session, input_ids, attention_mask, token_type_ids))[0]


def feed(
    session: Any, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64], token_type_ids: NDArray[np.int64] | None = None
) -> dict[str, NDArray[np.int64]]:
    """Returns the inputs a session takes, by name; token types are zero where they are not given."""
    types = np.zeros_like(input_ids) if token_type_ids is None else token_type_ids
    inputs = {"input_ids": input_ids, "attention_mask": attention_mask, TOKEN_TYPES: types}
    return {node.name: inputs[node.name] for node in session.get_inputs()}

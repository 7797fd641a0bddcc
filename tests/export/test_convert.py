"""What the graph looks like that an export writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from bort.architecture import Architecture
from bort.export.convert import onnx_file
from bort.measure.models import build_model


def test_the_graph_is_one_that_onnx_runtime_runs_fast(tmp_path: Path) -> None:
    """No row of attention is checked for NaN, and no sum is left that would be fused to an unvectorised norm."""
    onnx = pytest.importorskip("onnx", reason="the export extra is not installed: pip install 'bort[export]'")
    pytest.importorskip("onnxscript", reason="the export extra is not installed: pip install 'bort[export]'")
    model = build_model(Architecture(1, 2, 16, 32), vocab_size=40, positions=16)
    before = model.config._attn_implementation
    onnx_file(model, tmp_path / "model.onnx")
    assert model.config._attn_implementation == before != "eager", "the model is left as it was"
    nodes = onnx.load(tmp_path / "model.onnx").graph.node
    makers = {name: node.op_type for node in nodes for name in node.output}
    norms = [node for node in nodes if node.op_type == "LayerNormalization"]
    assert len(norms) == 3
    assert {makers[node.input[0]] for node in norms} == {"Sum"}
    assert "IsNaN" not in makers.values()

"""What a user takes away: a transformers directory with a model card, ONNX, and int8, each checked against what was trained.

Public names: :func:`~bort.export.models.export_model`, :class:`~bort.export.config.ExportConfig`,
:func:`~bort.export.convert.onnx_file`, :func:`~bort.export.card.model_card`, :class:`~bort.export.serving.Runtime`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bort.lazy import lazily

if TYPE_CHECKING:
    from bort.export.card import model_card
    from bort.export.config import ExportConfig
    from bort.export.convert import onnx_file
    from bort.export.models import export_model
    from bort.export.serving import Runtime

__all__ = ["ExportConfig", "Runtime", "export_model", "model_card", "onnx_file"]

_HOMES = {
    "ExportConfig": "config",
    "Runtime": "serving",
    "export_model": "models",
    "model_card": "card",
    "onnx_file": "convert",
}

__getattr__ = lazily(__name__, _HOMES)

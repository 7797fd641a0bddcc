"""What a user takes away: a transformers directory with a model card, ONNX, and int8, each checked against what was trained.

Public names: :func:`~bort.export.models.export_model`, :class:`~bort.export.config.ExportConfig`,
:func:`~bort.export.convert.onnx_file`, :func:`~bort.export.card.model_card`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bort.export.card import model_card
    from bort.export.config import ExportConfig
    from bort.export.convert import onnx_file
    from bort.export.models import export_model

__all__ = ["ExportConfig", "export_model", "model_card", "onnx_file"]

_HOMES = {
    "ExportConfig": "bort.export.config",
    "export_model": "bort.export.models",
    "model_card": "bort.export.card",
    "onnx_file": "bort.export.convert",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'bort.export' has no attribute '{name}'")

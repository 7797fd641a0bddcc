"""What a user takes away: a transformers directory with a model card, ONNX, and int8, each checked against what was trained.

Public names: :func:`~bort.export.models.export_model`, :class:`~bort.export.config.ExportConfig`,
:func:`~bort.export.convert.onnx_file`, :func:`~bort.export.card.model_card`, :class:`~bort.export.serving.Runtime`.
"""

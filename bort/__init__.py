"""Bort: optimal subarchitecture extraction for BERT-like encoders.

The library behind the pipelines. It knows nothing of Hydra, prints nothing, and can be used on its own::

    from bort.architecture import Architecture
    Architecture(depth=4, heads=8, hidden=1024, intermediate=768).parameters()
"""

__version__ = "0.1.0"

"""Fixtures of other packages that benchmarks run on."""

from tests.distillation.conftest import listener
from tests.finetuning.agora.conftest import encoder_dir, toy

__all__ = ["encoder_dir", "listener", "toy"]

"""Loading a teacher and its tokenizer from a directory or from the hub."""

from __future__ import annotations

from typing import Any

from bort.errors import BortError
from bort.teacher.config import TeacherConfig
from bort.teacher.hub import reading
from bort.teacher.model import Teacher


def load_tokenizer(config: TeacherConfig) -> Any:
    """Loads the teacher's fast tokenizer, without its weights.

    Raises:
        BortError: It cannot be read, or there is no fast one.
    """
    from transformers import AutoTokenizer

    with reading(config, "tokenizer") as source:
        tokenizer = AutoTokenizer.from_pretrained(**source)
    if not tokenizer.is_fast:
        raise BortError(f"teacher.path={config.path} has no fast tokenizer; add its tokenizer.json to the directory.")
    return tokenizer


def load_teacher(config: TeacherConfig) -> Teacher:
    """Loads a teacher in float32, frozen and in evaluation mode.

    Whether it has a masked-LM head is read from the weights: a head whose weights are not in the checkpoint does not count.

    Raises:
        BortError: The teacher cannot be read, is of a family that cannot teach, or has no fast tokenizer.
    """
    model, headed = load_masked_lm(config)
    return Teacher(model.base_model, load_tokenizer(config), model if headed else None, config.path)


def load_masked_lm(config: TeacherConfig, seed: int = 0) -> tuple[Any, bool]:
    """Loads transformers' masked LM of a teacher in float32, and says whether its head came with it.

    Args:
        config: Names the teacher.
        seed: Seeds the weights of a head that did not come; torch's global generator is left as it was.

    Raises:
        BortError: The teacher cannot be read, or is of a family that cannot teach.
    """
    import torch
    from transformers import AutoConfig, AutoModelForMaskedLM

    with reading(config, "configuration") as source:
        settings = AutoConfig.from_pretrained(**source)
    config.check_family(settings.model_type)
    with torch.random.fork_rng(devices=[]), reading(config, "weights") as source:
        torch.manual_seed(seed)
        model, report = AutoModelForMaskedLM.from_pretrained(**source, dtype=torch.float32, output_loading_info=True)
    missing = sorted(report["missing_keys"])
    lost = [name for name in missing if name.startswith(f"{model.base_model_prefix}.")]
    if lost:
        raise BortError(
            f"teacher.path={config.path} is incomplete: {len(lost)} of its encoder's weights are missing, {lost[0]} among them."
        )
    return model, not missing

"""Loading a teacher and its tokenizer from a directory or from the hub."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from bort.errors import BortError, ConfigurationError
from bort.teacher.config import TeacherConfig
from bort.teacher.model import Teacher

#: What the hub accepts as a name; a relative path with more or less in it is meant as a folder.
_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
#: Seconds that the hub has for its first answer.
_PATIENCE = 5.0


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


@cache
def hub_out_of_reach() -> bool:
    """Returns whether the hub cannot be reached, or must not be (``HF_HUB_OFFLINE``); asked once, and once only."""
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return True
    try:
        get_session().head(constants.ENDPOINT, timeout=_PATIENCE)
    except Exception:
        # The hub's client has changed its HTTP library twice; whatever this one's error is called, there was no answer.
        return True
    return False


@contextmanager
def reading(config: TeacherConfig, what: str) -> Iterator[dict[str, Any]]:
    """Gives the arguments of ``from_pretrained``, keeps transformers quiet, and turns its many errors into one sentence."""
    from huggingface_hub.utils import logging as hub_logging
    from safetensors import SafetensorError
    from transformers.utils import logging

    config.check()
    path = Path(config.path).expanduser()
    source: dict[str, Any]
    if not path.is_dir() and not _HUB_ID.fullmatch(config.path):
        accepted = "there is no such directory; 'bort fetch' gets the demo's teacher, and a hub id has the form owner/name"
        raise ConfigurationError("teacher.path", config.path, accepted)
    if path.is_dir():
        source = {"pretrained_model_name_or_path": str(path), "local_files_only": True}
    else:
        source = {
            "pretrained_model_name_or_path": config.path,
            "revision": config.revision or "main",
            # Where the hub is out of reach its client would ask again for half a minute a file, even for those at hand.
            "local_files_only": hub_out_of_reach(),
        }
    # A model that brings code of its own is refused, not asked about.
    source["trust_remote_code"] = False
    bars = logging.is_progress_bar_enabled()
    verbosity, hub_verbosity = logging.get_verbosity(), hub_logging.get_verbosity()
    logging.set_verbosity_error()
    hub_logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield source
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, UnpicklingError) as error:
        lines = str(error).strip().splitlines()
        reason = lines[0].rstrip(".:") if lines else type(error).__name__
        if isinstance(error, UnpicklingError):
            reason = "the file holds more than tensors, which is not loaded; save the model as safetensors"
        if path.is_dir():
            raise BortError(f"The {what} of teacher.path={config.path} cannot be read: {reason}.") from error
        at = f" (revision {config.revision})" if config.revision else ""
        raise BortError(
            f"teacher.path={config.path} is not a directory here, and its {what} could not be read from the hub: download it{at} "
            f"on a machine with a network and set teacher=directory teacher.path=FOLDER ({reason})."
        ) from error
    finally:
        logging.set_verbosity(verbosity)
        hub_logging.set_verbosity(hub_verbosity)
        if bars:
            logging.enable_progress_bar()

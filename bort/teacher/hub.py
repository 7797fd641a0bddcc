"""Reading a teacher from a directory or from the hub, with one sentence for everything that can go wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from bort.errors import BortError, ConfigurationError, first_line
from bort.quiet import quiet
from bort.settings import check_settings
from bort.teacher.config import TeacherConfig

#: What the hub accepts as a name; a relative path with more or less in it is meant as a folder.
_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")

#: Seconds that the hub has for its first answer.
_PATIENCE = 5.0


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
    """Yield the arguments of ``from_pretrained``; silence transformers and turn its many errors into one sentence."""
    from safetensors import SafetensorError

    check_settings(config, "teacher")
    path = Path(config.path).expanduser()
    source: dict[str, Any]
    if not path.is_dir() and not _HUB_ID.fullmatch(config.path):
        accepted = "an existing directory ('bort fetch' downloads the demo's teacher) or a hub id of the form owner/name"
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
    try:
        with quiet("transformers", "huggingface_hub"):
            yield source
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, UnpicklingError) as error:
        reason = first_line(error).rstrip(".:")
        if isinstance(error, UnpicklingError):
            reason = "the file holds more than tensors, which is not loaded; save the model as safetensors"
        if path.is_dir():
            raise BortError(f"The {what} of teacher.path={config.path} cannot be read: {reason}.") from error
        at = f" (revision {config.revision})" if config.revision else ""
        raise BortError(
            f"teacher.path={config.path} is not a directory here, and its {what} could not be read from the hub: download it{at} "
            f"on a machine with a network and set teacher=directory teacher.path=FOLDER ({reason})."
        ) from error

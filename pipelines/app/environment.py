"""Hydra's configuration folder, and addresses and secrets from environment variables."""

from __future__ import annotations

import os
from pathlib import Path

from bort.errors import ConfigurationError
from bort.redaction import secrets_in

from .output import know

#: Hydra's configuration: it lies beside this package, in a clone and in an installation.
CONF = Path(__file__).resolve().parents[2] / "conf"


def from_environment(name: str, default: str = "") -> str:
    """Returns the variable ``name``, or what the file holds that ``<name>_FILE`` names; ``default`` where neither is set.

    Args:
        name: The variable. It goes before the file.
        default: The answer where there is none.

    Raises:
        ConfigurationError: The file cannot be read.
    """
    if value := os.environ.get(name):
        return value
    file = os.environ.get(f"{name}_FILE")
    if not file:
        return default
    try:
        value = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigurationError(f"{name}_FILE", file, f"a file that can be read ({reason})") from None
    know(secrets_in(value))
    return value

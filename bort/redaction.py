"""Passwords struck out of whatever is written, logged or recorded."""

from __future__ import annotations

import re

_CREDENTIALS = re.compile(r"(?P<before>[\w+.-]+://[^\s/:@]*):[^\s/]+@")
_SECRET_FIELD = re.compile(r"(?i)\b(password|passwd|pwd|token|secret|api_key|apikey|access_key)=[^\s&;'\"]+")


def redact(text: str) -> str:
    """Returns ``text`` with the passwords of every address in it, and of ``password=…`` fields, replaced by ``***``."""
    return _SECRET_FIELD.sub(lambda found: f"{found[1]}=***", _CREDENTIALS.sub(lambda found: f"{found['before']}:***@", text))

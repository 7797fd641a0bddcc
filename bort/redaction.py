"""Passwords struck out of whatever is written, logged or recorded."""

from __future__ import annotations

import re

#: Address with user and password. A password may hold what should have been escaped: ``@`` before the first slash, or slashes; a
#: port, which stands in the same place, is digits. Hydra shows colons with a backslash.
_CREDENTIALS = re.compile(r"(?P<before>[\w+.-]+\\?://[^\s/:@]*):(?!\d{1,5}(?:[/?#\s]|$))(?:[^\s/]+|[^\s@]+)@")
#: What stands alone before the host of a web address is a token; before that of a database it is a user.
_TOKEN = re.compile(r"(?P<before>https?\\?://)[^\s/:@]+@")
_NAME = r"(?P<name>\w*password|passwd|pwd|token|\w*tracking_token|hf_token|\w*secret|\w*api_?key|\w*access_?key)"
#: ``password=…`` in commands, addresses and connection strings, quoted or not.
_FIELD = re.compile(rf"(?i)\b{_NAME}=(?:\"[^\"]*\"|'[^']*'|[^\s&;'\"]+)")
#: ``"password": "…"`` in JSON and in Python's way of showing it.
_ENTRY = re.compile(rf"(?i)(?P<key>['\"]){_NAME}(?P=key)\s*:\s*(?P<mark>['\"])(?:\\.|(?!(?P=mark)).)*(?P=mark)")


def redact(text: str) -> str:
    """Returns ``text`` with the passwords of every address in it, and of fields named as passwords, replaced by ``***``."""
    text = _CREDENTIALS.sub(lambda found: f"{found['before']}:***@", text)
    text = _TOKEN.sub(lambda found: f"{found['before']}***@", text)
    text = _FIELD.sub(lambda found: f"{found['name']}=***", text)
    return _ENTRY.sub(lambda found: f"{found['key']}{found['name']}{found['key']}: {found['mark']}***{found['mark']}", text)

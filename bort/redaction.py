"""Redaction of secrets in whatever is written, logged or recorded: by value if a secret is known, by pattern otherwise."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, quote_plus, unquote

MASK = "***"
#: Shorter values occur in ordinary text; only patterns find them.
SHORTEST = 6

_START = r"(?<![\w+.-])"
#: An address with user and password. A password may hold characters that should be escaped: ``@`` before the first slash, slashes,
#: blanks. Its length is limited, so that the search takes linear time. A port, which stands in the same position, consists of
#: digits. Hydra shows colons with a backslash.
_CREDENTIALS = re.compile(
    rf"(?P<before>{_START}[\w+.-]+\\?://[^\s/:@]*):(?:(?!\d{{1,5}}(?:[/?#\s]|$))(?P<secret>[^\s/]{{1,1000}}|[^\s@]{{1,1000}})"
    r"|(?!\d{1,5}(?:[/?#\s:,;.)\]'\"]|$))(?P<blanks>\S[^@\r\n'\"<>]{1,100}))@"
)
#: A name alone before the host of a web address is a token; before the host of a database it is a user.
_TOKEN = re.compile(rf"(?P<before>{_START}https?\\?://)(?P<secret>[^\s/:@]+)@")
#: Tokens of a tokenizer (``pad_token``) are not secrets.
_SECRET_NAME = (
    r"[\w-]*(?:password|passphrase|secret|api[_-]?key|access[_-]?key|private[_-]?key)|passwd|pwd"
    r"|[\w-]*(?:access|refresh|auth|bearer|session|security|tracking|hf|api|csrf)[_-]?token"
)
_NAME = rf"(?P<name>{_SECRET_NAME}|token|sig|[\w-]+-signature)"
#: ``password=…`` in commands, addresses and connection strings, quoted or not.
_FIELD = re.compile(rf"(?i)(?<![\w-]){_NAME}=(?P<secret>\"[^\"]*\"|'[^']*'|[^\s&;'\"]+)")
#: ``"password": "…"`` in JSON, also within a JSON string, and as Python shows it.
_ENTRY = re.compile(
    rf"(?i)(?P<key>\\*['\"]){_NAME}(?P=key)(?P<colon>\s*:\s*)(?P<mark>\\*['\"])(?P<secret>(?:(?!(?P=mark))(?:\\.|.))*)(?P=mark)"
)
#: ``password: …`` in YAML and in messages, to the end of the line.
_LINE = re.compile(rf"(?i)(?<![\w'\"-])(?P<name>{_SECRET_NAME})(?P<colon>:\s+)(?P<secret>[^\s,;}}][^\r\n,;}}]*)")
#: ``Authorization: Bearer …`` and the scheme alone.
_HEADER = re.compile(r"(?i)(?P<before>\bauthorization['\"]?\s*[:=]\s*['\"]?(?:[a-z]+\s+)?)(?P<secret>[^\s'\",]+)")
_SCHEME = re.compile(r"(?i)(?P<before>\bbearer\s+)(?P<secret>(?=[\w.~+/=-]*\d)[\w.~+/-]{8,}=*)")
#: Environment variables that hold a secret.
_VARIABLE = re.compile(r"(?i)(?:password|passwd|passphrase|secret|(?:^|_)pass|(?:^|_)token|(?:api|access|private)_?key)$")

#: Secrets of this process, each in all of its spellings.
_known: dict[str, re.Pattern[str]] = {}


def redact(text: str) -> str:
    """Return ``text`` with every known secret, and everything that looks like one, replaced by ``***``."""
    for pattern in _known.values():
        text = pattern.sub(MASK, text)
    return redact_patterns(text)


def redact_patterns(text: str) -> str:
    """Return ``text`` with everything that looks like a secret replaced by ``***``.

    Independent of the secrets that the process knows: for identities, which must not depend on the environment.
    """
    text = _CREDENTIALS.sub(lambda match: f"{match['before']}:{MASK}@", text)
    text = _TOKEN.sub(lambda match: f"{match['before']}{MASK}@", text)
    text = _FIELD.sub(lambda match: f"{match['name']}={MASK}", text)
    text = _ENTRY.sub(lambda m: f"{m['key']}{m['name']}{m['key']}{m['colon']}{m['mark']}{MASK}{m['mark']}", text)
    text = _LINE.sub(lambda match: f"{match['name']}{match['colon']}{MASK}", text)
    text = _HEADER.sub(lambda match: f"{match['before']}{MASK}", text)
    return _SCHEME.sub(lambda match: f"{match['before']}{MASK}", text)


def remember(secrets: Iterable[str]) -> list[str]:
    """Add secrets that :func:`redact` replaces by value, and return those that are new and long enough."""
    new = [secret for secret in secrets if len(secret) >= SHORTEST and secret != MASK and secret not in _known]
    for secret in new:
        decoded = unquote(secret)
        forms = {secret, decoded, quote(decoded, safe=""), quote(decoded), quote_plus(decoded)}
        forms |= {json.dumps(form)[1:-1] for form in forms} | {repr(form)[1:-1] for form in forms}
        either = "|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True))
        # A password such as "postgres" is also part of ordinary words.
        _known[secret] = re.compile(rf"(?<!\w)(?:{either})(?!\w)" if secret.isalpha() and secret.islower() else either)
    return new


def known() -> list[str]:
    """Return the secrets that are replaced by value."""
    return list(_known)


def secrets_in(value: Any) -> set[str]:
    """Return the secrets that stand in addresses and fields of a text, or of all texts within dictionaries and lists."""
    if isinstance(value, Mapping):
        return set().union(*(secrets_in(item) for item in value.values()))
    if isinstance(value, list | tuple):
        return set().union(*(secrets_in(item) for item in value))
    if not isinstance(value, str):
        return set()
    found = {secret for match in _CREDENTIALS.finditer(value) for secret in (match["secret"], match["blanks"]) if secret}
    return found | {match["secret"].strip("'\"") for pattern in (_TOKEN, _FIELD, _ENTRY) for match in pattern.finditer(value)}


def secrets_of_environment(environment: Mapping[str, str] = os.environ) -> set[str]:
    """Return the values of variables that are named as secrets, and the passwords in the addresses of the others."""
    named = {value for name, value in environment.items() if _VARIABLE.search(name)}
    return named | secrets_in(dict(environment))

"""Mark-up and tables out of texts: plain rules that run in time proportional to the text, not a parser of either language."""

from __future__ import annotations

import html
import re

# What lies between an opening and a closing is matched only up to the next opening: a text full of openings takes no longer.
_COMMENT = re.compile(r"<!--(?:(?!<!--).)*?-->", re.DOTALL)
_HTML_DROPPED = re.compile(r"<(script|style|head|noscript)\b[^<>]*>(?:(?!<\1\b).)*?</\1\s*>", re.IGNORECASE | re.DOTALL)
_HTML_BREAKS = re.compile(
    r"</?(?:p|div|br|hr|li|ul|ol|h[1-6]|tr|table|section|article|header|footer|blockquote|pre|dd|dt|dl|title)\b[^<>]*>",
    re.IGNORECASE,
)
_HTML_TAG = re.compile(r"</?[A-Za-z][^<>]*>|<![A-Za-z][^<>]*>")
_HTML_TABLE = re.compile(r"<table\b[^>]*>(?:(?!<table\b).)*?</table\s*>", re.IGNORECASE | re.DOTALL)

_WIKI_DROPPED = re.compile(
    r"<(ref|gallery|math|syntaxhighlight|timeline)\b[^<>/]*>(?:(?!<\1\b).)*?</\1\s*>", re.IGNORECASE | re.DOTALL
)
_WIKI_TEMPLATE = re.compile(r"\{\{[^{}]*\}\}")
_WIKI_TABLE = re.compile(r"\{\|(?:(?!\{\|).)*?\|\}", re.DOTALL)
_WIKI_MEDIA = re.compile(r"\[\[(?:file|image|category|media)\s*:[^\[\]]*\]\]", re.IGNORECASE)
_WIKI_LINK = re.compile(r"\[\[(?:[^\[\]|]*\|)?([^\[\]|]*)\]\]")
_WIKI_ADDRESS = re.compile(r"\[(?:https?:)?//[^\s\[\]]+(?:\s+([^\[\]]*))?\]")
_WIKI_HEADING = re.compile(r"^(={2,6})([^=\n].*?)\1[ \t]*$", re.MULTILINE)
_WIKI_ITEM = re.compile(r"^[*#:;]+[ \t]*", re.MULTILINE)
_WIKI_EMPHASIS = re.compile(r"'{2,5}")
_WIKI_WORD = re.compile(r"__[A-Z]+__")

_PIPES = re.compile(r"(?:^[ \t]*\|.*\|[ \t]*\n?){2,}", re.MULTILINE)
_TABS = re.compile(r"(?:^[^\n\t]*\t[^\n]*\n?){3,}", re.MULTILINE)
_SPACES = re.compile(r"[ \t]+")
_LINES = re.compile(r"[ \t]*\n(?:[ \t]*\n)+")

#: How deep templates, links and tables may lie in each other.
_DEPTH = 12


def without_markup(text: str, kinds: list[str]) -> str:
    """Returns a text without the mark-up of ``kinds``, any of ``html`` and ``wiki``."""
    if "wiki" in kinds:
        text = _without_wiki(text)
    if "html" in kinds or "wiki" in kinds:
        text = _without_html(text)
    return text


def without_tables(text: str) -> str:
    """Returns a text without the tables of HTML, wiki text and Markdown, and without runs of three or more lines with tabs."""
    if "<" in text:
        text = _repeated(_HTML_TABLE, "\n", text)
    if "{|" in text:
        text = _repeated(_WIKI_TABLE, "", text)
    if "|" in text:
        text = _PIPES.sub("", text)
    if "\t" in text:
        text = _TABS.sub("", text)
    return text


def _without_html(text: str) -> str:
    if "<" in text:
        text = _HTML_DROPPED.sub(" ", _COMMENT.sub(" ", text))
        text = _HTML_BREAKS.sub("\n", text)
        text = _HTML_TAG.sub("", text)
    if "&" in text:
        text = html.unescape(text).replace("\xa0", " ")
    return _tidy(text)


def _without_wiki(text: str) -> str:
    text = _WIKI_DROPPED.sub("", _COMMENT.sub("", text))
    text = _repeated(_WIKI_TEMPLATE, "", text)
    text = _repeated(_WIKI_TABLE, "", text)
    for _ in range(_DEPTH):
        # A picture's caption may hold links, which go first.
        linked = _WIKI_LINK.sub(r"\1", _WIKI_MEDIA.sub("", text))
        if linked == text:
            break
        text = linked
    text = _WIKI_ADDRESS.sub(lambda match: match.group(1) or "", text)
    text = _WIKI_HEADING.sub(lambda match: match.group(2).strip(), text)
    text = _WIKI_ITEM.sub("", text)
    text = _WIKI_EMPHASIS.sub("", text)
    return _tidy(_WIKI_WORD.sub("", text))


def _repeated(pattern: re.Pattern[str], replacement: str, text: str) -> str:
    """Replaces from the inside outwards, as deep as one may lie in the other."""
    for _ in range(_DEPTH):
        text, count = pattern.subn(replacement, text)
        if not count:
            break
    return text


def _tidy(text: str) -> str:
    return _LINES.sub("\n\n", _SPACES.sub(" ", text)).strip()

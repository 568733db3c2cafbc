"""The words of an unrecognised page, for messages."""

from __future__ import annotations

import html
import re

_ALERT = re.compile(r"""\balert\s*\(\s*(?:"([^"]{1,200})"|'([^']{1,200})')""", re.IGNORECASE)
_TITLE = re.compile(r"<title\b[^<>]*>([^<]{1,300})", re.IGNORECASE)
_UNSEEN_PARTS = re.compile(
    r"<!--.*?(?:-->|\Z)|<(script|style|head|title|select)\b.*?(?:</\1\s*>|\Z)", re.IGNORECASE | re.DOTALL
)
_TAG = re.compile(r"<[^<>]*>")
_SENTENCE = re.compile(r".*?[.!?](?=\s|$)")
_SEARCHED_BYTES = 200_000


def says(text: str) -> str:
    r"""Return what a page says as the end of a sentence: its alert, its title, its first sentence; empty if nothing.

    Examples
    --------
    >>> says("<title>Erro</title><body><p>Sua sess&atilde;o expirou.</p> Entre de novo.")
    "; its title is 'Erro', it says 'Sua sessão expirou.'"
    """
    text = text[:_SEARCHED_BYTES]
    alert, title = _ALERT.search(text), _TITLE.search(text)
    seen = _clean(_TAG.sub(" ", _UNSEEN_PARTS.sub(" ", text)))
    sentence = _SENTENCE.match(seen)
    words = _clean(next(filter(None, alert.groups()), "")) if alert else sentence[0] if sentence else seen
    parts = []
    if title and (name := _clean(title[1])):
        parts.append(f"its title is {name[:100]!r}")
    if words:
        parts.append(f"it says {words[:160]!r}")
    return f"; {', '.join(parts)}" if parts else ""


def _clean(text: str) -> str:
    return " ".join(html.unescape(text).split())

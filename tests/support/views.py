"""Inspect an object's notebook views."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from scraperkit.view import NotebookRepr

EVIL = "<script>alert('x')</script>"
FIXED_COLOUR = re.compile(r"(?:^|[;\s'])(?:color|background|background-color):\s*(?:#|rgb\(|black|white)")


class Words(HTMLParser):
    """Collector of the text and tag names in a piece of HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data):
        self.words += data.split()


def shown(thing: NotebookRepr) -> tuple[str, str]:
    """Return an object's text and HTML views, after checking that their words match and their colours fit any theme."""
    bundle = thing._repr_mimebundle_()
    text, html = bundle["text/plain"], bundle["text/html"]
    assert thing._repr_html_() == html
    read = Words(html)
    assert sorted(read.words) == sorted(text.split())
    assert read.tags <= {"div", "b", "table", "thead", "tbody", "tr", "th", "td"}
    assert not FIXED_COLOUR.search(html)
    return text, html

"""From the bytes of an answer to the text of a page that is sure to be whole, and to its tags."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bs4 import BeautifulSoup, Tag
from bs4.builder._lxml import LXMLTreeBuilder
from bs4.exceptions import ParserRejectedMarkup

from scraperkit.errors import NotACvmPage
from scraperkit.sources.says import says

# A browser reads Latin-1 as Windows-1252, and that is what people type names in.
_CODECS = {
    "utf-8": "utf-8-sig",
    "iso8859-1": "cp1252",
    "ascii": "cp1252",
    "cp1252": "cp1252",
    "iso8859-15": "iso8859-15",
}
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([A-Za-z0-9_.:-]{1,40})", re.IGNORECASE)
_META = re.compile(rb"<meta\b[^>]{0,300}", re.IGNORECASE)
_CLOSING = re.compile(rb"</(?:form|body|html)\s*>", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Markup:
    """A parsed page."""

    soup: BeautifulSoup

    def hidden_fields(self) -> dict[str, str]:
        """Return the hidden fields of the form, for posting back."""
        inputs = (tag for tag in self.soup.find_all("input") if attribute(tag, "type").lower() == "hidden")
        return {name: attribute(tag, "value") for tag in inputs if (name := attribute(tag, "name"))}

    def text_of(self, element_id: str) -> str:
        """Return the text of the element with that id, or nothing."""
        tag = self.soup.find(id=element_id)
        return clean(tag.get_text()) if isinstance(tag, Tag) else ""


def read_markup(content: bytes, *, ids: tuple[str, ...], what: str, url: str = "", content_type: str = "") -> Markup:
    """Parse a page; takes and raises what :func:`read_page` does."""
    try:
        return Markup(
            BeautifulSoup(
                read_page(content, ids=ids, what=what, url=url, content_type=content_type), builder=_Builder()
            )
        )
    except ParserRejectedMarkup:
        raise NotACvmPage(f"not the {what} page: it is not HTML", url) from None


def read_page(content: bytes, *, ids: tuple[str, ...], what: str, url: str = "", content_type: str = "") -> str:
    """Return the text of a page that holds at least one of `ids`, and is not cut short after any of them.

    Parameters
    ----------
    content : bytes
        The page as it came.
    ids : tuple of str
        Ids by which the page is recognised.
    what : str
        What the page is called in messages.
    url, content_type : str
        The page's address; and its header of that name, which may tell the encoding.

    Raises
    ------
    NotACvmPage
        If the answer is empty, binary, cut short, or has none of the ids.
    """
    if not content.strip():
        raise NotACvmPage(f"not the {what} page: the answer is empty", url)
    if b"\0" in content:
        raise NotACvmPage(f"not the {what} page: the answer is binary", url)
    text = decode(content, content_type)
    last = max(content.find(element_id.encode()) for element_id in ids)
    closed = _CLOSING.search(content, max(last, 0)) is not None
    if last < 0:
        cut = "" if closed else ", and it is cut short"
        raise NotACvmPage(f"not the {what} page: it has no element {' or '.join(ids)}{cut}{says(text)}", url)
    if not closed:
        raise NotACvmPage(f"{what} page: it is cut short, after {len(content):,} bytes", url)
    return text


def decode(content: bytes, content_type: str = "") -> str:
    r"""Return the text of a page: in the header's charset, else that of the page's meta, else Latin-1.

    A charset that is unknown, or that the bytes do not fit, counts as not given.

    Examples
    --------
    >>> decode(b"A\xe7\xf5es", "text/html; charset=utf-8"), decode(b"A\xe7\xf5es")
    ('Ações', 'Ações')
    """
    metas = [tag.decode("latin-1") for tag in _META.findall(content, 0, 4096)]
    for label in filter(None, map(_CHARSET.search, [content_type, *metas])):
        try:
            return content.decode(_CODECS[codecs.lookup(label[1]).name])
        except (LookupError, UnicodeDecodeError):
            continue
    try:
        return content.decode("cp1252")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def clean(text: str) -> str:
    """Return text with every run of white space, no-break ones too, as one space, and none at the ends."""
    return " ".join(text.split())


def attribute(tag: Tag, name: str) -> str:
    """Return an attribute as text, empty if the tag has none."""
    value = tag.get(name)
    return value if isinstance(value, str) else ""


class _Builder(LXMLTreeBuilder):
    """What lxml finds, as tags. HTML has no namespaces, so the work for them is left out."""

    def __init__(self) -> None:
        super().__init__(multi_valued_attributes=None)

    def initialize_soup(self, soup: BeautifulSoup) -> None:
        super().initialize_soup(soup)
        self._soup = soup

    def prepare_markup(self, markup: Any, *_encodings: Any, **_more: Any) -> Iterator[tuple[bytes, str, None, bool]]:
        yield markup.encode("utf-8"), "utf-8", None, False

    def start(self, tag: Any, attrib: Any, *_nsmap: Any) -> None:
        self._soup.handle_starttag(tag, None, None, self.attribute_dict_class(attrib))

    def end(self, tag: Any) -> None:
        self._soup.handle_endtag(tag)

    def data(self, data: Any) -> None:
        self._soup.handle_data(data)

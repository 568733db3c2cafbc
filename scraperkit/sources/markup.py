"""From the bytes of an answer to a tree that is sure to hold the whole page."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping
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


@dataclass(slots=True)
class Option:
    """One option of a select."""

    value: str | None
    selected: bool
    text: str = ""

    @property
    def effective(self) -> str:
        """What a browser would send: the text, where there is no value."""
        return clean(self.text if self.value is None else self.value)


@dataclass(frozen=True, slots=True)
class Markup:
    """A parsed page; the options of one select and the cells of one table are kept aside as plain values."""

    soup: BeautifulSoup
    options: list[Option]
    rows: list[list[str]]

    def hidden_fields(self) -> dict[str, str]:
        """Return the hidden fields of the form, for posting back."""
        inputs = (tag for tag in self.soup.find_all("input") if attribute(tag, "type").lower() == "hidden")
        return {name: attribute(tag, "value") for tag in inputs if (name := attribute(tag, "name"))}

    def text_of(self, element_id: str) -> str:
        """Return the text of the element with that id, or nothing."""
        tag = self.soup.find(id=element_id)
        return clean(tag.get_text()) if isinstance(tag, Tag) else ""


def read_markup(
    content: bytes,
    *,
    ids: tuple[str, ...],
    what: str,
    url: str = "",
    content_type: str = "",
    select_id: str = "",
    table_id: str = "",
) -> Markup:
    """Parse a page that holds at least one of `ids`, and is not cut short after any of them.

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
    select_id, table_id : str
        The select whose options are wanted, and the table whose cells are.

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
    options, rows = _Options(), _Rows()
    builder = _Builder({select_id: options, table_id: rows})
    try:
        return Markup(BeautifulSoup(text, builder=builder), options.options, rows.rows)
    except ParserRejectedMarkup:
        raise NotACvmPage(f"not the {what} page: it is not HTML", url) from None


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


class _Options:
    """Takes down the options of a select."""

    def __init__(self) -> None:
        self.options: list[Option] = []
        self._open = False

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        if tag == "option":
            self.options.append(Option(attributes.get("value"), "selected" in attributes))
            self._open = True

    def end(self, tag: str) -> None:
        self._open = self._open and tag != "option"

    def data(self, text: str) -> None:
        if self._open:
            self.options[-1].text += text


class _Rows:
    """Takes down the texts of a table's cells."""

    def __init__(self) -> None:
        self.rows: list[list[str]] = []
        self._open = False

    def start(self, tag: str, _attributes: Mapping[str, str]) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
            self._open = True

    def end(self, tag: str) -> None:
        self._open = self._open and tag not in ("td", "th")

    def data(self, text: str) -> None:
        if self._open:
            self.rows[-1][-1] += text


class _Builder(LXMLTreeBuilder):
    """What lxml finds, as tags; but what is inside a select or a table of a given id goes to a collector.

    Those two are nine tenths of a page's tags, and of the time that Beautiful Soup takes for it. HTML has no
    namespaces, so the work for them is left out too.
    """

    def __init__(self, collectors: Mapping[str, _Options | _Rows]) -> None:
        super().__init__(multi_valued_attributes=None)
        self._collectors = collectors
        self._current: _Options | _Rows | None = None
        self._outer, self._depth = "", 0

    def initialize_soup(self, soup: BeautifulSoup) -> None:
        super().initialize_soup(soup)
        self._soup = soup

    def prepare_markup(self, markup: Any, *_encodings: Any, **_more: Any) -> Iterator[tuple[bytes, str, None, bool]]:
        yield markup.encode("utf-8"), "utf-8", None, False

    def start(self, tag: Any, attrib: Any, *_nsmap: Any) -> None:
        if self._current is not None:
            self._depth += tag == self._outer
            self._current.start(tag, attrib)
            return
        self._current = self._collectors.get(attrib.get("id"))
        self._outer, self._depth = tag, 1
        self._soup.handle_starttag(tag, None, None, self.attribute_dict_class(attrib))

    def end(self, tag: Any) -> None:
        if self._current is not None:
            self._depth -= tag == self._outer
            if self._depth:
                self._current.end(tag)
                return
            self._current = None
        self._soup.handle_endtag(tag)

    def data(self, data: Any) -> None:
        (self._soup.handle_data if self._current is None else self._current.data)(data)

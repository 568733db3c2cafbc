"""From the bytes of a response to the text of a complete page, and to its elements.

There are hundreds of daily pages for each page of another kind. Beautiful Soup has lxml call it back for each tag, and
each call takes the GIL, for which parsing threads compete; so daily pages are read from lxml's own tree, which lxml
builds without the GIL.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bs4 import BeautifulSoup, Tag
from bs4.builder._lxml import LXMLTreeBuilder
from bs4.exceptions import ParserRejectedMarkup
from lxml import etree

from scraperkit.errors import NotACvmPage
from scraperkit.sources.says import says

# Browsers read Latin-1 as Windows-1252, and people type names in it.
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
# Beautiful Soup omits these from a page's text, too.
_UNSEEN = frozenset({"script", "style", "template", "rt", "rp"})
_ROWS = ("tr", "td", "th")
# With these lxml reports that it omitted the rest; older versions use the second.
_GAVE_UP = (etree.ErrorTypes.ERR_RESOURCE_LIMIT, etree.ErrorTypes.ERR_INTERNAL_ERROR)
_EVENTS = ("start", "end", "comment", "pi")


@dataclass(frozen=True, slots=True)
class Markup:
    """A parsed page."""

    soup: BeautifulSoup

    def hidden_fields(self) -> dict[str, str]:
        """Return the hidden fields of the form, for posting back."""
        inputs = (tag for tag in self.soup.find_all("input") if attribute(tag, "type").lower() == "hidden")
        return {name: attribute(tag, "value") for tag in inputs if (name := attribute(tag, "name"))}

    def text_of(self, element_id: str) -> str:
        """Return the text of the element with that id; empty if there is none."""
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
    """Return the text of a page that contains at least one of `ids`, and is not cut short after any of them.

    Parameters
    ----------
    content : bytes
        The raw page.
    ids : tuple of str
        Ids by which the page is recognised.
    what : str
        The page's name in messages.
    url, content_type : str
        The page's address, and its Content-Type header, which may name the encoding.

    Raises
    ------
    NotACvmPage
        If the response is empty, binary, cut short, or has none of the ids.
    """
    if not content.strip():
        raise NotACvmPage(f"not the {what} page: the response is empty", url)
    if b"\0" in content:
        raise NotACvmPage(f"not the {what} page: the response is binary", url)
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

    A charset that is unknown, or in which the bytes are invalid, is ignored.

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
    """Return stripped text, with every run of white space, no-break spaces included, as one space."""
    return " ".join(text.split())


def attribute(tag: Tag, name: str) -> str:
    """Return an attribute as text, empty if the tag has none."""
    value = tag.get(name)
    return value if isinstance(value, str) else ""


class _Builder(LXMLTreeBuilder):
    """Makes tags of what lxml finds, without the work for namespaces, which HTML lacks."""

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


class Option(NamedTuple):
    """One option of a select: what a browser would send, which is its text if it has no value."""

    value: str
    selected: bool


@dataclass(slots=True)
class DailyMarkup:
    """A parsed daily page.

    Attributes
    ----------
    options : list of Option
        The options of the select.
    rows : list of lists of str
        The texts of the table's cells.
    ids : set of str
        The ids of all elements outside the select and the table, and of these two.
    hidden_fields : dict
        The hidden fields of the form, for posting back.
    text : str
        All text outside the select and the table.
    """

    options: list[Option] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    hidden_fields: dict[str, str] = field(default_factory=dict)
    text: str = ""


def read_daily_markup(source: str, *, select_id: str, table_id: str, url: str = "") -> DailyMarkup:
    """Parse the text of a daily page.

    Parameters
    ----------
    source : str
        From :func:`read_page`.
    select_id, table_id : str
        The ids of the select and of the table.
    url : str
        The page's address, for messages.

    Raises
    ------
    NotACvmPage
        If its elements are nested so deeply that lxml omits a part.
    """
    reading = _Reading(select_id, table_id)
    for root in _roots(source, url):
        reading.take(root)
    reading.markup.text = clean(" ".join(reading.texts))
    return reading.markup


def _roots(source: str, url: str) -> list[etree._Element]:
    """Return the trees of a page: elements after the end of ``html`` are further trees."""
    parser = etree.HTMLParser(encoding="utf-8", huge_tree=True)
    try:
        parser.feed(source.encode("utf-8"))
        root = parser.close()
    except etree.XMLSyntaxError:
        return []  # not a single element
    if parser.feed_error_log.filter_types(_GAVE_UP):
        raise NotACvmPage("not the daily page: its elements are nested too deeply", url)
    return [] if root is None else [root, *root.itersiblings("*")]


class _Reading:
    """Walks trees once, and collects the parts that are needed."""

    def __init__(self, select_id: str, table_id: str) -> None:
        self.markup = DailyMarkup()
        self.texts: list[str] = []
        self._select_id, self._table_id = select_id, table_id

    def take(self, root: etree._Element) -> None:
        unseen = 0
        walk = etree.iterwalk(root, _EVENTS)
        for event, element in walk:
            if event == "start":
                unseen += element.tag in _UNSEEN
                if self._take_aside(element):
                    walk.skip_subtree()
                    continue
                text = element.text
            else:
                unseen -= event == "end" and element.tag in _UNSEEN
                text = element.tail
            if text and not unseen:
                self.texts.append(text)

    def _take_aside(self, element: etree._Element) -> bool:
        """Collect an element's own data; return whether to skip its content."""
        markup, element_id = self.markup, element.get("id")
        if element.tag == "input" and element.get("type", "").lower() == "hidden" and (name := element.get("name")):
            markup.hidden_fields[name] = element.get("value", "")
        if element_id:
            markup.ids.add(element_id)
            if element_id == self._select_id:
                markup.options += _options(element)
            elif element_id == self._table_id:
                markup.rows += _rows(element)
        return element_id in (self._select_id, self._table_id)


def _options(select: etree._Element) -> list[Option]:
    found = []
    for option in select.iterdescendants("option"):
        value = option.get("value")
        shown = clean(_text(option, ("option",)) if value is None else value)
        found.append(Option(shown, option.get("selected") is not None))
    return found


def _rows(table: etree._Element) -> list[list[str]]:
    rows: list[list[str]] = []
    for element in table.iterdescendants(*_ROWS):
        if element.tag == "tr":
            rows.append([])
        elif rows:
            rows[-1].append(_text(element, _ROWS))
    return rows


def _text(element: etree._Element, ends: tuple[str, ...]) -> str:
    """Return the text of an element, up to the first nested element with a tag in `ends`."""
    if not len(element):
        return element.text or ""
    texts = []
    for event, inner in etree.iterwalk(element, _EVENTS):
        if inner is element:
            texts.append(element.text if event == "start" else None)
        elif event == "start" and inner.tag in ends:
            break
        else:
            texts.append(inner.text if event == "start" else inner.tail)
    return "".join(filter(None, texts))

"""From the text of a daily page to what is read of it, in lxml's own tree.

There are hundreds of daily pages for each page of another kind. Beautiful Soup has lxml call it back for each tag, and
each call takes the interpreter's lock, for which parsing threads then fight; lxml builds its own tree without.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from lxml import etree

from scraperkit.errors import NotACvmPage
from scraperkit.sources.markup import clean

# What Beautiful Soup leaves out of a page's text, too.
_UNSEEN = frozenset({"script", "style", "template", "rt", "rp"})
_ROWS = ("tr", "td", "th")
# By which lxml tells that it has left out the rest; older ones use the second.
_GAVE_UP = (etree.ErrorTypes.ERR_RESOURCE_LIMIT, etree.ErrorTypes.ERR_INTERNAL_ERROR)
_EVENTS = ("start", "end", "comment", "pi")


class Option(NamedTuple):
    """One option of a select: what a browser would send of it, which is the text where there is no value."""

    value: str
    selected: bool


@dataclass(slots=True)
class DailyMarkup:
    """A parsed daily page.

    Attributes
    ----------
    options : list of Option
        Those of the select.
    rows : list of lists of str
        The texts of the table's cells.
    ids : set of str
        Of all elements outside of the two, and theirs.
    hidden_fields : dict
        The hidden fields of the form, for posting back.
    text : str
        All text outside of the two.
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
        From :func:`~scraperkit.sources.markup.read_page`.
    select_id, table_id : str
        The select whose options are wanted, and the table whose cells are.
    url : str
        The page's address, for messages.

    Raises
    ------
    NotACvmPage
        If its elements are nested so deep that lxml leaves out a part.
    """
    reading = _Reading(select_id, table_id)
    for root in _roots(source, url):
        reading.take(root)
    reading.markup.text = clean(" ".join(reading.texts))
    return reading.markup


def _roots(source: str, url: str) -> list[etree._Element]:
    """Return the tree of a page; what comes after the end of ``html`` is further trees."""
    parser = etree.HTMLParser(encoding="utf-8", huge_tree=True)
    try:
        parser.feed(source.encode("utf-8"))
        root = parser.close()
    except etree.XMLSyntaxError:
        return []  # not a single element
    if parser.feed_error_log.filter_types(_GAVE_UP):
        raise NotACvmPage("not the daily page: its elements are nested too deep", url)
    return [] if root is None else [root, *root.itersiblings("*")]


class _Reading:
    """Goes through trees once, and takes down what is wanted of them."""

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
        """Take down what an element says of itself; return whether that is all that is wanted of it."""
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
    """Return the text of an element, up to where the first of other such elements in it begins."""
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

"""An independent reader of daily pages, from the events that lxml sends to Beautiful Soup."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bs4 import BeautifulSoup
from bs4.builder._lxml import LXMLTreeBuilder

from scraperkit.sources.markup import DailyMarkup, Option, attribute, clean


def read_by_events(source: str, *, select_id: str, table_id: str) -> DailyMarkup:
    """Do the work of :func:`~scraperkit.sources.markup.read_daily_markup`."""
    options, rows = _Options(), _Rows()
    soup = BeautifulSoup(source, builder=_Builder({select_id: options, table_id: rows}))
    tags = soup.find_all(True)
    inputs = [tag for tag in tags if tag.name == "input" and attribute(tag, "type").lower() == "hidden"]
    return DailyMarkup(
        options=[Option(clean(text if value is None else value), selected) for value, selected, text in options.found],
        rows=rows.found,
        ids={attribute(tag, "id") for tag in tags} - {""},
        hidden_fields={attribute(tag, "name"): attribute(tag, "value") for tag in inputs if attribute(tag, "name")},
        text=clean(soup.get_text(" ")),
    )


class _Options:
    def __init__(self) -> None:
        self.found: list[list[Any]] = []
        self._open = False

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        if tag == "option":
            self.found.append([attributes.get("value"), "selected" in attributes, ""])
            self._open = True

    def end(self, tag: str) -> None:
        self._open = self._open and tag != "option"

    def data(self, text: str) -> None:
        if self._open:
            self.found[-1][2] += text


class _Rows:
    def __init__(self) -> None:
        self.found: list[list[str]] = []
        self._open = False

    def start(self, tag: str, _attributes: Mapping[str, str]) -> None:
        if tag == "tr":
            self.found.append([])
            self._open = False  # a row in a cell ends the cell
        elif tag in ("td", "th") and self.found:
            self.found[-1].append("")
            self._open = True

    def end(self, tag: str) -> None:
        self._open = self._open and tag not in ("td", "th")

    def data(self, text: str) -> None:
        if self._open:
            self.found[-1][-1] += text


class _Builder(LXMLTreeBuilder):
    """Makes tags from events; events inside an element with a given id go to its collector."""

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

"""Read a page of the replica as a browser would, with the standard library alone."""

from __future__ import annotations

import datetime as dt
from html.parser import HTMLParser

from scraperkit.models import DailyQuote

VOID = ("meta", "br", "input")


class Reader(HTMLParser):
    """Collects the parts of a page that a client reads."""

    def __init__(self, content: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.texts: dict[str, str] = {}
        self.attributes: dict[str, dict[str, str]] = {}
        self.hidden: dict[str, str] = {}
        self.options: list[str] = []
        self.selected: list[str] = []
        self.tables: list[str] = []
        self.rows: list[list[str]] = []
        self.tags: list[str] = []
        self.text = ""
        self._open: list[tuple[str, str]] = []
        self.feed(content.decode("iso-8859-1"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        if "id" in named:
            assert named["id"] not in self.attributes, f"id {named['id']} appears twice"
            self.attributes[named["id"]] = named
            self.texts[named["id"]] = ""
        if tag == "table":
            self.tables.append(named.get("id", ""))
        if tag == "input":
            self.hidden[named["name"]] = named["value"]
        if tag == "option":
            self.options.append(named["value"])
            if "selected" in named:
                self.selected.append(named["value"])
        if tag not in VOID:
            self._open.append((tag, named.get("id", "")))
        if self.tables and self.tables[-1] == "dgDocDiario":
            if tag == "tr":
                self.rows.append([])
            elif tag == "td":
                self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert tag in VOID or self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        if any(tag == "script" for tag, _ in self._open):
            return
        self.text += data
        for _, name in self._open:
            if name:
                self.texts[name] += data
        if self._open and self._open[-1][0] in ("td", "b") and self.rows and self.rows[-1]:
            self.rows[-1][-1] += data


def figure(text: str) -> float | None:
    return None if text == "\xa0" else float(text.replace(".", "").replace(",", "."))


def read_quotes(page: Reader, cnpj: str, month_year: str) -> list[DailyQuote]:
    """Read the table independently of the kit, by the order of the columns."""
    month, year = (int(part) for part in month_year.split("/"))
    quotes = []
    for day, quota, inflow, outflow, net_worth, portfolio, holders, _ in page.rows[1:]:
        figures = [figure(text) for text in (quota, net_worth, holders, inflow, outflow, portfolio)]
        if any(value is not None for value in figures):
            quotes.append(DailyQuote(cnpj, dt.date(year, month, int(day)), *figures))  # type: ignore[arg-type]
    return quotes

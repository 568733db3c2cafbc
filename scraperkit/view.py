"""Building blocks for the notebook views of the kit's objects: each view renders as HTML and as the same text.

Colours come from JupyterLab's theme, so views fit light and dark; elsewhere they inherit from the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from scraperkit.text import printable

_RULE = "1px solid var(--jp-border-color2, rgba(128, 128, 128, 0.4))"
_PALE = "var(--jp-ui-font-color2, inherit)"
STATE_COLOURS = {
    "done": "var(--jp-brand-color1, #1976d2)",
    "not_offered": "var(--jp-info-color2, #90a4ae)",
    "failed": "var(--jp-error-color1, #d32f2f)",
    "lost": "var(--jp-warn-color1, #f57c00)",
    "cancelled": "var(--jp-ui-font-color3, #9e9e9e)",
}
_REST = "rgba(128, 128, 128, 0.25)"
_CELL = "text-align: left; vertical-align: top; padding: 0.15em 1.2em 0.15em 0"
_LONGEST_TEXT = 300
_SHORT = 40
_MOST_ROWS = 30


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under headings."""

    headings: tuple[str, ...]
    rows: Sequence[Sequence[str]]

    def html(self) -> str:
        """Return the table as HTML, all text escaped."""
        head = "".join(
            f"<th style='{_CELL}; color: {_PALE}; font-weight: normal'>{_safe(text)}</th>" for text in self.headings
        )
        lines = [
            "<tr>" + "".join(f"<td style='{_cell(text)}'>{_safe(text)}</td>" for text in row) + "</tr>"
            for row in self.rows[:_MOST_ROWS]
        ]
        if len(self.rows) > _MOST_ROWS:
            more = f"… and {len(self.rows) - _MOST_ROWS} more"
            lines.append(f"<tr><td style='{_CELL}' colspan='{len(self.headings)}'>{more}</td></tr>")
        return (
            "<table style='margin: 0.3em 0 0; border-collapse: collapse; color: inherit'>"
            f"<thead><tr style='border-bottom: {_RULE}'>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
        )

    def text(self) -> str:
        """Return the table as text with aligned columns."""
        lines = [list(self.headings), *([_short(text) for text in row] for row in self.rows[:_MOST_ROWS])]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.headings))]
        shown = [
            "  " + "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        ]
        if len(self.rows) > _MOST_ROWS:
            shown.append(f"  … and {len(self.rows) - _MOST_ROWS} more")
        return "\n".join(shown)


@dataclass(frozen=True, slots=True)
class Bar:
    """A progress bar: shares of a whole, such as done, failed and left."""

    whole: int
    parts: dict[str, int]

    def html(self) -> str:
        """Return the bar as HTML, with a text label for screen readers."""
        told = f"{self.parts.get('done', 0)} of {self.whole} done"
        parts = "".join(
            f"<div style='width: {100 * count / max(1, self.whole):.4g}%; background: {STATE_COLOURS[name]}'></div>"
            for name, count in self.parts.items()
            if count
        )
        return (
            f"<div role='img' aria-label='{told}' title='{told}' style='display: flex; height: 0.6em; max-width: 30em; "
            f"margin: 0.4em 0; border-radius: 0.3em; overflow: hidden; background: {_REST}'>{parts}</div>"
        )


@dataclass(frozen=True, slots=True)
class View:
    """A summary of an object: a title, a few facts, and optionally a bar and tables."""

    title: str
    state: str
    facts: tuple[tuple[str, str], ...] = ()
    bar: Bar | None = None
    tables: tuple[Table, ...] = ()

    def html(self) -> str:
        """Return the view as HTML, all text escaped."""
        facts = "".join(
            f"<tr><th style='{_CELL}; color: {_PALE}; font-weight: normal'>{_safe(label)}</th>"
            f"<td style='{_CELL}'>{_safe(text)}</td></tr>"
            for label, text in self.facts
        )
        return (
            f"<div style='color: inherit; line-height: 1.5'><div><b>{_safe(self.title)}</b> {_safe(self.state)}</div>"
            + (self.bar.html() if self.bar else "")
            + f"<table style='margin: 0; border-collapse: collapse; color: inherit'><tbody>{facts}</tbody></table>"
            + "".join(table.html() for table in self.tables)
            + "</div>"
        )

    def text(self) -> str:
        """Return the view as text."""
        width = max((len(label) for label, _ in self.facts), default=0)
        facts = [f"  {_short(label).ljust(width)}  {_short(text)}" for label, text in self.facts]
        return "\n".join([f"{self.title} {_short(self.state)}", *facts, *(table.text() for table in self.tables)])


class NotebookRepr:
    """Mixin that shows an object in a notebook as HTML where possible, otherwise as text with the same facts."""

    __slots__ = ()

    def _view(self) -> View:
        raise NotImplementedError

    def _repr_html_(self) -> str:
        return self._view().html()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:  # noqa: ARG002
        view = self._view()
        return {"text/plain": view.text(), "text/html": view.html()}


def duration(seconds: float) -> str:
    """Return a duration in human-readable form.

    Examples
    --------
    >>> duration(0.25), duration(5), duration(90), duration(7300)
    ('0.2 s', '5.0 s', '1 min 30 s', '2 h 1 min')
    """
    seconds = max(0.0, seconds)
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = int(seconds // 60)
    return f"{minutes} min {int(seconds % 60)} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _short(text: str) -> str:
    """Return the printable text on one line, cut to a maximum length."""
    line = printable(" ".join(text[: 2 * _LONGEST_TEXT].split()))
    return line if len(line) <= _LONGEST_TEXT else line[:_LONGEST_TEXT] + "…"


def _cell(text: str) -> str:
    """Return the style of a cell; short text does not wrap."""
    return f"{_CELL}; white-space: nowrap" if len(text) <= _SHORT else _CELL


def _safe(text: str) -> str:
    return escape(_short(text))

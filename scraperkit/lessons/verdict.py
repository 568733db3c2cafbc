"""The result of a check."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of checking an answer; a notebook shows it as a line of text."""

    done: bool
    text: str

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        mark, colour = ("✔", "#2a9d6f") if self.done else ("…", "#d98e04")
        return (
            f"<div style='border-left: 4px solid {colour}; padding: 0.2em 0.8em'>"
            f"<b style='color: {colour}'>{mark}</b> {escape(self.text)}</div>"
        )

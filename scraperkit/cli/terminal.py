"""What the commands write to a terminal; nothing from elsewhere steers it."""

from __future__ import annotations

import logging
import shlex
import sys
from types import TracebackType
from typing import TypeAlias

import typer

from scraperkit.text import printable

_ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def echo(text: object, *, err: bool = False, lines: bool = False) -> None:
    """Write a line, or several if `lines`, with all other control characters escaped."""
    typer.echo(printable(str(text), keep="\n" if lines else ""), err=err)


def how_to_install(extra: str) -> str:
    """Return the words that tell how to add one of the project's extras to this Python."""
    return f"run in the project's folder: {shlex.quote(sys.executable)} -m pip install '.[{extra}]'"


def say_error(error: Exception) -> None:
    """Write an error to stderr, as one line."""
    echo(f"scraperkit: {error}", err=True)


def log_to_stderr() -> None:
    """Log from INFO on to stderr, each record as one line, with its traceback below."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Escaping("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


class _Escaping(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))

    def formatException(self, ei: _ExcInfo) -> str:
        return printable(super().formatException(ei), keep="\n\t")

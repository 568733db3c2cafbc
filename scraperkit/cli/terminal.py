"""Output of commands to a terminal, with foreign control characters escaped."""

from __future__ import annotations

import shlex
import sys

import typer

from scraperkit.cli import logs
from scraperkit.errors import notes_of
from scraperkit.text import printable


def echo(text: object, *, err: bool = False, lines: bool = False) -> None:
    """Write a line, or several if `lines`, with all other control characters escaped; stderr may be a JSON log."""
    if err and logs.are_json():
        logs.log.warning("%s", text)
        return
    typer.echo(printable(str(text), keep="\n" if lines else ""), err=err)


def how_to_install(extra: str) -> str:
    """Return instructions for adding one of the project's extras to this Python."""
    return f"run in the project's folder: {shlex.quote(sys.executable)} -m pip install '.[{extra}]'"


def say_error(error: Exception) -> None:
    """Write an error to stderr on one line, and each of its notes on another."""
    if logs.are_json():
        logs.log.error("%s", error)
        return
    for text in (error, *notes_of(error)):
        echo(f"scraperkit: {text}", err=True)

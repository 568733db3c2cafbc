"""``scraperkit dead``: jobs that failed permanently."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from scraperkit.cli.options import Namespace
from scraperkit.cli.terminal import echo

if TYPE_CHECKING:
    from scraperkit.deadletters import DeadLetters

app = typer.Typer(help="Jobs that failed permanently.", no_args_is_help=True)

Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Ids that `list` shows; default: all.")]


@contextmanager
def _dead_letters(namespace: str | None) -> Iterator[DeadLetters]:
    from scraperkit.connection import connect
    from scraperkit.deadletters import DeadLetters

    with connect() as redis:
        yield DeadLetters(redis, namespace=namespace)


@app.command("list")
def show(namespace: Namespace = None) -> None:
    """List dead letters with their last errors."""
    with _dead_letters(namespace) as letters:
        for letter_id, row in letters.list().iterrows():
            what = f"{row['cnpj']} {row['month']}" if row["cnpj"] else row["message"][:60]
            echo(f"{letter_id}  {row['died_at']:%Y-%m-%d %H:%M}  {what}  {row['attempts']} attempts  {row['error']}")
        if not len(letters):
            echo("no dead letters")


@app.command()
def retry(ids: Ids = None, namespace: Namespace = None) -> None:
    """Put dead letters back into the job stream."""
    with _dead_letters(namespace) as letters:
        echo(f"{letters.retry(ids or None)} retried")


@app.command()
def drop(
    ids: Ids = None,
    everything: Annotated[bool, typer.Option("--all", help="Drop all dead letters.")] = False,
    namespace: Namespace = None,
) -> None:
    """Delete dead letters."""
    if bool(ids) == everything:
        raise typer.BadParameter("name the dead letters to drop, or use --all")
    with _dead_letters(namespace) as letters:
        echo(f"{letters.drop(ids or None)} dropped")

"""``scraperkit batch``: what was published together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from scraperkit.batch import Batch, BatchStatus

app = typer.Typer(help="What was published together, by the id that `publish` prints.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="ID", help="As `publish` prints it.")]
Namespace = Annotated[str | None, typer.Option(help="Where to look; SCRAPERKIT_NAMESPACE if left out.")]


@contextmanager
def _batch(batch_id: str, namespace: str | None) -> Iterator[Batch]:
    from scraperkit.batch import Batch
    from scraperkit.connection import connect

    with connect() as redis:
        yield Batch.find(redis, batch_id, namespace=namespace)


def report(status: BatchStatus) -> None:
    """Say how a batch ended; exit code 1 if something failed or was lost."""
    typer.echo(str(status))
    if status.failed or status.lost:
        raise typer.Exit(1)


@app.command()
def status(batch_id: Id, namespace: Namespace = None) -> None:
    """Tell how far it is, and what failed and why."""
    with _batch(batch_id, namespace) as batch:
        typer.echo(str(batch.status()))
        for _, row in batch.failures().iterrows():
            typer.echo(f"{row['cnpj']} {row['month']} {row['state']}: {row['error']}")


@app.command()
def wait(
    batch_id: Id,
    timeout: Annotated[float | None, typer.Option(min=0, help="Seconds to wait at most.")] = None,
    namespace: Namespace = None,
) -> None:
    """Wait until nothing is pending; exit code 1 if something failed or was lost."""
    with _batch(batch_id, namespace) as batch:
        report(batch.wait(timeout))


@app.command()
def cancel(batch_id: Id, namespace: Namespace = None) -> None:
    """Take back what no worker has begun."""
    with _batch(batch_id, namespace) as batch:
        typer.echo(f"{batch.cancel()} cancelled: {batch.status()}")

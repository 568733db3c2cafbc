"""``scraperkit batch``: commands for published batches."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from scraperkit.cli.exits import INCOMPLETE
from scraperkit.cli.options import Namespace
from scraperkit.cli.terminal import echo

if TYPE_CHECKING:
    from scraperkit.batch import Batch

app = typer.Typer(help="Follow or cancel a batch, by the id that `publish` prints.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="ID", help="The id that `publish` prints.")]


@contextmanager
def _batch(batch_id: str, namespace: str | None) -> Iterator[Batch]:
    from scraperkit.batch import Batch
    from scraperkit.connection import connect

    with connect() as redis:
        yield Batch.find(redis, batch_id, namespace=namespace)


def wait_for(batch: Batch, timeout: float | None = None) -> bool:
    """Wait for a batch and print how it ended; return whether no job failed or was lost."""
    status = batch.wait(timeout)
    echo(str(status))
    return not (status.failed or status.lost)


@app.command()
def status(batch_id: Id, namespace: Namespace = None) -> None:
    """Show a batch's progress and failures."""
    with _batch(batch_id, namespace) as batch:
        status = batch.status(search_up_to=math.inf)
        echo(str(status))
        if status.pending and (told := batch.lacks_worker()):
            echo(told, err=True)
        for _, row in batch.failures().iterrows():
            echo(f"{row['cnpj']} {row['month']} {row['state']}: {row['error']}")


@app.command()
def wait(
    batch_id: Id,
    timeout: Annotated[float | None, typer.Option(min=0, help="Longest wait, in seconds.")] = None,
    namespace: Namespace = None,
) -> None:
    """Wait until nothing is pending; exit with code 1 if a job failed or was lost."""
    with _batch(batch_id, namespace) as batch:
        if not wait_for(batch, timeout):
            raise typer.Exit(INCOMPLETE)


@app.command()
def cancel(batch_id: Id, namespace: Namespace = None) -> None:
    """Cancel the jobs that no worker has started."""
    with _batch(batch_id, namespace) as batch:
        echo(f"{batch.cancel()} cancelled: {batch.status()}")

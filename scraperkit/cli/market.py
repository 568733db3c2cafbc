"""``scraperkit market``: the regulator's open data, kept on disk."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scraperkit.cli.exits import INCOMPLETE, stop_at_once
from scraperkit.cli.options import End, Namespace, Out, Start, write_out
from scraperkit.cli.terminal import echo
from scraperkit.errors import NothingThere

if TYPE_CHECKING:
    import pandas as pd

    from scraperkit.sources.open_data import OpenData

app = typer.Typer(
    help="The whole market since 2000, from the regulator's open data (CVM, ODbL 1.0).", no_args_is_help=True
)

Archive = Annotated[
    Path | None, typer.Option(help="Folder of the archive; default: SCRAPERKIT_ARCHIVE, else in the data folder.")
]
PortalUrl = Annotated[
    str | None, typer.Option("--url", help="Portal; default: SCRAPERKIT_OPEN_DATA_URL, else the live one.")
]
FirstMonth = Annotated[str | None, typer.Option("--start", help="First month, YYYY-MM.")]
LastMonth = Annotated[str | None, typer.Option("--end", help="Last month, YYYY-MM.")]


@contextlib.contextmanager
def _opened(url: str | None, archive: Path | None) -> Iterator[OpenData]:
    """Open the archive; share the site's limits with the workers on a Redis, if one is set."""
    from scraperkit.config import Settings
    from scraperkit.sources.open_data import OpenData

    settings = Settings.load()
    with OpenData(url, archive=archive, settings=settings) as market, contextlib.ExitStack() as stack:
        if settings.redis_url is not None:
            from scraperkit.connection import connect

            redis = stack.enter_context(connect())
            market.politeness.share(redis)
            stack.callback(market.politeness.unshare, redis)
        yield market


def _exactly(figure: float) -> str:
    """Return the shortest text that identifies a figure."""
    return repr(float(figure))


def _show(frame: pd.DataFrame, out: Path | None, nothing: str = "") -> None:
    if out is None:
        text = frame.to_string(index=frame.index.name is not None, float_format=_exactly)
        echo(text if len(frame) else nothing, lines=True)
    else:
        write_out(frame, out)


@app.command()
def download(
    start: FirstMonth = None,
    end: LastMonth = None,
    every: Annotated[float | None, typer.Option(min=0.001, help="Repeat every N hours until stopped.")] = None,
    url: PortalUrl = None,
    archive: Archive = None,
) -> None:
    """Fetch what is new, and the registry; exit with code 1 if a file was refused.

    Without months: those already in the archive, else the newest 24.
    """
    import pandas as pd

    if every is not None:
        stop_at_once()  # the archive is consistent at every moment
    with _opened(url, archive) as market:
        while True:
            files = pd.concat([market.download(start, end, progress=True), market.update_registry()], ignore_index=True)
            _show(files, None, "nothing is due")
            if every is None:
                break
            time.sleep(every * 3600)
    if (files["outcome"] == "refused").any():
        raise typer.Exit(INCOMPLETE)


@app.command()
def find(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Words of a name in any order, or a CNPJ.")],
    active: Annotated[bool | None, typer.Option("--active/--inactive", help="Only these; default: both.")] = None,
    url: PortalUrl = None,
    archive: Archive = None,
    out: Out = None,
) -> None:
    """Search the registry by name or number."""
    with _opened(url, archive) as market:
        found = market.find(text, active)
    if found.empty:
        raise NothingThere("nothing found")
    shown = found if out else found[["name", "kind", "status", "net_worth", "holders", "started_on"]]
    _show(shown, out)


@app.command()
def load(
    funds: Annotated[
        list[str] | None, typer.Argument(metavar="SERIES", help="CNPJ or CNPJ:SUBCLASS; default: all.")
    ] = None,
    start: Start = None,
    end: End = None,
    archive: Archive = None,
    namespace: Namespace = None,
) -> None:
    """Load months of the archive into Redis TimeSeries; say first how much memory that takes."""
    from scraperkit.connection import connect

    with _opened(None, archive) as market, connect() as redis:
        samples = market.load(redis, funds or None, start, end, namespace=namespace, progress=True)
    echo(f"{samples:,} samples written")


@app.command()
def changes(start: Start = None, end: End = None, archive: Archive = None, out: Out = None) -> None:
    """Show figures that were revised since their first download."""
    with _opened(None, archive) as market:
        _show(market.changes(start, end), out, "no revision seen")


@app.command()
def completeness(start: Start = None, end: End = None, archive: Archive = None, out: Out = None) -> None:
    """Show how many series each business day has, compared with the day before."""
    with _opened(None, archive) as market:
        _show(market.completeness(start, end), out, "no business days")


@app.command()
def rejected(start: Start = None, end: End = None, archive: Archive = None, out: Out = None) -> None:
    """Show the lines that were left out, and why."""
    with _opened(None, archive) as market:
        _show(market.rejected(start, end), out, "no line was rejected")


@app.command()
def info(archive: Archive = None, out: Out = None) -> None:
    """Show what the archive has, from which files, and the data's owner."""
    with _opened(None, archive) as market:
        ledger = market.archive_info()
        if out is None:
            echo(market._view().text(), lines=True)
        shown = ["fetched_at", "checked_at", "layout", "kept", "rejected", "outcome", "reason"]
        _show(ledger if out else ledger[shown], out, "no file has been requested")


@app.command()
def prune(
    keep: Annotated[int, typer.Option(min=1, help="How many of the newest months to keep.")],
    archive: Archive = None,
) -> None:
    """Delete older months, with their revisions, and older copies of the registry."""
    with _opened(None, archive) as market:
        gone = market.prune(keep)
    echo(f"{len(gone)} months deleted, {gone['bytes'].sum() / 1e6:,.0f} MB")

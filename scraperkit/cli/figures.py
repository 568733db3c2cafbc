"""``scraperkit summary`` and ``scraperkit jumps``: figures of stored prices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scraperkit.cli.options import End, Namespace, Out, Start, write_out
from scraperkit.cli.refusals import Refusals
from scraperkit.cli.terminal import echo
from scraperkit.errors import NothingThere

if TYPE_CHECKING:
    import pandas as pd
    import redis as redis_py

    from scraperkit.timeseries.reader import TimeSeriesReader

app = typer.Typer()

SeriesNames = Annotated[list[str] | None, typer.Argument(metavar="FUND", help="CNPJs, series or names; default: all.")]
RATES = "cdi, selic, ipca, igpm, dollar or ibovespa"


@app.command()
def summary(
    funds: SeriesNames = None,
    start: Start = None,
    end: End = None,
    benchmark: Annotated[str | None, typer.Option(help=f"Compare with {RATES}.")] = None,
    risk_free: Annotated[str | None, typer.Option(help="Risk-free rate of the Sharpe ratio, such as cdi.")] = None,
    inflation: Annotated[str | None, typer.Option(help="Inflation for real returns, such as ipca.")] = None,
    out: Out = None,
    namespace: Namespace = None,
) -> None:
    """Show return and risk figures of funds, with or without a benchmark: one row per figure, one column per fund.

    All are fractions: 0.01 is 1 %. Missing rates are fetched. In a file, each fund is a row.
    """
    with _stored(funds, namespace) as (redis, reader, wanted):
        from scraperkit import metrics
        from scraperkit.sources.rates import rates

        prices = reader.prices(wanted, start, end)
        if not len(prices):
            raise NothingThere("no prices stored")
        days = prices.index[[0, -1]]
        names = {name for name in (benchmark, risk_free, inflation) if name is not None}
        known = {name: rates(name, *days, redis=redis) for name in sorted(names)}
        found = metrics.summary(
            prices,
            benchmark=known.get(benchmark or ""),
            risk_free=known.get(risk_free or ""),
            inflation=known.get(inflation or ""),
        )
        _show(found, out, lambda: found.astype("object").map(_text).T.to_string())


@app.command()
def jumps(
    funds: SeriesNames = None,
    start: Start = None,
    end: End = None,
    smallest: Annotated[float, typer.Option(help="Smallest jump, as a fraction: 0.005 is 0.5 %.")] = 0.005,
    out: Out = None,
    namespace: Namespace = None,
) -> None:
    """Show the days on which a quota or a net worth jumped, with the kind of each jump and the evidence."""
    with _stored(funds, namespace) as (_, reader, wanted):
        from scraperkit import metrics

        found = metrics.jumps(reader.quotes(wanted, start, end), smallest)
        _show(found, out, lambda: "\n".join(_lines(found)) or "no jumps")


@contextmanager
def _stored(
    funds: list[str] | None, namespace: str | None
) -> Iterator[tuple[redis_py.Redis, TimeSeriesReader, list[str] | None]]:
    """Give a command the stored series of funds; at the end, report funds that have none, with the exit code."""
    from scraperkit.connection import connect
    from scraperkit.timeseries.reader import TimeSeriesReader

    refusals = Refusals()
    with connect() as redis:
        reader = TimeSeriesReader(redis, namespace=namespace)
        wanted = refusals.stored(redis, reader, funds, namespace) if funds else None
        if wanted == []:
            refusals.tell(len(funds or ()))
            raise typer.Exit(refusals.code)
        yield redis, reader, wanted
    refusals.tell(len(funds or ()))
    if refusals:
        raise typer.Exit(refusals.code)


def _show(frame: pd.DataFrame, out: Path | None, text: Callable[[], str]) -> None:
    if out is None:
        echo(text(), lines=True)
    else:
        write_out(frame, out)
        echo(f"{len(frame)} rows in {out}")


def _text(value: object) -> str:
    """Format a figure for a table."""
    import pandas as pd

    if pd.isna(value):  # type: ignore[call-overload]
        return ""
    if isinstance(value, pd.Timestamp):
        return f"{value:%Y-%m-%d}"
    return f"{value:,.4f}" if isinstance(value, float) else f"{value}"


def _lines(found: pd.DataFrame) -> Iterator[str]:
    for row in found.to_dict("records"):
        series = f"{row['cnpj']}:{row['subclass']}" if row["subclass"] else row["cnpj"]
        yield f"{row['date']:%Y-%m-%d}  {series}  {row['kind']}: {row['evidence']}"

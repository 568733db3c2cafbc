"""``scraperkit update``: the newest days of what is stored, for cron, systemd and containers."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scraperkit.cli.exits import CONFIG, EXIT_CODES, INCOMPLETE, SOFTWARE, UNAVAILABLE, exit_codes
from scraperkit.cli.options import GivenFunds, Namespace, SourceOfFunds, use_namespace
from scraperkit.cli.terminal import echo
from scraperkit.cnpj import format_series
from scraperkit.text import say

if TYPE_CHECKING:
    import pandas as pd

    from scraperkit.research.updating import News

_MOST_FUNDS, _MOST_VALUES = 100, 20
UPDATE_CODES = (
    f"{EXIT_CODES} Nothing new also exits with 0. With --every, codes {CONFIG}, {UNAVAILABLE} and {SOFTWARE} end the "
    "loop, and an interruption exits with 0."
)


def update(
    funds: GivenFunds = None,
    source: SourceOfFunds = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing if nothing is new.")] = False,
    every: Annotated[float | None, typer.Option(min=0.001, help="Repeat every N hours.")] = None,
    namespace: Namespace = None,
) -> None:
    """Fetch the newest days of stored funds and months that may have been revised; show new days and changes.

    What is unavailable is reported on stderr. SIGTERM and Ctrl-C withdraw the jobs.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, it withdraws the jobs
    use_namespace(namespace)
    try:
        with exit_codes():
            good = _update(funds, source, quiet, may_be_empty=every is not None)
            while every is not None:
                time.sleep(every * 3600)
                _update(funds, source, quiet, may_be_empty=True)
    except KeyboardInterrupt:
        if every is None:
            raise
    else:
        if not good:
            raise typer.Exit(INCOMPLETE)


def _update(funds: list[str] | None, source: str | None, quiet: bool, *, may_be_empty: bool) -> bool:
    """Return whether everything was available."""
    from scraperkit.connection import connect
    from scraperkit.research.updating import bring_news
    from scraperkit.timeseries.rows import RowReader

    with connect() as redis:
        if may_be_empty and not funds and not RowReader(redis, advice="").stored():
            echo("nothing is stored yet")
            return True
        news = bring_news(redis, funds or None, source, (lambda _: None) if quiet else say)
    lines = list(_lines(news))
    if lines or not quiet:
        echo("\n".join(lines or [_nothing(news.table)]), lines=True)
    problems = news.table["problem"][news.table["problem"] != ""]
    for series, problem in problems.items():
        echo(f"scraperkit: {_named(str(series), news.table)}: {problem}", err=True)
    return problems.empty


def _lines(news: News) -> Iterator[str]:
    """Yield a line for each series with news, then one for each changed value; only the first of many."""
    table = news.table[(news.table["new_days"] > 0) | (news.table["changed"] > 0)]
    shown: list[Any] = list(table.head(_MOST_FUNDS).itertuples())
    values: list[Any] = list(news.changes.head(_MOST_VALUES).itertuples())
    for row in shown:
        days = f"{_count(row.new_days, 'new day')}, the newest {row.last:%Y-%m-%d}" if row.new_days else ""
        changed = _count(row.changed, "changed value") if row.changed else ""
        yield f"{_named(row.Index, news.table)}: {'; '.join(filter(None, (days, changed)))}"
    if len(table) > _MOST_FUNDS:
        yield f"and {len(table) - _MOST_FUNDS:,} more series with news"
    for row in values:
        series = f"{row.cnpj}:{row.subclass}" if row.subclass else row.cnpj
        new = "withdrawn" if row.new != row.new else f"{row.new:.12g}"
        yield f"  {format_series(series)} {row.date:%Y-%m-%d} {row.metric}: {row.old:.12g} → {new}"
    if len(news.changes) > _MOST_VALUES:
        rest = _count(len(news.changes) - _MOST_VALUES, "more value")
        yield f"  and {rest}; TimeSeriesReader.changes() has all of them"


def _nothing(table: pd.DataFrame) -> str:
    newest = f", the newest day is {table['last'].max():%Y-%m-%d}" if table["last"].notna().any() else ""
    return f"nothing new for {len(table):,} series{newest}"


def _named(series: str, table: pd.DataFrame) -> str:
    """Return a series, or the text that requested it, with its name if known."""
    name = table.attrs.get("names", {}).get(series, "")
    shown = format_series(series) if series[:14].isalnum() and len(series) >= 14 else series
    return f"{shown} {name}".rstrip()


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + "s" * (number != 1)

"""``scraperkit rates``: show a reference rate, or write it to a file."""

from __future__ import annotations

from typing import Annotated

import typer

from scraperkit.cli.options import End, Out, Start, write_out
from scraperkit.cli.terminal import echo
from scraperkit.errors import NothingThere

# Longer series show only this many values at each end.
_MOST, _SHOWN = 24, 5


def show_rates(
    name: Annotated[str, typer.Argument(metavar="NAME", help="cdi, selic, ipca, igpm, dollar or ibovespa.")],
    start: Start = None,
    end: End = None,
    out: Out = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="Fetch the whole window again.")] = False,
) -> None:
    """Show a reference rate, or write it to a file; fetch missing values.

    Without days: the last twelve months. Rates are stored in Redis, the embedded one if REDIS_URL is not set.
    """
    from scraperkit.sources.rates import rates

    rate = rates(name, start, end, refresh=refresh)
    facts = rate.attrs
    head = f"{facts['name']}: {facts['kind']}, in {facts['unit']}, from {facts['source']}"
    if out is not None:
        write_out(rate.to_frame(), out)
        echo(f"{head}; {len(rate):,} values in {out}")
        return
    echo(head)
    if not len(rate):
        raise NothingThere("no values")
    decimals = max(len(f"{value:.12g}".partition(".")[2]) for value in rate)
    lines = [f"{day:%Y-%m-%d}  {value:>14,.{decimals}f}" for day, value in zip(rate.index, rate, strict=True)]
    if len(lines) > _MOST:
        lines[_SHOWN:-_SHOWN] = [f"… {len(lines) - 2 * _SHOWN:,} more; --out FILE.csv writes them all"]
    echo("\n".join(lines), lines=True)

"""``scraperkit export``: the figures of funds into a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scraperkit.cli.exits import INCOMPLETE
from scraperkit.cli.options import End, ExcelBr, GivenFunds, Namespace, SourceOfFunds, Start, checked_out, use_namespace
from scraperkit.cli.terminal import echo


def export(
    out: Annotated[Path, typer.Option("--out", "-o", help="The .csv or .parquet file.", callback=checked_out)],
    funds: GivenFunds = None,
    start: Start = None,
    end: End = None,
    metric: Annotated[
        str, typer.Option(help="quota, net_worth, holders, inflow, outflow, portfolio; or all, a row a day.")
    ] = "quota",
    excel_br: ExcelBr = False,
    source: SourceOfFunds = None,
    namespace: Namespace = None,
) -> None:
    """Write figures of funds to a file; fetch what is missing before, or with --source open_data read the archive.

    Without funds: all that is stored, or in the archive. Without --start: the last twelve months. The archive needs no
    Redis, and nothing is fetched into it. What could not be had is told on stderr, with exit code 1.
    """
    from scraperkit.research import export
    from scraperkit.research.exports import checked_path, figures_of

    checked_path(out, "--out", excel_br=excel_br)
    use_namespace(namespace)
    frame = figures_of(funds or None, start, end, metric, source=source)
    export(frame, out, excel_br=excel_br)
    echo(f"{len(frame):,} rows of {frame.shape[1]:,} columns in {out}")
    if frame.attrs.get("problems"):
        raise typer.Exit(INCOMPLETE)

"""``scraperkit export``: write figures of funds to a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scraperkit.cli.exits import INCOMPLETE
from scraperkit.cli.options import (
    End,
    ExcelBr,
    GivenFunds,
    Namespace,
    SourceOfFunds,
    Start,
    checked_out,
    tell_if_invented,
    use_namespace,
)
from scraperkit.cli.terminal import echo


def export(
    out: Annotated[Path, typer.Option("--out", "-o", help="The .csv or .parquet file.", callback=checked_out)],
    funds: GivenFunds = None,
    start: Start = None,
    end: End = None,
    metric: Annotated[
        str, typer.Option(help="quota, net_worth, holders, inflow, outflow, portfolio; or all, one row per day.")
    ] = "quota",
    excel_br: ExcelBr = False,
    source: SourceOfFunds = None,
    namespace: Namespace = None,
) -> None:
    """Fetch missing figures of funds and write all to a file; --source open_data reads the archive only.

    Without funds: all that are stored, or in the archive. Without --start: the last twelve months. The archive needs no
    Redis, and nothing is fetched into it. What is unavailable is reported on stderr, with exit code 1.
    """
    from scraperkit.research import export
    from scraperkit.research.exports import checked_path, figures_of

    checked_path(out, "--out", excel_br=excel_br)
    use_namespace(namespace)
    frame = figures_of(funds or None, start, end, metric, source=source)
    export(frame, out, excel_br=excel_br)
    columns = f"{frame.shape[1]:,} column{'s'[: frame.shape[1] != 1]}"
    echo(f"{len(frame):,} rows of {columns} in {out}")
    tell_if_invented()
    if frame.attrs.get("problems"):
        raise typer.Exit(INCOMPLETE)

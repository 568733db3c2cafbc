"""Arguments and options that several commands share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scraperkit.cli.terminal import echo

if TYPE_CHECKING:
    import pandas as pd

Namespace = Annotated[str | None, typer.Option(help="Namespace; default: SCRAPERKIT_NAMESPACE.")]
Url = Annotated[
    str | None,
    typer.Option(
        "--url", help="Site of the source; default: SCRAPERKIT_CVM_URL or SCRAPERKIT_OPEN_DATA_URL, else the live one."
    ),
]
SourceOption = Annotated[
    str | None, typer.Option("--source", help="cvm_pages or open_data; default: SCRAPERKIT_SOURCE, else cvm_pages.")
]
Cnpjs = Annotated[list[str], typer.Argument(metavar="FUND", help="CNPJs, with or without punctuation, or names.")]
GivenFunds = Annotated[
    list[str] | None, typer.Argument(metavar="FUND", help="CNPJs, series or names; default: all that are stored.")
]
SourceOfFunds = Annotated[
    str | None,
    typer.Option("--source", help="cvm_pages or open_data; by default chosen automatically."),
]
Start = Annotated[str | None, typer.Option("--start", help="First day, YYYY-MM-DD, or month.")]
End = Annotated[str | None, typer.Option("--end", help="Last day, YYYY-MM-DD, or month.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 picks a free one.")]


# Aliases of options, which no help shows.
_OTHER_NAMES = {"from": "start", "to": "end"}


def option_name(word: str) -> str:
    """Return an option's name for its alias; any other word unchanged."""
    return _OTHER_NAMES.get(word, word)


def checked_out(out: Path | None) -> Path | None:
    """Refuse a file that cannot be written, before any work."""
    if out is not None:
        from scraperkit.research.exports import checked_path

        checked_path(out, "--out")
    return out


Out = Annotated[
    Path | None, typer.Option(help="Write to this .csv or .parquet file instead of the screen.", callback=checked_out)
]
ExcelBr = Annotated[
    bool, typer.Option("--excel-br", help="Write CSV for Excel set to Portuguese: ; and decimal commas.")
]


def write_out(frame: pd.DataFrame, out: Path) -> None:
    """Write a frame to a file in the format of its suffix, even without rows."""
    from scraperkit.research.exports import write

    write(frame, out)
    tell_if_invented()


def tell_if_invented() -> None:
    """Say so on stderr if the figures are of the offline site: a CSV file cannot."""
    from scraperkit.research.offline_mode import is_offline
    from scraperkit.sources.terms import INVENTED

    if is_offline():
        echo(INVENTED, err=True)


def use_namespace(namespace: str | None) -> None:
    """Make a given namespace this process's default, for calls without that argument."""
    if namespace is not None:
        from scraperkit.keys import Keys

        os.environ["SCRAPERKIT_NAMESPACE"] = Keys(namespace).namespace


def with_names(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a wide frame for the screen, with the short name, if known, below each CNPJ."""
    import pandas as pd

    names = frame.attrs.get("names", {})
    if not names:
        return frame
    columns = [frame.columns, pd.Index([names.get(series, "") for series in frame.columns])]
    return frame.set_axis(pd.MultiIndex.from_arrays(columns, names=["cnpj", "name"]), axis="columns")

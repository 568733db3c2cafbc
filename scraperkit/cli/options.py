"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scraperkit.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

Namespace = Annotated[str | None, typer.Option(help="Namespace; default: SCRAPERKIT_NAMESPACE.")]
Url = Annotated[
    str | None,
    typer.Option(
        "--url", help="Site of the source; default: SCRAPERKIT_CVM_URL or SCRAPERKIT_OPEN_DATA_URL, else the live one."
    ),
]
SourceName = Annotated[
    str | None, typer.Option("--source", help="cvm_pages or open_data; default: SCRAPERKIT_SOURCE, else cvm_pages.")
]
Cnpjs = Annotated[list[str], typer.Argument(metavar="FUND...", help="CNPJs, with or without punctuation, or names.")]
Start = Annotated[str | None, typer.Option(help="First day, YYYY-MM-DD, or month.")]
End = Annotated[str | None, typer.Option(help="Last day, YYYY-MM-DD, or month.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 picks a free one.")]


def _checked(out: Path | None) -> Path | None:
    """Refuse a file of another kind, before anything is done."""
    if out is not None and out.suffix.lower() not in (".csv", ".parquet"):
        raise ConfigError(f"--out: {out.name!r} must end in .csv or .parquet")
    return out


Out = Annotated[
    Path | None, typer.Option(help="Write to this .csv or .parquet file instead of the screen.", callback=_checked)
]


def write_out(frame: pd.DataFrame, out: Path) -> None:
    """Write a frame to a file, as its name says."""
    if out.suffix.lower() == ".csv":
        from scraperkit.timeseries.csv_files import write_csv

        write_csv(frame, out)
    else:
        frame.to_parquet(out)


def with_names(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a wide frame for the screen, with the short name below each CNPJ, if it carries any."""
    import pandas as pd

    names = frame.attrs.get("names", {})
    if not names:
        return frame
    columns = [frame.columns, pd.Index([names.get(series, "") for series in frame.columns])]
    return frame.set_axis(pd.MultiIndex.from_arrays(columns, names=["cnpj", "name"]), axis="columns")

"""Frames as CSV files that spreadsheets may open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from scraperkit.text import safe_cell


def write_csv(frame: pd.DataFrame, path: Path | str) -> None:
    """Write a frame as CSV in which no text is a formula to a spreadsheet, neither a cell nor a heading.

    Numbers and dates are written as pandas writes them, and read back the same.

    Parameters
    ----------
    frame : pandas.DataFrame
        Such as :meth:`scraperkit.TimeSeriesReader.funds` or ``prices()`` returns it.
    path : path or str
        The file; it is replaced.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "funds.csv"
    >>> write_csv(pd.DataFrame({"name": ["=1+1"], "days": [-3]}, index=pd.Index(["a"], name="cnpj")), path)
    >>> path.read_text().splitlines()
    ['cnpj,name,days', "a,'=1+1,-3"]
    """
    safe = frame.apply(lambda column: column.map(_safe, na_action="ignore") if _is_text(column.dtype) else column)
    safe.index, safe.columns = _safe_labels(frame.index), _safe_labels(frame.columns)
    safe.to_csv(path)


def _safe_labels(labels: pd.Index[Any]) -> pd.Index[Any]:
    if isinstance(labels, pd.MultiIndex):
        tuples = labels.map(lambda label: tuple(map(_safe, label))) if len(labels) else labels
        return tuples.set_names([_safe(name) for name in labels.names])
    named = labels.map(_safe) if len(labels) and _is_text(labels.dtype) else labels
    return named.rename(_safe(labels.name))


def _safe(value: Any) -> Any:
    return safe_cell(value) if isinstance(value, str) else value


def _is_text(dtype: Any) -> bool:
    if isinstance(dtype, pd.CategoricalDtype):
        dtype = dtype.categories.dtype
    return bool(pd.api.types.is_string_dtype(dtype) or pd.api.types.is_object_dtype(dtype))

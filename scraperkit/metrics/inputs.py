"""Check frames and find their prices; every metric and chart begins here."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from scraperkit.cnpj import short_names, shown_series, tails_of
from scraperkit.errors import ConfigError, warn
from scraperkit.models import Fund

Names: TypeAlias = "Mapping[str, str] | pd.Series[str] | Iterable[Fund] | Fund | None"
_WIDE = "give the wide frame of TimeSeriesReader.prices(): an index of dates, a column for each fund"
_TIDY = "give the tidy frame of TimeSeriesReader.quotes()"
_READ_WIDE = 'read a CSV with pd.read_csv(path, index_col="date", parse_dates=["date"])'
_READ_TIDY = 'read a CSV with pd.read_csv(path, dtype={"cnpj": "str"}, parse_dates=["date"])'
_SAID_AT_MOST = 5  # funds, and days of each, that a sentence names


def wide_prices(frame: Any, argument: str = "prices") -> pd.DataFrame:
    """Return a wide frame as float64, with NaN in place of values that are not prices.

    Only a positive, finite number is a price. Any other value counts as missing, so the return after it covers the
    whole gap.

    Raises
    ------
    ConfigError
        If the frame is not wide; says what is wrong, and how to fix it.

    Warns
    -----
    ScraperKitWarning
        If values are not prices; names their funds and days.

    Examples
    --------
    >>> days = pd.date_range("2022-01-03", periods=2, name="date")
    >>> wide_prices(pd.DataFrame({"a": [1, 2]}, index=days))["a"].tolist()
    [1.0, 2.0]
    """
    check_wide(frame, argument)
    prices: pd.DataFrame = frame.astype("float64")
    unpriced = days_without_price(prices)
    if not unpriced:
        return prices
    warn(f"{argument}: {told(unpriced)}; such days count as missing, and the return after them covers the whole gap")
    return prices.where((prices > 0) & np.isfinite(prices))


def names_of(frame: pd.DataFrame, names: Names = None) -> dict[str, str]:
    """Return the display names of the funds of a frame, by CNPJ or series; `names` override those in ``attrs``.

    Parameters
    ----------
    frame : pandas.DataFrame
        May have names in ``attrs["names"]``.
    names : mapping of str to str, pandas.Series, or iterable of Fund, optional
        A ``Fund`` counts with its short name.

    Raises
    ------
    ConfigError
        If `names` is anything else.

    Examples
    --------
    >>> frame = pd.DataFrame()
    >>> frame.attrs["names"] = {"18993924000100": "Aroeira", "99101011000125": "Jatobá"}
    >>> names_of(frame, [Fund("99101011000125", name="JATOBÁ FIM")])
    {'18993924000100': 'Aroeira', '99101011000125': 'Jatobá Multi'}
    """
    carried = frame.attrs.get("names")
    given: Any = {} if names is None else [names] if isinstance(names, Fund) else names
    if isinstance(given, Iterable) and not isinstance(given, str | Mapping | pd.Series):
        given = list(given)
        if all(isinstance(fund, Fund) for fund in given):
            given = short_names({fund.cnpj: fund.name for fund in given})
    if not isinstance(given, Mapping | pd.Series):
        raise ConfigError(
            'names: give a name for each CNPJ, as in reader.funds()["name"], or Funds; '
            f"this is a {type(names).__name__}"
        )
    known = [carried if isinstance(carried, Mapping) else {}, given]
    return {
        str(series): name for names in known for series, name in names.items() if isinstance(name, str) and name.strip()
    }


def name_column(series: Iterable[str], names: Mapping[str, str]) -> list[str]:
    """Return a unique label of each fund for a table: its name, or its punctuated CNPJ if it has none.

    Examples
    --------
    >>> name_column(["18993924000100", "99101011000125"], {"18993924000100": "Aroeira"})
    ['Aroeira', '99.101.011/0001-25']
    """
    listed = list(series)
    whole = {one: names.get(one) or names.get(one.partition(":")[0]) or shown_series(one) for one in listed}
    tails = tails_of(whole)
    return [f"{whole[one]} {tails[one]}" if one in tails else whole[one] for one in listed]


def check_wide(frame: Any, argument: str = "prices") -> None:
    """Refuse a frame that is not wide.

    Raises
    ------
    ConfigError
        Says what is wrong, and how to fix it.
    """
    if problem := _wide_problem(frame):
        raise ConfigError(f"{argument}: {_WIDE}; {problem}")


def days_without_price(prices: pd.DataFrame) -> dict[str, list[str]]:
    """Return the days, as YYYY-MM-DD, on which a fund's value is not a price, by fund; omit funds without any.

    Examples
    --------
    >>> days = pd.date_range("2022-01-03", periods=3, name="date")
    >>> days_without_price(pd.DataFrame({"a": [1.0, 0.0, None], "b": [1.0, None, 2.0]}, index=days))
    {'a': ['2022-01-04']}
    """
    values = prices.to_numpy(dtype=np.float64)
    wrong = ~np.isnan(values) & ~((values > 0) & np.isfinite(values))
    return {
        str(fund): [f"{day:%Y-%m-%d}" for day in prices.index[wrong[:, place]]]
        for place, fund in enumerate(prices.columns)
        if wrong[:, place].any()
    }


def told(unpriced: dict[str, list[str]]) -> str:
    """Return a phrase that names the funds and days without a price.

    Examples
    --------
    >>> told({"18993924000100": ["2022-01-04", "2022-01-05"]})
    '2 quotas that are not prices (0, negative or infinite): 18.993.924/0001-00 on 2022-01-04, 2022-01-05'
    """
    count = sum(len(days) for days in unpriced.values())
    funds = [f"{shown_series(fund)} on {_first(days, ', ', 'more')}" for fund, days in unpriced.items()]
    what = "quota that is not a price" if count == 1 else "quotas that are not prices"
    return f"{count:,} {what} (0, negative or infinite): {_first(funds, '; ', 'more funds')}"


def check_tidy(quotes: Any, columns: Collection[str]) -> None:
    """Refuse a frame that is not tidy, or lacks one of these columns of numbers.

    Raises
    ------
    ConfigError
        Says what is wrong, and how to fix it.
    """
    if problem := _tidy_problem(quotes, columns):
        raise ConfigError(f"quotes: {problem}")


def dates_problem(index: pd.Index[Any]) -> str:
    """Return why an index is not an index of dates; empty if it is."""
    if not isinstance(index, pd.DatetimeIndex):
        return f"the index holds {_kind(index.dtype)}, not dates"
    if index.tz is not None:
        return "its dates have a time zone: remove it with tz_localize(None)"
    return "a date of its index is missing (NaT)" if index.hasnans else ""


def _wide_problem(frame: Any) -> str:
    if not isinstance(frame, pd.DataFrame):
        return f"this is a {type(frame).__name__}" + ("; make it one with to_frame()" * isinstance(frame, pd.Series))
    if len(frame) and (problem := dates_problem(frame.index)):
        return f"{problem}; {_READ_WIDE}" if "holds" in problem else problem
    if not frame.index.is_unique:
        return f"{frame.index[frame.index.duplicated()][0]:%Y-%m-%d} appears twice: keep one"
    if not frame.index.is_monotonic_increasing:
        return "its dates are not in order: sort them with sort_index()"
    names: list[Any] = list(frame.columns)
    for place, name in enumerate(names):
        if not isinstance(name, str):
            return (
                f"the column {name!r} is not named by text, so zeros of its CNPJ may be lost; "
                "name columns with frame.set_axis(frame.columns.astype(str).str.zfill(14), axis=1)"
            )
        if problem := _numbers_problem(frame.iloc[:, place]):
            return problem
    return ""


def _tidy_problem(quotes: Any, columns: Collection[str]) -> str:
    if not isinstance(quotes, pd.DataFrame):
        return f"{_TIDY}; this is a {type(quotes).__name__}"
    if missing := [column for column in ("cnpj", "date", *columns) if column not in quotes]:
        return f"no column {', '.join(missing)}; {_TIDY}"
    if not (quotes["cnpj"].isna().all() or isinstance(quotes["cnpj"].dropna().iloc[0], str)):
        return f"the column cnpj holds {_kind(quotes['cnpj'].dtype)}, so zeros may be lost; {_READ_TIDY}"
    if len(quotes) and not pd.api.types.is_datetime64_dtype(quotes["date"]):
        return f"the column date holds {_kind(quotes['date'].dtype)}, not dates; {_READ_TIDY}"
    return next((problem for column in columns if (problem := _numbers_problem(quotes[column]))), "")


def _numbers_problem(column: pd.Series[Any]) -> str:
    numeric = pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype)
    if numeric or column.isna().all():
        return ""
    return (
        f"the column {column.name} holds {_kind(column.dtype)}, not numbers; convert it with "
        'astype("float64"), or read the CSV with decimal="," if it has decimal commas'
    )


def _kind(dtype: Any) -> str:
    if pd.api.types.is_bool_dtype(dtype) or pd.api.types.is_datetime64_any_dtype(dtype):
        return str(dtype)
    return "numbers" if pd.api.types.is_numeric_dtype(dtype) else "text or objects"


def _first(words: list[str], between: str, more: str) -> str:
    rest = [f"{len(words) - _SAID_AT_MOST:,} {more}"] if len(words) > _SAID_AT_MOST else []
    return between.join([*words[:_SAID_AT_MOST], *rest])

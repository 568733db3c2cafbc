"""The columns that a benchmark adds to the summary."""

from __future__ import annotations

import numpy as np
import pandas as pd

from scraperkit.errors import ConfigError, warn
from scraperkit.metrics import comparison
from scraperkit.metrics.benchmark import DAILY, MONTHLY, Benchmark, declared, growth

_DAYS = "datetime64[ms]"


def beside(
    prices: pd.DataFrame, benchmark: Benchmark | None, risk_free: Benchmark | None, inflation: Benchmark | None
) -> pd.DataFrame:
    """Return the benchmark columns of :func:`scraperkit.metrics.summary`; none without a benchmark.

    Raises
    ------
    ConfigError
        If a benchmark declares no kind, or one that is wrong for its role.
    """
    found = pd.DataFrame(index=prices.columns)
    if benchmark is not None:
        found = found.join(_compared(prices, benchmark))
        _warn_if_short(prices, benchmark, "benchmark", "compared_from to worst_window")
        kind = declared(benchmark)[1]
        risk_free = benchmark if risk_free is None and kind == DAILY else risk_free
        inflation = benchmark if inflation is None and kind == MONTHLY else inflation
    if risk_free is not None:
        _refuse_other("risk_free", risk_free, DAILY)
        found["sharpe"] = comparison.information_ratio(prices, risk_free)
        if risk_free is not benchmark:
            _warn_if_short(prices, risk_free, "risk_free", "sharpe")
    if inflation is not None:
        _refuse_other("inflation", inflation, MONTHLY)
        found["real_return"] = comparison.real_return(prices, inflation)
        if inflation is not benchmark:
            _warn_if_short(prices, inflation, "inflation", "real_return")
    if benchmark is not None:
        years = comparison.yearly_returns(prices).T
        found = found.join(years.set_axis([f"return_{year}" for year in years.columns], axis=1))
    return found


def _compared(prices: pd.DataFrame, benchmark: Benchmark) -> pd.DataFrame:
    both = comparison.compared(prices, benchmark)
    _, bench = both.total()
    own = [both.prices.iloc[:, place].dropna().index for place in range(prices.shape[1])]
    over = comparison.windows(prices, benchmark)
    count = over.count()
    alone = comparison.windows(both.prices)
    return pd.DataFrame(
        {
            "compared_from": [days[0] if len(days) else pd.NaT for days in own],
            "compared_to": [days[-1] if len(days) else pd.NaT for days in own],
            "benchmark_return": bench,
            "excess_return": comparison.excess_return(prices, benchmark),
            "share_of_benchmark": comparison.share_of_benchmark(prices, benchmark),
            "tracking_error": comparison.tracking_error(prices, benchmark),
            "information_ratio": comparison.information_ratio(prices, benchmark),
            "beta": comparison.beta(prices, benchmark),
            "windows": count.astype("int64"),
            "windows_beaten": (over > 0).sum() / count.where(count > 0),
            "best_window": alone.max(),
            "worst_window": alone.min(),
        },
        index=prices.columns,
    ).astype({"compared_from": _DAYS, "compared_to": _DAYS})


def _warn_if_short(prices: pd.DataFrame, benchmark: Benchmark, argument: str, columns: str) -> None:
    """Warn of days with a price that a benchmark lacks, and say which columns cover which days."""
    days = pd.DatetimeIndex(prices.index[prices.notna().any(axis=1)])
    has = growth(benchmark, days).notna().to_numpy() if len(days) else np.ones(0, dtype=bool)
    if has.all():
        return
    without = days[~has]
    also = {DAILY: " and sharpe", MONTHLY: " and real_return"}.get(declared(benchmark)[1], "")
    affected = f"{columns}{also if argument == 'benchmark' else ''}"
    warn(
        f"{argument}: {benchmark.name} lacks {len(without):,} of the {len(days):,} days of the prices, "
        f"{without[0]:%Y-%m-%d} to {without[-1]:%Y-%m-%d}: {affected} cover the days that a fund shares with it, "
        f"within {days[has][0]:%Y-%m-%d} to {days[has][-1]:%Y-%m-%d}; all other columns cover all days of the prices"
    )


def _refuse_other(argument: str, benchmark: Benchmark, wanted: str) -> None:
    kind = declared(benchmark)[1]
    if kind != wanted:
        raise ConfigError(f"{argument}: {benchmark.name} is a {kind}; give a {wanted}")

"""Figures against numbers worked out by hand, and against loops over the days."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraperkit import metrics
from scraperkit.calendar import business_days
from scraperkit.errors import ConfigError

A, B, C = "18993924000100", "12ABC34501DE35", "00000000000191"
NAN = math.nan


def wide(columns: dict[str, list[float]], days=None) -> pd.DataFrame:
    length = len(next(iter(columns.values()))) if columns else 0
    index = pd.DatetimeIndex(business_days("2022-01-03", "2030-01-01")[:length] if days is None else days, name="date")
    names = pd.Index(list(columns), dtype="str", name="cnpj")
    return pd.DataFrame(columns, index=index, dtype="float64").set_axis(names, axis="columns")


EMPTY = {"no rows": wide({A: [], B: []}), "no columns": wide({}), "neither": pd.DataFrame()}
some_prices = (
    st.integers(1, 12)
    .flatmap(
        lambda length: st.lists(
            st.lists(st.one_of(st.just(NAN), st.floats(0.01, 1e6)), min_size=length, max_size=length),
            min_size=1,
            max_size=3,
        )
    )
    .map(lambda columns: wide(dict(zip((A, B, C), columns, strict=False))))
)


def own_returns(column: pd.Series) -> dict[pd.Timestamp, float]:
    """Return the return on each of the fund's own days except the first."""
    found, before = {}, None
    for day, price in column.items():
        if math.isnan(price):
            continue
        if before is not None:
            found[day] = price / before - 1
        before = price
    return found


def deviation(values: list[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def test_returns_by_hand():
    prices = wide({A: [100.0, 110.0, 99.0], B: [NAN, 50.0, 75.0]})
    found = metrics.returns(prices)
    expected = wide({A: [NAN, 0.1, -0.1], B: [NAN, NAN, 0.5]}, prices.index)
    pd.testing.assert_frame_equal(found, expected)


def test_a_return_covers_the_whole_gap():
    found = metrics.returns(wide({A: [100.0, NAN, NAN, 121.0, 121.0]}))
    assert found[A].round(12).tolist()[3:] == [0.21, 0.0]
    assert found[A].isna().tolist() == [True, True, True, False, False]


@given(some_prices)
def test_returns_against_a_loop(prices):
    found = metrics.returns(prices)
    assert found.index.equals(prices.index)
    assert found.columns.equals(prices.columns)
    for cnpj in prices:
        expected = own_returns(prices[cnpj])
        assert found[cnpj].dropna().index.tolist() == list(expected)
        assert found[cnpj].dropna().tolist() == pytest.approx(list(expected.values()), rel=1e-9, abs=1e-12)


def test_drawdown_by_hand():
    found = metrics.drawdown(wide({A: [100.0, 80.0, NAN, 120.0, 60.0], B: [NAN, 10.0, 9.0, NAN, 11.0]}))
    assert found[A].tolist() == pytest.approx([0, -0.2, NAN, 0, -0.5], nan_ok=True)
    assert found[B].tolist() == pytest.approx([NAN, 0, -0.1, NAN, 0], nan_ok=True)


@given(some_prices)
def test_drawdown_against_a_loop(prices):
    found = metrics.drawdown(prices)
    for cnpj in prices:
        highest = -math.inf
        for day, price in prices[cnpj].items():
            highest = highest if math.isnan(price) else max(highest, price)
            assert found.at[day, cnpj] == pytest.approx(price / highest - 1, nan_ok=True, abs=1e-12)


def test_volatility_by_hand():
    # Returns of +1 % and -1 %: mean 0, sample deviation sqrt(2) %, times sqrt(252).
    found = metrics.volatility(wide({A: [100.0, 101.0, NAN, 99.99], B: [1.0, 1.1, NAN, NAN], C: [NAN] * 4}))
    assert (found.name, found.index.name, found.index.tolist()) == ("volatility", "cnpj", [A, B, C])
    assert found[A] == pytest.approx(0.01 * math.sqrt(2) * math.sqrt(252))
    assert found[[B, C]].isna().all()


@given(some_prices)
def test_volatility_against_a_loop(prices):
    found = metrics.volatility(prices)
    for cnpj in prices:
        values = list(own_returns(prices[cnpj]).values())
        expected = deviation(values) * math.sqrt(252) if len(values) > 1 else NAN
        assert found[cnpj] == pytest.approx(expected, nan_ok=True, rel=1e-6, abs=1e-9)


@given(some_prices, st.integers(2, 4))
def test_rolling_volatility_looks_back_on_the_funds_own_days(prices, window):
    # Prices of similar size: in pandas's running sums, rounding would swamp small prices among huge ones.
    prices = 1 + prices / 1e6
    found = metrics.volatility(prices, window=window)
    assert found.index.equals(prices.index)
    assert found.columns.equals(prices.columns)
    for cnpj in prices:
        steps = list(own_returns(prices[cnpj]).items())
        expected = {
            steps[last][0]: deviation([value for _, value in steps[last - window + 1 : last + 1]]) * math.sqrt(252)
            for last in range(window - 1, len(steps))
        }
        assert found[cnpj].dropna().index.tolist() == list(expected)
        assert found[cnpj].dropna().tolist() == pytest.approx(list(expected.values()), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("window", [1, 0, -3, 2.5, "20", True])
def test_an_invalid_window_is_refused(window):
    with pytest.raises(ConfigError, match=r"^window: .* 2 or more"):
        metrics.volatility(wide({A: [1.0, 2.0]}), window=window)


def test_monthly_returns_by_hand():
    days = pd.DatetimeIndex(["2022-01-20", "2022-01-31", "2022-02-01", "2022-02-28", "2022-04-01"], name="date")
    found = metrics.monthly_returns(wide({A: [100.0, 110.0, 1.0, 99.0, 198.0], B: [NAN, 50.0, 75.0, NAN, NAN]}, days))
    assert (found.index.name, found.index.astype(str).tolist()) == (
        "month",
        ["2022-01", "2022-02", "2022-03", "2022-04"],
    )
    # January counts from the first price; April covers March, which has none; a first price alone has no return.
    assert found[A].tolist() == pytest.approx([0.1, -0.1, NAN, 1.0], nan_ok=True)
    assert found[B].tolist() == pytest.approx([NAN, 0.5, NAN, NAN], nan_ok=True)


@given(some_prices, st.integers(1, 40))
def test_monthly_returns_compound_to_the_total_return(prices, step):
    """Compounded, they lead from the first price to the last, whichever days are missing."""
    prices.index = pd.date_range("2021-11-15", periods=len(prices), freq=f"{step}D", name="date")
    found = metrics.monthly_returns(prices)
    assert found.index.equals(pd.period_range(prices.index[0], prices.index[-1], freq="M"))
    total = metrics.summary(prices)["cumulative_return"]
    for cnpj in prices:
        own = prices[cnpj].dropna()
        expected = total[cnpj] if len(own) else 0.0
        assert (1 + found[cnpj]).prod() - 1 == pytest.approx(expected, rel=1e-6, abs=1e-6)
        months_with_prices = set(own.index.to_period("M"))
        assert set(found.index[found[cnpj].notna()]) <= months_with_prices
        assert len(months_with_prices) - found[cnpj].count() <= 1


def test_functions_by_month_refuse_a_frame_without_dates():
    for function in (metrics.monthly_returns, metrics.coverage):
        with pytest.raises(ConfigError, match=r"^prices: give the wide frame"):
            function(pd.DataFrame({A: [1.0, 2.0]}))


def test_correlation_by_hand():
    prices = wide({A: [1.0, 2.0, 2.0, 4.0], B: [8.0, 4.0, 4.0, 2.0], C: [5.0] * 4})
    found = metrics.correlation(prices)
    assert found.index.equals(prices.columns)
    assert found.columns.equals(prices.columns)
    assert found.to_numpy()[:2, :2].tolist() == [pytest.approx([1, -1]), pytest.approx([-1, 1])]
    assert found[C].isna().all()


def test_a_pair_is_measured_over_the_days_that_both_have():
    # B lacks a day on which A moves; over the common days, both move alike.
    found = metrics.correlation(wide({A: [1.0, 9.0, 2.0, 2.0, 6.0], B: [1.0, NAN, 2.0, 2.0, 6.0]}))
    assert found.at[A, B] == pytest.approx(1)
    alone = metrics.correlation(wide({A: [1.0, 2.0, NAN, NAN], B: [NAN, NAN, 3.0, 4.0]}))
    assert alone.isna().all(axis=None)


@given(some_prices)
def test_correlation_against_pandas_pair_by_pair(prices):
    found = metrics.correlation(prices)
    assert np.array_equal(found, found.T, equal_nan=True)
    for one in prices:
        for other in prices:
            daily = prices[list({one, other})].dropna().pct_change().dropna()
            if math.isnan(found.at[one, other]):
                assert len(daily) < 2 or daily.std().min() < 1e-9
            else:
                expected = daily.corr().iloc[0, -1]
                assert found.at[one, other] == pytest.approx(expected, abs=1e-6)


def test_sharpe_by_hand():
    prices = wide({A: [100.0, 102.0, NAN, 102.0], B: [NAN, 5.0, 5.5, NAN], C: [NAN] * 4})
    found = metrics.sharpe(prices, pd.Series([-0.01, 0.01, 0.01, 0.01], index=prices.index))
    assert (found.name, found.index.name, found.index.tolist()) == ("sharpe", "cnpj", [A, B, C])
    # The first rate precedes the first price; the second return covers two days of 1 %.
    excess = [0.02 - 0.01, 0 - (1.01**2 - 1)]
    assert found[A] == pytest.approx(sum(excess) / 2 / deviation(excess) * math.sqrt(252))
    assert found[[B, C]].isna().all()


def test_rates_on_days_without_prices_count():
    days = pd.DatetimeIndex(["2022-01-03", "2022-01-05", "2022-01-06"])
    rates = pd.Series(0.01, index=business_days("2022-01-03", "2022-01-06"))
    excess = [0.1 - (1.01**2 - 1), 0.1 - 0.01]
    expected = sum(excess) / 2 / deviation(excess) * math.sqrt(252)
    assert metrics.sharpe(wide({A: [100.0, 110.0, 121.0]}, days), rates)[A] == pytest.approx(expected)


def test_rates_before_a_first_price_on_a_saturday_do_not_count():
    days = pd.DatetimeIndex(["2022-01-08", "2022-01-10", "2022-01-11"])
    rates = pd.Series(0.01, index=business_days("2022-01-03", "2022-01-11"))
    excess = [0.1 - 0.01, 0.2 - 0.01]
    expected = sum(excess) / 2 / deviation(excess) * math.sqrt(252)
    assert metrics.sharpe(wide({A: [100.0, 110.0, 132.0]}, days), rates)[A] == pytest.approx(expected)


def test_a_fund_that_equals_the_rate_has_no_sharpe_ratio():
    prices = wide({A: [100.0, 100.04, NAN, 100.3, 100.31]})
    assert math.isnan(metrics.sharpe(prices, metrics.returns(prices)[A].fillna(0.0))[A])


def test_invalid_rates_are_refused():
    prices = wide({A: [1.0, 2.0, 3.0]})
    rates = pd.Series(0.0, index=prices.index)
    with pytest.raises(ConfigError, match=r"^risk_free: no rate for 1 of 2 days with a return, the first 2022-01-05"):
        metrics.sharpe(prices, rates.iloc[:2])
    with pytest.raises(ConfigError, match=r"^risk_free: 2022-01-03 appears twice"):
        metrics.sharpe(prices, pd.concat([rates, rates]))
    with pytest.raises(ConfigError, match=r"^risk_free: give a Series"):
        metrics.sharpe(prices, rates.reset_index(drop=True))
    # The first day has no return and needs no rate; the order does not matter.
    assert metrics.sharpe(prices, rates.iloc[:0:-1])[A] == pytest.approx(metrics.sharpe(prices, rates)[A])


def test_summary_by_hand():
    days = pd.DatetimeIndex(["2022-02-24", "2022-02-25", "2022-03-01", "2022-03-03", "2022-03-05"], name="date")
    found = metrics.summary(wide({A: [100.0, 50.0, NAN, 110.0, NAN], B: [NAN, NAN, 2.0, NAN, NAN], C: [NAN] * 5}, days))
    assert (found.index.name, found.index.tolist()) == ("cnpj", [A, B, C])
    assert found.columns.tolist() == [
        "days", "first", "last", "cumulative_return", "volatility", "max_drawdown", "missing_days",
    ]  # fmt: skip
    assert found.loc[A, ["days", "first", "last"]].tolist() == [3, 100, 110]
    assert found.loc[A, ["cumulative_return", "max_drawdown"]].tolist() == pytest.approx([0.1, -0.5])
    assert found.loc[A, "volatility"] == pytest.approx(deviation([-0.5, 1.2]) * math.sqrt(252))
    # 28 February and 1 March are Carnival; 2 March is a business day without a price.
    assert found["missing_days"].tolist() == [1, 0, 0]
    assert found.loc[B, ["days", "first", "last", "cumulative_return", "max_drawdown"]].tolist() == [1, 2, 2, 0, 0]
    assert found.loc[C, "days"] == 0
    assert found.loc[C].drop(["days", "missing_days"]).isna().all()


def test_summary_accepts_another_calendar():
    prices = wide({A: [1.0, 2.0]}, pd.DatetimeIndex(["2022-02-25", "2022-03-03"]))
    every_day = metrics.summary(prices, calendar=lambda start, end: pd.date_range(start, end))
    assert every_day["missing_days"].tolist() == [5]


@given(some_prices)
def test_missing_days_against_a_loop(prices):
    found = metrics.summary(prices)["missing_days"]
    for cnpj in prices:
        own = prices[cnpj].dropna().index
        expected = [day for day in business_days(own[0], own[-1]) if day not in own] if len(own) else []
        assert found[cnpj] == len(expected)


def test_coverage_by_hand():
    days = business_days("2022-01-03", "2022-03-15")
    prices = wide({A: [1.0] * len(days), B: [NAN] * len(days), C: [NAN] * len(days)}, days)
    prices.loc["2022-02-01":"2022-02-10", A] = NAN
    prices.loc["2022-03-14":, B] = 1.0
    found = metrics.coverage(prices)
    assert (found.index.name, found.index.astype(str).tolist()) == ("month", ["2022-01", "2022-02", "2022-03"])
    assert found.columns.equals(prices.columns)
    # February 2022 has 19 business days, March 10 up to the 15th: 28 February and 1 March are Carnival.
    assert found[A].tolist() == pytest.approx([1, 11 / 19, 1])
    assert found[B].tolist() == pytest.approx([NAN, NAN, 1], nan_ok=True)
    assert found[C].tolist() == [0, 0, 0]
    told = metrics.coverage(prices, started_on={B: "2022-02-24", C: pd.Timestamp("2022-03-01"), "other": "2022-01-01"})
    assert told[B].tolist() == pytest.approx([NAN, 0, 0.2], nan_ok=True)
    assert told[C].tolist() == pytest.approx([NAN, NAN, 0], nan_ok=True)
    unknown = metrics.coverage(prices, started_on=pd.Series({A: pd.NaT, B: pd.NaT}))
    pd.testing.assert_frame_equal(unknown, found)


@given(some_prices, st.integers(1, 40))
def test_coverage_against_a_loop(prices, step):
    prices.index = pd.date_range("2021-11-15", periods=len(prices), freq=f"{step}D", name="date")
    found = metrics.coverage(prices)
    for cnpj in prices:
        own = prices[cnpj].dropna().index
        expected = list(business_days(own[0] if len(own) else prices.index[0], prices.index[-1]))
        for month in found.index:
            of_month = [day for day in expected if day.to_period("M") == month]
            share = len([day for day in of_month if day in own]) / len(of_month) if of_month else NAN
            assert found.at[month, cnpj] == pytest.approx(share, nan_ok=True)


@pytest.mark.parametrize("prices", EMPTY.values(), ids=EMPTY)
def test_empty_frames_work(prices):
    for function in (metrics.returns, metrics.drawdown, lambda frame: metrics.volatility(frame, window=2)):
        found = function(prices)
        assert found.shape == prices.shape
        assert found.columns.equals(prices.columns)
    assert len(metrics.volatility(prices)) == prices.shape[1]
    assert metrics.sharpe(prices, pd.Series(index=pd.DatetimeIndex([]), dtype="float64")).isna().all()
    assert metrics.correlation(prices).shape == (prices.shape[1],) * 2
    for by_month in (metrics.monthly_returns(prices), metrics.coverage(prices)):
        assert isinstance(by_month.index, pd.PeriodIndex)
        assert (by_month.index.name, by_month.shape) == ("month", (0, prices.shape[1]))
    summary = metrics.summary(prices)
    kinds = {"days": "int64", "missing_days": "int64"}
    assert summary.dtypes.astype(str).to_dict() == {name: kinds.get(name, "float64") for name in summary.columns}
    assert (summary["days"] == 0).all()
    assert summary.index.name == "cnpj"


def test_inputs_are_not_modified():
    prices = wide({A: [100.0, NAN, 90.0]})
    before = prices.copy()
    metrics.summary(prices)
    metrics.volatility(prices, window=2)
    metrics.monthly_returns(prices)
    metrics.correlation(prices)
    metrics.sharpe(prices, pd.Series(0.0, index=prices.index))
    pd.testing.assert_frame_equal(prices, before)
    assert np.isnan(prices.iloc[1, 0])

"""Funds against a benchmark, checked with empyrical where it has the figure, else with plain loops and decimals."""

from __future__ import annotations

import math
import statistics
from decimal import Decimal

import empyrical
import numpy as np
import pandas as pd
import pytest

from scraperkit import metrics
from scraperkit.calendar import business_days
from scraperkit.errors import ConfigError, ScraperKitWarning

DAYS = business_days("2021-01-04", "2023-06-30")
_RANDOM = np.random.default_rng(11)


def declared(values, days, kind: str, name: str) -> pd.Series:
    series = pd.Series(np.asarray(values, float), index=pd.DatetimeIndex(days, name="date"), name=name)
    series.attrs["kind"] = kind
    return series


CDI = declared(np.round(_RANDOM.uniform(0.01, 0.055, len(DAYS)), 6), DAYS, "rate a day", "cdi")
IBOVESPA = declared(1e5 * np.exp(_RANDOM.normal(0.0002, 0.012, len(DAYS)).cumsum()), DAYS, "level", "ibovespa")
MONTHS = pd.date_range("2021-01-01", periods=30, freq="MS")
IPCA = declared(np.round(_RANDOM.uniform(-0.3, 1.2, 30), 2), MONTHS, "rate a month", "ipca")
BENCHMARKS = {"cdi": CDI, "ibovespa": IBOVESPA, "ipca": IPCA}


def walk(gaps: float, seed: int) -> pd.DataFrame:
    """Return prices of four funds with a share of missing days; one begins late."""
    random = np.random.default_rng(seed)
    prices = 10 * np.exp(random.normal(0.0004, 0.01, (len(DAYS), 4)).cumsum(axis=0))
    prices[random.random(prices.shape) < gaps] = np.nan
    prices[:300, 3] = np.nan
    return pd.DataFrame(prices, index=DAYS, columns=pd.Index(list("abcd"), name="cnpj"))


@pytest.fixture(params=[0.0, 0.1, 0.7], ids=["whole", "some days missing", "most days missing"])
def prices(request) -> pd.DataFrame:
    return walk(request.param, seed=int(request.param * 10))


@pytest.fixture(params=BENCHMARKS)
def benchmark(request) -> pd.Series:
    return BENCHMARKS[request.param]


def pair(prices: pd.DataFrame, fund: str, benchmark: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Return the returns of a fund and of the benchmark over the fund's own days."""
    wealth = metrics.growth(benchmark, DAYS).dropna()
    own = prices[fund].dropna()
    own = own[own.index.isin(wealth.index)]
    return empyrical.simple_returns(own), empyrical.simple_returns(wealth[own.index])


def same(found, expected) -> None:
    np.testing.assert_allclose(np.asarray(found, float), np.asarray(expected, float), rtol=1e-9, atol=1e-12)


class TestAgainstEmpyrical:
    def test_total_excess_share_and_real_return(self, prices, benchmark):
        for fund in prices:
            own, bench = map(empyrical.cum_returns_final, pair(prices, fund, benchmark))
            same(metrics.excess_return(prices, benchmark)[fund], own - bench)
            same(metrics.real_return(prices, benchmark)[fund], (1 + own) / (1 + bench) - 1)
            expected = own / bench if bench > 0 else math.nan
            same(metrics.share_of_benchmark(prices, benchmark)[fund], expected)

    def test_tracking_error_information_ratio_and_sharpe(self, prices, benchmark):
        for fund in prices:
            own, bench = pair(prices, fund, benchmark)
            same(metrics.tracking_error(prices, benchmark)[fund], empyrical.annual_volatility(own - bench))
            expected = empyrical.excess_sharpe(own, bench) * math.sqrt(252)
            same(metrics.information_ratio(prices, benchmark)[fund], expected)
            same(metrics.sharpe(prices, benchmark)[fund], empyrical.sharpe_ratio(own, risk_free=bench))

    def test_beta(self, prices):
        for fund in prices:
            same(metrics.beta(prices, IBOVESPA)[fund], empyrical.beta(*pair(prices, fund, IBOVESPA)))

    def test_years(self, prices):
        found = metrics.yearly_returns(prices, IBOVESPA)
        for fund in prices:
            expected = empyrical.aggregate_returns(empyrical.simple_returns(prices[fund].dropna()), "yearly")
            same(found[fund].dropna(), expected)
        bench = empyrical.aggregate_returns(empyrical.simple_returns(IBOVESPA), "yearly")
        same(found["ibovespa"], bench)
        assert found.index.tolist() == [2021, 2022, 2023]


class TestAgainstPlainLoops:
    def test_a_months_window_begins_on_the_same_day_of_the_month(self, prices):
        for months, benchmark in ((12, None), (12, CDI), (3, IBOVESPA)):
            found = metrics.windows(prices, benchmark, months)
            wealth = None if benchmark is None else metrics.growth(benchmark, DAYS)
            for fund in prices:
                own = prices[fund].dropna().to_dict()
                for day in DAYS[::7]:
                    start = day - pd.DateOffset(months=months)
                    before = [known for known in own if known <= start]
                    if day not in own or not before or (start - before[-1]).days > 7:
                        assert math.isnan(found.at[day, fund])
                        continue
                    expected = own[day] / own[before[-1]] - 1
                    if wealth is not None:
                        expected -= wealth[day] / wealth[before[-1]] - 1
                    assert found.at[day, fund] == pytest.approx(expected, abs=1e-12)

    def test_percent_of_cdi_in_decimals(self):
        """A fund that earns 104 % of each day's rate, written with eight decimals, as the pages have it."""
        quota, texts = Decimal("1.5"), [f"{rate:.6f}" for rate in CDI.iloc[:252]]
        quotas, product = [quota], Decimal(1)
        for text in texts:
            quotas.append(round(quotas[-1] * (1 + Decimal(text) / 100 * Decimal("1.04")), 8))
            product *= 1 + Decimal(text) / 100
        prices = pd.DataFrame({"a": [float(each) for each in quotas]}, index=DAYS[:253])
        expected = (quotas[-1] / quotas[0] - 1) / (product - 1)
        assert metrics.share_of_benchmark(prices, CDI)["a"] == pytest.approx(float(expected), rel=1e-9)
        assert round(expected, 2) == Decimal("1.04")

    def test_sharpe_is_the_mean_over_the_deviation_of_returns_above_cdi(self):
        """By the statistics module, from the definition: the rate of day d belongs to the return of the next day."""
        prices = walk(0.0, seed=5)
        active = [
            prices["a"].iloc[place] / prices["a"].iloc[place - 1] - 1 - CDI.iloc[place - 1] / 100
            for place in range(1, len(DAYS))
        ]
        expected = statistics.fmean(active) / statistics.stdev(active) * math.sqrt(252)
        assert metrics.sharpe(prices, CDI)["a"] == pytest.approx(expected, rel=1e-9)


class TestTheTable:
    def test_has_the_figures_that_the_single_functions_return(self, prices):
        found = metrics.summary(prices, benchmark=CDI, inflation=IPCA)
        assert found.attrs["benchmark"] == "cdi"
        for name in ("excess_return", "share_of_benchmark", "tracking_error", "information_ratio"):
            same(found[name], getattr(metrics, name)(prices, CDI))
        same(found["sharpe"], found["information_ratio"])
        same(found["real_return"], metrics.real_return(prices, IPCA))
        assert found["beta"].isna().all(), "a rate has no moves to follow"
        same(found["windows_beaten"], (metrics.windows(prices, CDI) > 0).sum() / metrics.windows(prices, CDI).count())
        same(found["best_window"], metrics.windows(prices).max())
        same(found["worst_window"], metrics.windows(prices).min())
        same(found[[f"return_{year}" for year in (2021, 2022, 2023)]], metrics.yearly_returns(prices).T)
        assert found["windows"].dtype == np.int64
        for fund in prices:
            own = prices[fund].dropna().index
            assert (found.at[fund, "compared_from"], found.at[fund, "compared_to"]) == (own[0], own[-1])

    def test_says_on_which_days_a_shorter_benchmark_was_compared(self, prices):
        told = (
            r"^benchmark: ipca lacks \d+ of the \d+ days of the prices, .*: compared_from to worst_window "
            r"and real_return cover the days that a fund shares with it, .*; all other columns cover all days of"
        )
        with pytest.warns(ScraperKitWarning, match=told) as caught:
            found = metrics.summary(prices, benchmark=IPCA.iloc[6:18], risk_free=CDI)
        assert len(caught) == 1
        assert (found["compared_from"].dropna() >= "2021-06-30").all()
        assert (found["compared_to"].dropna() <= "2022-06-30").all()
        same(found["real_return"], metrics.real_return(prices, IPCA.iloc[6:18]))
        same(found["sharpe"], metrics.sharpe(prices, CDI))

    @pytest.mark.parametrize(
        ("roles", "told"),
        [
            ({"benchmark": CDI.iloc[:100]}, "benchmark: cdi lacks .*compared_from to worst_window and sharpe cover"),
            (
                {"benchmark": IBOVESPA.iloc[50:]},
                "benchmark: ibovespa lacks 50 .*to worst_window cover",
            ),
            ({"risk_free": CDI.iloc[:100]}, "risk_free: cdi lacks .*: sharpe cover"),
            ({"inflation": IPCA.iloc[:12]}, "inflation: ipca lacks .*: real_return cover"),
        ],
    )
    def test_warns_of_days_without_the_benchmark_and_names_the_affected_columns(self, roles, told):
        prices = walk(0.0, seed=3)
        with pytest.warns(ScraperKitWarning, match=told) as caught:
            metrics.summary(prices, **roles)
        (text,) = [str(each.message) for each in caught]
        (rate,) = roles.values()
        without = metrics.growth(rate, prices.index).isna()
        days = prices.index[without]
        assert f"{days[0]:%Y-%m-%d} to {days[-1]:%Y-%m-%d}:" in text

    def test_without_a_benchmark_has_only_the_plain_columns(self, prices):
        plain = ["days", "first", "last", "cumulative_return", "volatility", "max_drawdown", "missing_days"]
        assert list(metrics.summary(prices)) == plain
        assert list(metrics.summary(prices, risk_free=CDI)) == [*plain, "sharpe"]
        assert metrics.summary(prices).attrs == {}

    def test_warns_only_once_of_quotas_that_are_not_prices(self):
        prices = walk(0.0, seed=2)
        prices.iloc[5, 0] = 0
        with pytest.warns(ScraperKitWarning) as caught:
            metrics.summary(prices, benchmark=IBOVESPA, risk_free=CDI, inflation=IPCA)
        assert len(caught) == 1

    @pytest.mark.parametrize("none", [walk(0.0, 1).iloc[:0], walk(0.0, 1)[[]], walk(1.0, 1), walk(0.0, 1).iloc[:1]])
    def test_has_the_same_columns_for_no_prices_and_for_a_single_day(self, none):
        for benchmark in BENCHMARKS.values():
            found = metrics.summary(none, benchmark=benchmark)
            assert found["excess_return"].isna().all()
            assert found["windows"].tolist() == [0] * none.shape[1]
            assert list(found.columns[:12]) == list(metrics.summary(walk(0.0, 1), benchmark=benchmark).columns[:12])

    def test_refuses_a_benchmark_in_the_wrong_role_or_without_a_kind(self, prices):
        with pytest.raises(ConfigError, match="^risk_free: ibovespa is a level; give a rate a day"):
            metrics.summary(prices, risk_free=IBOVESPA)
        with pytest.raises(ConfigError, match="^inflation: cdi is a rate a day; give a rate a month"):
            metrics.summary(prices, inflation=CDI)
        bare = CDI.copy()
        bare.attrs = {}
        for name in ("benchmark", "risk_free", "inflation"):
            with pytest.raises(ConfigError, match="cdi declares no kind"):
                metrics.summary(prices, **{name: bare})

    def test_a_benchmark_named_as_a_fund_is_refused(self, prices):
        with pytest.raises(ConfigError, match="a column of prices is named a, too"):
            metrics.yearly_returns(prices, IBOVESPA.rename("a"))

    @pytest.mark.parametrize("months", [0, -1, 1.5, True, "12", None])
    def test_windows_of_no_months_are_refused(self, prices, months):
        with pytest.raises(ConfigError, match="^months: .* 1 or more"):
            metrics.windows(prices, months=months)


def test_share_of_benchmark_is_nan_if_the_benchmark_lost():
    prices = walk(0.0, seed=1)
    falling = declared(np.linspace(100, 50, len(DAYS)), DAYS, "level", "index")
    assert metrics.share_of_benchmark(prices, falling).isna().all()


def test_inputs_are_not_modified(prices, benchmark):
    frames = prices.copy(), benchmark.copy()
    metrics.summary(prices, benchmark=benchmark)
    pd.testing.assert_frame_equal(prices, frames[0])
    pd.testing.assert_series_equal(benchmark, frames[1])
    assert benchmark.attrs == frames[1].attrs

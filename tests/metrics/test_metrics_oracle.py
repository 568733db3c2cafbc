"""Every figure against empyrical, which has no notion of gaps: it gets the returns over each fund's own days."""

from __future__ import annotations

import empyrical
import numpy as np
import pandas as pd
import pytest

from scraperkit import metrics
from scraperkit.calendar import business_days

DAYS = business_days("2021-11-15", "2023-03-10")
RATES = pd.Series(np.random.default_rng(7).normal(0.0005, 0.0001, len(DAYS)), index=DAYS)


def walk(gaps: float, seed: int) -> pd.DataFrame:
    """Return prices of four funds with a share of missing days."""
    random = np.random.default_rng(seed)
    prices = 10 * np.exp(random.normal(0.0004, 0.01, (len(DAYS), 4)).cumsum(axis=0))
    prices[random.random(prices.shape) < gaps] = np.nan
    return pd.DataFrame(prices, index=DAYS, columns=pd.Index(list("abcd"), name="cnpj"))


@pytest.fixture(params=[0.0, 0.1, 0.7], ids=["whole", "some days missing", "most days missing"])
def prices(request) -> pd.DataFrame:
    return walk(request.param, seed=int(request.param * 10))


def own_returns(prices: pd.DataFrame, fund: str) -> pd.Series:
    return empyrical.simple_returns(prices[fund].dropna())


def same(found, expected) -> None:
    np.testing.assert_allclose(np.asarray(found, float), np.asarray(expected, float), rtol=1e-9, atol=1e-12)


def test_returns(prices):
    for fund in prices:
        same(metrics.returns(prices)[fund].dropna(), own_returns(prices, fund))


def test_drawdown(prices):
    for fund in prices:
        same(metrics.drawdown(prices)[fund].min(), empyrical.max_drawdown(own_returns(prices, fund)))


def test_volatility(prices):
    for fund in prices:
        same(metrics.volatility(prices)[fund], empyrical.annual_volatility(own_returns(prices, fund)))


def test_rolling_volatility(prices):
    found = metrics.volatility(prices, window=21)
    for fund in prices:
        own = own_returns(prices, fund)
        expected = [empyrical.annual_volatility(own.iloc[end - 21 : end]) for end in range(21, len(own) + 1)]
        same(found[fund].dropna(), expected)


def test_monthly_returns(prices):
    found = metrics.monthly_returns(prices)
    for fund in prices:
        expected = empyrical.aggregate_returns(own_returns(prices, fund), "monthly")
        months = [pd.Period(year=year, month=month, freq="M") for year, month in expected.index]
        same(found[fund].reindex(months), expected)
        assert found[fund].count() == len(months)


def test_total_return(prices):
    for fund in prices:
        same(metrics.summary(prices)["cumulative_return"][fund], empyrical.cum_returns_final(own_returns(prices, fund)))


def test_sharpe(prices):
    found = metrics.sharpe(prices, RATES)
    bank = (1 + RATES).cumprod()
    for fund in prices:
        own = own_returns(prices, fund)
        # The rate's returns over the spans of the fund's returns.
        rates = empyrical.simple_returns(bank.reindex(prices[fund].dropna().index))
        same(found[fund], empyrical.sharpe_ratio(own, risk_free=rates))


def test_sharpe_of_prices_without_gaps_uses_the_rates_unchanged():
    prices = walk(0.0, seed=3)
    for fund in prices:
        expected = empyrical.sharpe_ratio(own_returns(prices, fund), risk_free=RATES.iloc[1:])
        same(metrics.sharpe(prices, RATES)[fund], expected)


def test_correlation_without_gaps_is_the_correlation_of_returns():
    prices = walk(0.0, seed=4)
    same(metrics.correlation(prices), metrics.returns(prices).corr())
    beta = empyrical.beta(own_returns(prices, "a"), own_returns(prices, "b"))
    spread = metrics.volatility(prices)
    same(metrics.correlation(prices).at["a", "b"], beta * spread["b"] / spread["a"])

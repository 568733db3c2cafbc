"""The CDI of a day accrues to the next business day: a year of it, compared with a product of decimals."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal, localcontext
from random import Random

import pandas as pd
import pytest

import scraperkit as sk
from scraperkit.calendar import business_days

DIGITS = Decimal("1e-8")


@pytest.mark.parametrize("name", ["cdi", "selic"])
def test_a_year_is_the_product_of_its_published_rates_to_eight_digits(redis, services, name):
    # A different rate each day reveals an extra, missing or shifted day.
    draw = Random(name)
    for stamp in business_days("2021-12-01", "2023-01-31"):
        services.restate(name, stamp.date(), f"{draw.uniform(0.02, 0.08):.6f}")
    rate = sk.rates(name, "2022-01-03", "2022-12-30", redis=redis)
    days = business_days("2022-01-03", "2023-01-02")
    grown = sk.metrics.growth(rate, days)
    published = services.values(name)
    with localcontext() as context:
        context.prec = 60
        factor = Decimal(1)
        for stamp, value in grown.items():
            assert abs(Decimal(value) - factor) < DIGITS, stamp
            factor *= 1 + Decimal(published.get(stamp.date(), "0")) / 100
    # 31 December was not a business day: the rate of the 30th has accrued by 2 January.
    assert grown.index[-1] == pd.Timestamp("2023-01-02")
    assert abs(grown.iloc[-1] - 1) > 0.1


def test_a_year_of_ipca_is_the_product_of_its_twelve_months(redis, services):
    rate = sk.rates("ipca", "2021-12", "2022-12", redis=redis)
    grown = sk.metrics.growth(rate, pd.DatetimeIndex(["2021-12-31", "2022-12-30"], name="date"))
    factor = Decimal(1)
    for month in range(1, 13):
        factor *= 1 + Decimal(services.values("ipca")[dt.date(2022, month, 1)]) / 100
    assert abs(Decimal(grown.iloc[-1]) - factor) < DIGITS


def test_levels_compare_as_they_are(redis, services):
    rate = sk.rates("ibovespa", "2022-01-03", "2022-12-29", redis=redis)
    grown = sk.metrics.growth(rate, rate.index)
    values = [Decimal(text) for day, text in services.values("ibovespa").items() if day.year == 2022]
    assert abs(Decimal(grown.iloc[-1]) - values[-2] / values[0]) < DIGITS

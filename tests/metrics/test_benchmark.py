"""Growth of benchmarks, checked against decimal products made day by day by the publishers' accrual rules."""

from __future__ import annotations

import datetime as dt
import itertools
import math
from decimal import Decimal, getcontext

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scraperkit import metrics
from scraperkit.calendar import business_days, is_business_day
from scraperkit.errors import ConfigError

getcontext().prec = 50
YEAR = business_days("2022-01-03", "2023-01-31")


def declared(values, days, kind: str, name: str = "cdi") -> pd.Series:
    series = pd.Series(list(values), index=pd.DatetimeIndex(days, name="date"), name=name, dtype="float64")
    series.attrs["kind"] = kind
    return series


def rates_of(days, seed: int = 1) -> list[str]:
    """Return rates as the Banco Central writes them: per cent a day, six decimals."""
    return [f"{rate:.6f}" for rate in np.random.default_rng(seed).uniform(0.03, 0.06, len(days))]


def accrued(texts: dict[dt.date, str], start: dt.date, end: dt.date) -> Decimal:
    """Walk over the calendar day by day: on each business day but the last, its own rate is earned."""
    product, day = Decimal(1), start
    while day < end:
        if is_business_day(day):
            product *= 1 + Decimal(texts[day]) / 100
        day += dt.timedelta(days=1)
    return product


class TestADailyRate:
    def test_accrues_from_its_day_to_the_next_business_day(self):
        days = business_days("2022-02-24", "2022-03-03")  # Thursday, Friday, Ash Wednesday, Thursday
        cdi = declared([0.1, 0.2, 0.3], days[:3], "rate a day")
        assert metrics.growth(cdi, days).tolist() == pytest.approx([1, 1.001, 1.001 * 1.002, 1.001 * 1.002 * 1.003])

    def test_agrees_with_a_decimal_product_over_a_year_to_ten_digits(self):
        texts = dict(zip(YEAR.date, rates_of(YEAR), strict=True))
        found = metrics.growth(declared(map(float, texts.values()), YEAR, "rate a day"), YEAR)
        for end in (1, 20, 100, 251, len(YEAR) - 1):
            assert found.iloc[end] == pytest.approx(float(accrued(texts, YEAR[0].date(), YEAR[end].date())), rel=1e-10)

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_agrees_with_a_decimal_product_between_any_days_of_a_fund_with_gaps(self, data):
        texts = dict(zip(YEAR.date, rates_of(YEAR, data.draw(st.integers(0, 99))), strict=True))
        places = data.draw(st.sets(st.integers(0, len(YEAR) - 1), min_size=2, max_size=30))
        days = YEAR[sorted(places)]
        found = metrics.growth(declared(map(float, texts.values()), YEAR, "rate a day"), days)
        for before, after in itertools.pairwise(days):
            expected = float(accrued(texts, before.date(), after.date()))
            assert found[after] / found[before] == pytest.approx(expected, rel=1e-12)

    def test_its_last_rate_reaches_the_next_business_day_and_no_further(self):
        days = business_days("2022-01-03", "2022-01-12")
        found = metrics.growth(declared([0.05] * 3, days[2:5], "rate a day"), days)
        assert found.notna().tolist() == [False, False, True, True, True, True, False, False]

    def test_a_gap_is_refused_only_within_the_days_of_the_prices(self):
        cdi = declared([0.05] * len(YEAR), YEAR, "rate a day").drop(YEAR[10])
        with pytest.raises(ConfigError, match="cdi has no rate for 1 of the business days.*first 2022-01-17"):
            metrics.growth(cdi, YEAR)
        assert metrics.growth(cdi, YEAR[11:]).notna().all()
        assert metrics.growth(cdi, YEAR[:11]).notna().all(), "the rate of the last day has not accrued by then"


class TestAMonthlyRate:
    MONTHS = pd.date_range("2022-01-01", "2022-12-01", freq="MS")
    TEXTS = ("0.54", "1.01", "1.62", "1.06", "0.47", "0.67", "-0.68", "-0.36", "-0.29", "0.59", "0.41", "0.62")

    def test_a_year_is_the_product_of_its_months_in_decimals(self):
        """The months of the IPCA in 2022, which make 5.78 %; the unrounded index numbers make 5.79 %."""
        ipca = declared(map(float, self.TEXTS), self.MONTHS, "rate a month", "ipca")
        days = business_days("2021-12-01", "2023-01-05")
        found = metrics.growth(ipca, days)
        product = math.prod((1 + Decimal(text) / 100 for text in self.TEXTS), start=Decimal(1))
        assert round((product - 1) * 100, 2) == Decimal("5.78")
        assert found["2022-12-30"] / found["2021-12-31"] == pytest.approx(float(product), rel=1e-12)
        assert (found.first_valid_index(), found.last_valid_index()) == (
            pd.Timestamp("2021-12-31"),
            pd.Timestamp("2022-12-30"),
        )

    def test_within_a_month_it_grows_by_business_days(self):
        ipca = declared([1.01], ["2022-02-15"], "rate a month", "ipca")
        days = business_days("2022-01-31", "2022-02-25")  # 19 business days: 28 February is Carnival Monday
        found = metrics.growth(ipca, days)
        assert len(days) == 20
        for place, value in enumerate(found):
            assert value == pytest.approx(float(Decimal("1.0101") ** (Decimal(place) / 19)), rel=1e-12)

    def test_a_missing_month_and_a_duplicate_month_are_refused(self):
        ipca = declared(map(float, self.TEXTS), self.MONTHS, "rate a month", "ipca")
        days = business_days("2022-01-03", "2022-12-30")
        with pytest.raises(ConfigError, match="ipca has no rate for 1 of the months.*first 2022-03"):
            metrics.growth(ipca.drop(pd.Timestamp("2022-03-01")), days)
        twice = declared([0.5, 0.5], ["2022-03-01", "2022-03-15"], "rate a month", "ipca")
        with pytest.raises(ConfigError, match="ipca: 2022-03 has two rates"):
            metrics.growth(twice, days)


class TestALevel:
    def test_is_carried_over_a_few_closed_days_but_not_over_a_gap_nor_beyond_its_end(self):
        days = pd.date_range("2022-01-03", periods=14, name="date")
        index = declared([100, 110, 121], days[[1, 3, 12]], "level", "ibovespa")
        found = metrics.growth(index, days)
        assert found.round(6).fillna(0).tolist() == [0, 1, 1, *[1.1] * 8, 0, 1.21, 0]


@pytest.mark.parametrize(
    ("benchmark", "says"),
    [
        (pd.Series([0.05], index=YEAR[:1], name="cdi"), r'cdi declares no kind; declare it with benchmark\.attrs\["ki'),
        (declared([1], YEAR[:1], "rate a year"), "declares the kind 'rate a year', which is unknown; declare it"),
        (declared([0.0005], YEAR[:1], "rate a day"), "0.0005 is not a rate a day in per cent"),
        (declared([13.65], YEAR[:1], "rate a day"), "13.65 is not a rate a day in per cent"),
        (declared([120], YEAR[:1], "rate a month"), "120 is not a rate a month"),
        (declared([0.0], YEAR[:1], "level"), "0 on 2022-01-03 is not a level"),
        (declared([math.inf], YEAR[:1], "rate a day"), "infinite"),
        (declared([0.05, 0.05], YEAR[[0, 0]], "rate a day"), "2022-01-03 appears twice"),
        (declared([0.05], YEAR[:1], "rate a day").tz_localize("UTC"), "time zone"),
        (declared([0.05], ["2012-01-03"], "rate a day"), "cdi covers 2012-01-03 to 2012-01-03, the prices are from"),
        (declared([], [], "rate a day"), "cdi covers nothing"),
        (declared([], [], "rate a month"), "cdi covers nothing"),
        (declared([], [], "level"), "cdi covers nothing"),
        (pd.DataFrame({"cdi": [0.05]}), "this is a DataFrame"),
        (0.05, "this is a float"),
    ],
)
def test_the_error_for_an_invalid_benchmark_says_what_is_wrong(benchmark, says):
    with pytest.raises(ConfigError, match=f"^benchmark: .*{says}"):
        metrics.growth(benchmark, YEAR)


def test_rates_before_the_real_may_be_higher():
    days = business_days("1990-01-02", "1990-01-05")
    assert metrics.growth(declared([2.5] * 3, days[:3], "rate a day"), days).tolist() == pytest.approx(
        [1.025**place for place in range(4)]
    )


def test_a_unit_that_contradicts_the_kind_is_refused():
    cdi = declared([0.05], YEAR[:1], "rate a day")
    cdi.attrs["unit"] = "% a year"
    with pytest.raises(ConfigError, match="its unit is '% a year', but a rate a day is in \"% a day\""):
        metrics.growth(cdi, YEAR)


def test_the_result_of_arithmetic_on_a_rate_is_not_taken_for_the_rate():
    """pandas keeps attrs in a division, so a fraction would be divided by 100 again."""
    cdi = declared([0.05] * 10, YEAR[:10], "rate a day")
    with pytest.raises(ConfigError, match="0.0005 is not a rate a day in per cent"):
        metrics.growth(cdi / 100, YEAR[:10])
    assert "kind" not in metrics.growth(cdi, YEAR[:10]).attrs

"""Today is the day in Brazil, in any time zone of the machine."""

from __future__ import annotations

import datetime as dt
import time
from types import SimpleNamespace

import pytest
from support.fakes import FUND
from support.pricer import pricer

from scraperkit.errors import ConfigError
from scraperkit.models import Month, today
from scraperkit.publisher import batch_id_of


@pytest.fixture
def at(monkeypatch):
    """Set this process's clock, and its time zone."""

    def at(moment: str, zone: str = "UTC") -> None:
        seconds = dt.datetime.fromisoformat(moment).timestamp()
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        monkeypatch.setattr("scraperkit.models.time", SimpleNamespace(time=lambda: seconds))

    yield at
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "America/Los_Angeles"])
@pytest.mark.parametrize(
    ("moment", "day"),
    [
        ("2026-12-01T01:30:00+00:00", "2026-11-30"),
        ("2026-12-01T02:59:59+00:00", "2026-11-30"),
        ("2026-12-01T03:00:00+00:00", "2026-12-01"),
        ("2018-11-05T02:30:00+00:00", "2018-11-05"),  # summer time, which Brazil had until 2019
    ],
)
def test_today_is_the_day_in_sao_paulo(at, moment, day, zone):
    at(moment, zone)
    assert today().isoformat() == day


def test_a_month_is_requested_only_once_it_has_begun_in_brazil(at):
    at("2026-12-01T01:30:00+00:00")
    assert FUND.last_month == Month(2026, 11)
    assert FUND.months("2026-10")[-1].month_year == "11/2026"
    assert FUND.months("2026-10", "2026-12")[-1].month_year == "11/2026"
    with pytest.raises(ConfigError, match="^start: 2026-12 is after the current month"):
        FUND.months("2026-12")
    at("2026-12-01T03:00:00+00:00")
    assert FUND.months("2026-10")[-1].month_year == "12/2026"


def test_the_batch_of_a_recent_month_changes_with_the_day_in_brazil(at, publisher):
    at("2026-11-30T12:00:00+00:00")
    request = FUND.months("2026-11")[0]
    first = publisher.publish(request)
    at("2026-12-01T01:30:00+00:00")
    assert publisher.publish(request).id == first.id == str(batch_id_of([request], dt.date(2026, 11, 30)))
    at("2026-12-01T03:00:00+00:00")
    assert publisher.publish(request).id != first.id


def test_the_pricer_publishes_only_months_that_have_begun_in_brazil(at, redis_url, namespace):
    with pricer(redis_url, namespace) as api:
        at("2026-12-01T01:30:00+00:00")
        order = {"document": FUND.cnpj, "from_date": "10/2026"}
        assert api.post("/v1/funds", json=order).json()["count"] == 2
        response = api.post("/v1/funds", json=order | {"from_date": "12/2026"})
        assert response.status_code == 422, response.text
        assert "to 2026-11" in response.text

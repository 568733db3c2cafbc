"""``/v1/market/{day}``: what ``OpenData.market`` returns, in pages, as JSON and as CSV."""

from __future__ import annotations

import io
import math

import pandas as pd
import pytest
from support.pricer import fields, pricer

import scraperkit as sk
from scraperkit.models import METRICS

DAY = "2024-12-30"
TEXT = {"document": "str", "flag": "str"}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive")
    with sk.Replica.start() as site, sk.OpenData(site.open_data_url, archive=folder) as market:
        site.portal.crawl_delay = 0
        market.download("2024-12", "2024-12")
        market.update_registry()
    return folder


@pytest.fixture
def api(redis_url, namespace, archive):
    with pricer(redis_url, namespace, archive=archive, open_data_url="http://127.0.0.1:9/") as client:
        yield client


@pytest.fixture(scope="module")
def frame(archive):
    with sk.OpenData("http://127.0.0.1:9/", archive=archive) as market:
        found = market.market(DAY)
    assert len(found) > 10
    return found.assign(
        document=found["cnpj"] + found["subclass"].where(found["subclass"] == "", ":" + found["subclass"])
    )


def same(value, other) -> bool:
    return value == other or (value is None and math.isnan(float("nan" if other is pd.NA else other)))


def test_a_day_equals_that_of_the_library(api, frame):
    told = api.get(f"/v1/market/{DAY}").json()
    assert [row["document"] for row in told["rows"]] == frame["document"].tolist()
    for name in METRICS:
        assert all(map(same, [row[name] for row in told["rows"]], frame[name].tolist())), name
    assert [row["flag"] for row in told["rows"]] == frame["flag"].tolist()
    assert [row["kind"] for row in told["rows"]] == frame["kind"].tolist()
    names = {row["document"]: row["name"] for row in told["rows"]}
    assert "AROEIRA" in names["18993924000100"].upper()
    assert (told["series"], told["next"], told["provisional"]) == (len(frame), None, False)
    assert "ODbL" in told["attribution"]


def test_all_pages_together_are_the_whole_day(api, frame):
    address, seen = f"/v1/market/{DAY}?limit=7", []
    while address:
        page = api.get(address)
        told = page.json()
        assert told["series"] == len(frame)
        assert (f'<{told["next"]}>; rel="next"' in page.headers["Link"]) == (told["next"] is not None)
        seen += [row["document"] for row in told["rows"]]
        address = told["next"]
    assert seen == frame["document"].tolist()


def test_csv_has_the_same_rows_and_links_its_pages(api, frame):
    first = api.get(f"/v1/market/{DAY}?format=csv&limit=7")
    assert first.headers["Content-Type"].startswith("text/csv")
    assert 'rel="license"' in first.headers["Link"]
    parts = [first.text]
    while following := first.links.get("next"):
        first = api.get(following["url"])
        parts.append(first.text)
    read = pd.concat([pd.read_csv(io.StringIO(text), dtype=TEXT) for text in parts], ignore_index=True)
    assert read["document"].tolist() == frame["document"].tolist()
    assert read["date"].unique().tolist() == [DAY]
    assert not read["provisional"].any()
    for name in METRICS:
        pd.testing.assert_series_equal(read[name].astype("float64"), frame[name].astype("float64"))
    assert read["flag"].fillna("").tolist() == frame["flag"].tolist()


def test_a_day_on_which_nothing_was_published_has_no_rows(api):
    told = api.get("/v1/market/2024-12-25").json()
    assert (told["rows"], told["series"], told["next"]) == ([], 0, None)
    lines = api.get("/v1/market/2024-12-25?format=csv").text.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("date,document,name,kind,quota,")


def test_a_recent_day_is_provisional(api, monkeypatch):
    monkeypatch.setattr("scraperkit.api.market.today", lambda: pd.Timestamp("2025-01-02").date())
    told = api.get(f"/v1/market/{DAY}").json()
    assert told["provisional"] is True
    assert "True" in api.get(f"/v1/market/{DAY}?format=csv").text
    assert api.get("/v1/market/2024-12-02").json()["provisional"] is False


def test_a_month_missing_from_the_archive_returns_404_with_the_command_to_run(api, archive):
    response = api.get("/v1/market/2024-11-29")
    assert (response.status_code, fields(response)) == (404, ["day"])
    assert response.json()["type"] == "urn:scraperkit:problem:no-month"
    assert "`scraperkit market download --start 2024-11 --end 2024-11`" in response.json()["detail"]
    assert str(archive) not in response.text


def test_pricers_without_an_archive_return_404_with_the_command_to_run(redis_url, namespace, tmp_path):
    with pricer(redis_url, namespace, archive=tmp_path / "none") as api:
        assert api.get(f"/v1/market/{DAY}").status_code == 404


@pytest.mark.parametrize(
    ("target", "field"),
    [
        ("2024-12", "day"),
        ("yesterday", "day"),
        ("2024-02-30", "day"),
        (f"{DAY}?limit=0", "limit"),
        (f"{DAY}?limit=10001", "limit"),
        (f"{DAY}?after=x", "after"),
        (f"{DAY}?format=xml", "format"),
        (f"{DAY}?start=2024-12", "start"),
    ],
)
def test_an_invalid_field_returns_422_and_is_named(api, target, field):
    response = api.get(f"/v1/market/{target}")
    assert response.status_code == 422
    assert fields(response) == [field]

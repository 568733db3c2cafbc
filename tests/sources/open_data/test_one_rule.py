"""What a CNPJ stands for, and what a subclass inherits: the archive and TimeSeries agree."""

from __future__ import annotations

import uuid
import warnings

import pandas as pd
import pytest

import scraperkit as sk
from scraperkit.errors import ScraperKitWarning
from scraperkit.keys import Keys
from scraperkit.timeseries.reader import TimeSeriesReader

SPLIT, SIBLINGS, FUND = "99101035000184", "99101034000130", "18993924000100"  # the first splits on 2024-09-16


@pytest.fixture(scope="module")
def both(redis_url, tmp_path_factory):
    """Yield an archive of the months around the split, and a reader of all of it in Redis."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    with (
        sk.Replica.start() as site,
        sk.connect(redis_url) as redis,
        sk.OpenData(site.open_data_url, archive=tmp_path_factory.mktemp("archive")) as market,
    ):
        site.portal.crawl_delay = 0
        market.download("2024-08", "2024-10")
        market.load(redis, namespace=name)
        yield market, TimeSeriesReader(redis, name)
        redis.unlink(*redis.scan_iter(Keys(name).pattern, count=1000))


def split_day(market) -> tuple[pd.Timestamp, pd.Timestamp]:
    """Return the last day of the class, and the first of its subclasses."""
    rows = market.quotes([f"{SPLIT}:{each}" for each in subclasses(market)] + [SPLIT])
    by_class = rows["subclass"] == ""
    return rows[by_class]["date"].max(), rows[~by_class]["date"].min()


def subclasses(market) -> list[str]:
    rows = market.market("2024-10")
    return rows[rows["cnpj"] == SPLIT]["subclass"].unique().tolist()


def shown(read) -> tuple[pd.DataFrame, list[str]]:
    """Return the frame, and the series that warnings name for their class."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ScraperKitWarning)
        frame = read()
    return frame, [str(each.message).rpartition(": ")[2] for each in caught]


WINDOWS = {
    "all days": (None, None),
    "across the split": ("2024-09", "2024-09"),
    "before it": (None, "2024-09-06"),
    "after it": ("2024-10", None),
    "from a day after it": ("2024-09-25", "2024-10-10"),
    "up to the class's last day": ("2024-09-02", "last"),
    "from the subclasses' first day": ("first", None),
}
WANTED = {
    "the class": [SPLIT],
    "the class beside a subclass": ["subclass", SPLIT],
    "a subclass": ["subclass"],
    "a class that always had subclasses": [FUND, SIBLINGS],
    "all three": [SIBLINGS, SPLIT, FUND],
}


@pytest.mark.parametrize("wanted", WANTED)
@pytest.mark.parametrize("window", WINDOWS)
def test_the_archive_and_time_series_agree(both, window, wanted):
    market, reader = both
    last, first = split_day(market)
    assert last < first, "the sample's class ends before its subclasses begin"
    start, end = ({"last": last, "first": first}.get(day, day) for day in WINDOWS[window])
    series = [f"{SPLIT}:{subclasses(market)[0]}" if name == "subclass" else name for name in WANTED[wanted]]
    for inherit in (False, True):
        for metric in ("quota", "holders"):
            kept, stands = shown(lambda: market.prices(series, start, end, metric, inherit=inherit))  # noqa: B023
            stored, said = shown(lambda: reader.prices(series, start, end, metric, inherit=inherit))  # noqa: B023
            pd.testing.assert_frame_equal(kept, stored)
            assert kept.attrs == stored.attrs
        kept, stands = shown(lambda: market.quotes(series, start, end, inherit=inherit))  # noqa: B023
        stored, said = shown(lambda: reader.quotes(series, start, end, inherit=inherit))  # noqa: B023
        pd.testing.assert_frame_equal(kept, stored)
        assert kept.attrs == stored.attrs
        assert bool(stands) == bool(said)
        assert ("inherited" in kept) is inherit
        if inherit:  # marked in each row, which survives a loss of attributes
            joined = {name: rows["date"].max() for name, rows in kept[kept["inherited"]].groupby(["cnpj", "subclass"])}
            told = kept.attrs.get("inherited", {})
            assert {":".join(name): f"{day:%Y-%m-%d}" for name, day in joined.items()} == told


def test_the_requested_days_decide(both):
    market, reader = both
    names = [f"{SPLIT}:{each}" for each in subclasses(market)]
    for source in (market, reader):
        assert source.prices(SPLIT).columns.tolist() == [SPLIT]
        assert source.prices(SPLIT, end="2024-09-06").columns.tolist() == [SPLIT]
        with pytest.warns(ScraperKitWarning, match=", ".join(names)):
            assert source.prices(SPLIT, "2024-10").columns.tolist() == names


def test_a_subclass_inherits_only_on_request_and_only_from_its_class(both):
    market, reader = both
    name = f"{SPLIT}:{subclasses(market)[0]}"
    last, first = split_day(market)
    for source in (market, reader):
        assert source.prices(name).index.min() == first
        joined = source.prices([name, SPLIT], inherit=True)
        assert joined.attrs["inherited"] == {name: f"{last:%Y-%m-%d}"}
        pd.testing.assert_series_equal(joined[name][:last], joined[SPLIT][:last], check_names=False)
        assert source.prices(f"{SIBLINGS}:{sibling(market)}", inherit=True).attrs["inherited"] == {}


def sibling(market) -> str:
    rows = market.market("2024-10")
    return rows[rows["cnpj"] == SIBLINGS]["subclass"].iloc[0]

"""Publishing needs a fraction of a kilobyte of memory a message, from a list or an iterator."""

from __future__ import annotations

import datetime as dt
import gc
import tracemalloc
import uuid
from collections.abc import Iterator

import pytest
from support.fakes import FUND

from scraperkit.models import Fund, Month, ScrapeRequest
from scraperkit.publisher import Publisher, batch_id_of

COUNT = 20_000
MOST = 100_000_000 / 300_000  # bytes a message: 300,000 fit into 100 MB
A_CHUNK = 3_000_000  # bytes: the 1,000 messages in flight


def requests(count: int = COUNT) -> Iterator[ScrapeRequest]:
    """Yield requests one by one, for funds with names, 300 months each."""
    for number in range(count // 300 + 1):
        fund = Fund(FUND.cnpj, str(100_000 + number), f"Fundo {number}")
        yield from fund.months("1995-01", "2019-12")[: count - number * 300]


def peak(action) -> int:
    """Return the peak of the bytes that Python allocates during an action."""
    gc.collect()
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("delivery", "kind", "how"),
    [
        ("stream", list, {}),
        ("stream", iter, {}),
        ("stream", iter, {"force": True}),
        ("stream", iter, {"only_missing": True}),
        ("pubsub", iter, {}),
    ],
)
@pytest.mark.filterwarnings("ignore:no subscriber")
def test_a_message_takes_little_memory_including_its_request(redis, namespace, delivery, kind, how):
    publisher = Publisher(redis, namespace=namespace, delivery=delivery)
    publisher.publish(FUND.months("2020-01", "2020-02"))  # import and fill caches first
    assert peak(lambda: publisher.publish(kind(requests()), **how)) < COUNT * MOST + A_CHUNK


def test_publishing_again_takes_little_memory_a_message(publisher):
    publisher.publish(requests())
    assert peak(lambda: publisher.publish(requests())) < COUNT * MOST + A_CHUNK


def test_requests_share_the_texts_of_funds_and_months():
    wire = '{"document": "18.993.924/0001-00", "fund_pk": "132922", "month_year": "12/2022"}'
    one, other = ScrapeRequest.parse(wire), ScrapeRequest.parse(wire)
    assert one.document is other.document
    assert one.fund_pk is other.fund_pk
    assert one.month_year is other.month_year


def test_the_id_of_a_batch_is_the_uuid_of_its_sorted_message_ids():
    some, today = list(requests(700)), dt.date(2022, 1, 31)
    ids = " ".join(sorted(request.message_id for request in some))
    space = uuid.UUID("6ba7b814-9dad-11d1-80b4-00c04fd430c8")
    assert batch_id_of(iter(some), today) == uuid.uuid5(space, ids)
    recent = ScrapeRequest(document=FUND.cnpj, fund_pk="1", month_year=str(Month.of(today)))
    assert batch_id_of([recent], today) == uuid.uuid5(space, f"{recent.message_id} {today}")
    assert batch_id_of([], today) == uuid.uuid5(space, "")

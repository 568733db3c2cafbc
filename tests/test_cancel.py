"""Cancelling a batch takes back only messages that no worker has begun."""

from __future__ import annotations

import asyncio

import pytest
from support.fakes import FUND, FakeSite, GatedSite, months, one_quote
from support.waiting import wait_until

from scraperkit.batch import Batch
from scraperkit.config import Settings
from scraperkit.engine.worker import Worker
from scraperkit.errors import BatchNotFound, SiteUnavailable
from scraperkit.keys import Keys
from scraperkit.models import ScrapeRequest
from scraperkit.publisher import Publisher
from scraperkit.subscriber import Subscriber


class TestOnTheStream:
    def test_waiting_messages_are_taken_back(self, redis, publisher, keys):
        batch = publisher.publish(months(3))
        assert batch.cancel() == 3
        assert str(batch.status()) == "3 published, 0 done, 3 cancelled"
        assert batch.status().finished
        assert set(batch.jobs()["state"]) == {"cancelled"}
        assert redis.xlen(keys.jobs) == 0

    def test_no_worker_scrapes_a_cancelled_batch(self, redis, publisher, namespace):
        site = FakeSite()
        publisher.publish(months(3)).cancel()
        other = publisher.publish(months(1, year=2022))
        with Subscriber(redis, site, threads=1, namespace=namespace):
            other.wait(60)
        assert set(site.asked) == {"01/2022"}

    def test_a_worker_finishes_the_messages_it_holds(self, redis, publisher, namespace):
        site = GatedSite()
        settings = Settings.load(prefetch=0)
        with Subscriber(redis, site, threads=2, namespace=namespace, settings=settings):
            batch = publisher.publish(months(6))
            assert site.inside.acquire(timeout=60)
            assert site.inside.acquire(timeout=60)
            assert batch.cancel() == 4
            site.gate.set()
            status = batch.wait(60)
        assert str(status) == "6 published, 2 done, 4 cancelled"

    def test_messages_that_wait_for_a_retry_are_taken_back(self, redis, publisher, keys, namespace):
        def fail(request):
            raise SiteUnavailable("away")

        settings = Settings.load(backoff=3600.0, backoff_limit=3600.0)
        with Subscriber(redis, FakeSite(fail), threads=2, namespace=namespace, settings=settings):
            batch = publisher.publish(months(2))
            assert wait_until(lambda: redis.zcard(keys.retries) == 2)
            assert batch.cancel() == 2
        assert str(batch.status()) == "2 published, 0 done, 2 cancelled"
        assert redis.zcard(keys.retries) == 0
        assert redis.hlen(keys.history) == 0

    def test_other_batches_are_not_cancelled(self, publisher):
        first, second = publisher.publish(months(3)), publisher.publish(months(3, year=2022))
        assert first.cancel() == 3
        assert second.status().pending == 3

    def test_invalid_entries_in_the_stream_are_kept(self, redis, publisher, keys):
        batch = publisher.publish(months(1))
        redis.xadd(keys.jobs, {"message": f"no JSON, but it names {batch.id}"})
        redis.xadd(keys.jobs, {"other": "field"})
        assert batch.cancel() == 1
        assert redis.xlen(keys.jobs) == 2

    def test_a_long_stream_is_searched_to_its_end(self, publisher):
        early = publisher.publish(
            [ScrapeRequest(document=FUND.cnpj, fund_pk=str(pk), month_year="01/2021") for pk in range(1, 701)]
        )
        late = publisher.publish(months(3, year=2022))
        assert late.cancel() == 3
        assert early.cancel() == 700

    def test_cancelling_twice_cancels_nothing_more(self, publisher):
        batch = publisher.publish(months(2))
        assert (batch.cancel(), batch.cancel()) == (2, 0)
        assert batch.status().cancelled == 2

    def test_done_messages_stay_done(self, redis, publisher, namespace):
        batch = publisher.publish(months(2))
        with Subscriber(redis, FakeSite(), threads=2, namespace=namespace):
            batch.wait(60)
        assert batch.cancel() == 0
        assert batch.status().done == 2

    def test_a_cancelled_batch_that_is_published_again_is_done(self, redis, publisher, namespace):
        batch = publisher.publish(months(2))
        batch.cancel()
        with Subscriber(redis, FakeSite(), threads=2, namespace=namespace):
            status = publisher.publish(months(2)).wait(60)
        assert str(status) == "2 published, 2 done"

    def test_an_unknown_batch_is_an_error(self, redis, namespace):
        with pytest.raises(BatchNotFound):
            Batch(redis, "nothing-of-the-kind", namespace=namespace).cancel()

    def test_text_that_is_not_utf_8_in_the_stream_is_kept(self, redis, publisher, keys):
        batch = publisher.publish(months(1))
        redis.execute_command("XADD", keys.jobs, "*", "message", b"\xff\xfe " + batch.id.encode())
        assert batch.cancel() == 1

    def test_a_batch_published_again_by_pubsub_but_not_sent_again_is_taken_back_from_the_stream(
        self, redis, namespace, keys
    ):
        batch = Publisher(redis, namespace=namespace).publish(months(2))
        Publisher(redis, delivery="pubsub", namespace=namespace).publish(months(2))
        assert batch.status().pending == 2
        assert (batch.cancel(), redis.xlen(keys.jobs)) == (2, 0)


class TestOnTheChannel:
    def test_unclaimed_messages_are_taken_back(self, redis, namespace):
        """The worker has the messages on its connection, but does not read them before its next step."""
        site = FakeSite(one_quote)

        async def scenario():
            worker = Worker(redis, site, threads=1, delivery="pubsub", namespace=namespace)
            await worker.start()
            batch = Publisher(redis, delivery="pubsub", namespace=namespace).publish(months(2))
            assert batch.cancel() == 2
            await worker.step(block=0.2)
            await worker.close()
            return batch

        batch = asyncio.run(scenario())
        assert not site.asked
        assert str(batch.status()) == "2 published, 0 done, 2 cancelled"

    def test_messages_done_for_another_batch_are_cancelled_for_this_one(self, redis, namespace):
        publisher = Publisher(redis, delivery="pubsub", namespace=namespace)
        with Subscriber(redis, FakeSite(), threads=1, namespace=namespace):
            publisher.publish(months(1)).wait(60)
        with redis.pubsub() as deaf:
            deaf.subscribe(Keys(namespace).channel)
            assert deaf.get_message(timeout=60)["type"] == "subscribe"
            batch = publisher.publish(months(2))
        assert (batch.cancel(), batch.cancel()) == (2, 0)
        assert batch.status().cancelled == 2

    def test_a_worker_finishes_the_messages_it_has_claimed(self, redis, namespace):
        site = GatedSite()
        with Subscriber(redis, site, threads=1, delivery="pubsub", namespace=namespace):
            batch = Publisher(redis, delivery="pubsub", namespace=namespace).publish(months(1))
            assert site.inside.acquire(timeout=60)
            assert batch.cancel() == 0
            site.gate.set()
            assert str(batch.wait(60)) == "1 published, 1 done"

    def test_a_cancelled_batch_that_is_published_again_is_done(self, redis, namespace):
        """The old claim marks the batch finished but must not block workers."""
        publisher = Publisher(redis, delivery="pubsub", namespace=namespace)
        with redis.pubsub() as deaf:
            deaf.subscribe(Keys(namespace).channel)
            assert deaf.get_message(timeout=60)["type"] == "subscribe"
            assert publisher.publish(months(2)).cancel() == 2
        with Subscriber(redis, FakeSite(), threads=1, namespace=namespace):
            status = publisher.publish(months(2)).wait(60)
        assert str(status) == "2 published, 2 done"

    def test_a_cancellation_is_remembered_for_the_claim_ttl_of_the_publisher(self, redis, namespace, keys, monkeypatch):
        settings = Settings.load(namespace=namespace, claim_ttl=5_000)
        with redis.pubsub() as deaf:
            deaf.subscribe(keys.channel)
            assert deaf.get_message(timeout=60)["type"] == "subscribe"
            batch = Publisher(redis, delivery="pubsub", settings=settings).publish(months(1))
        monkeypatch.setenv("SCRAPERKIT_CLAIM_TTL", "7")
        assert Batch.find(redis, batch.id, namespace=namespace).cancel() == 1
        (claim,) = (keys.claim(message_id) for message_id in batch.jobs().index)
        assert 4_000 < redis.ttl(claim) <= 5_000

    def test_a_batch_without_a_claim_ttl_can_be_cancelled(self, redis, namespace, keys):
        with redis.pubsub() as deaf:
            deaf.subscribe(keys.channel)
            assert deaf.get_message(timeout=5)["type"] == "subscribe"
            batch = Publisher(redis, delivery="pubsub", namespace=namespace).publish(months(1))
        redis.hdel(keys.batch(batch.id), "claim_ms")
        assert batch.cancel() == 1

    @pytest.mark.parametrize("text", ["held a b c", "anna/1f2e3d4c", "held", "x" * 100])
    def test_a_claim_with_unknown_text_is_respected_until_it_expires(self, redis, namespace, keys, text):
        with redis.pubsub() as deaf:
            deaf.subscribe(keys.channel)
            assert deaf.get_message(timeout=5)["type"] == "subscribe"
            batch = Publisher(redis, delivery="pubsub", namespace=namespace).publish(months(1))
        (claim,) = (keys.claim(message_id) for message_id in batch.jobs().index)
        redis.set(claim, text, ex=1000)
        assert (batch.status().pending, batch.cancel()) == (1, 0)

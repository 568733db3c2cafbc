"""Cancelling a batch takes back what nobody has begun, and nothing else."""

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


class TestOfTheStream:
    def test_what_waits_is_taken_back(self, redis, publisher, keys):
        batch = publisher.publish(months(3))
        assert batch.cancel() == 3
        assert str(batch.status()) == "3 published, 0 done, 3 cancelled"
        assert batch.status().finished
        assert set(batch.jobs()["state"]) == {"cancelled"}
        assert redis.xlen(keys.jobs) == 0

    def test_nobody_scrapes_it(self, redis, publisher, namespace):
        site = FakeSite()
        publisher.publish(months(3)).cancel()
        other = publisher.publish(months(1, year=2022))
        with Subscriber(redis, site, threads=1, namespace=namespace):
            other.wait(60)
        assert set(site.asked) == {"01/2022"}

    def test_what_a_worker_holds_is_finished(self, redis, publisher, namespace):
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

    def test_what_waits_for_another_attempt_is_taken_back(self, redis, publisher, keys, namespace):
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

    def test_other_batches_are_left_alone(self, publisher):
        first, second = publisher.publish(months(3)), publisher.publish(months(3, year=2022))
        assert first.cancel() == 3
        assert second.status().pending == 3

    def test_rubbish_in_the_stream_is_left_alone(self, redis, publisher, keys):
        batch = publisher.publish(months(1))
        redis.xadd(keys.jobs, {"message": f"no JSON, but it names {batch.id}"})
        redis.xadd(keys.jobs, {"other": "field"})
        assert batch.cancel() == 1
        assert redis.xlen(keys.jobs) == 2

    def test_a_long_stream_is_gone_through_to_its_end(self, publisher):
        early = publisher.publish(
            [ScrapeRequest(document=FUND.cnpj, fund_pk=str(pk), month_year="01/2021") for pk in range(1, 701)]
        )
        late = publisher.publish(months(3, year=2022))
        assert late.cancel() == 3
        assert early.cancel() == 700

    def test_again_cancels_nothing_more(self, publisher):
        batch = publisher.publish(months(2))
        assert (batch.cancel(), batch.cancel()) == (2, 0)
        assert batch.status().cancelled == 2

    def test_what_is_done_stays_done(self, redis, publisher, namespace):
        batch = publisher.publish(months(2))
        with Subscriber(redis, FakeSite(), threads=2, namespace=namespace):
            batch.wait(60)
        assert batch.cancel() == 0
        assert batch.status().done == 2

    def test_published_again_it_is_done_after_all(self, redis, publisher, namespace):
        batch = publisher.publish(months(2))
        batch.cancel()
        with Subscriber(redis, FakeSite(), threads=2, namespace=namespace):
            status = publisher.publish(months(2)).wait(60)
        assert str(status) == "2 published, 2 done"

    def test_an_unknown_batch_is_an_error(self, redis, namespace):
        with pytest.raises(BatchNotFound):
            Batch(redis, "nothing-of-the-kind", namespace=namespace).cancel()

    def test_text_that_is_not_utf_8_in_the_stream_is_left_alone(self, redis, publisher, keys):
        batch = publisher.publish(months(1))
        redis.execute_command("XADD", keys.jobs, "*", "message", b"\xff\xfe " + batch.id.encode())
        assert batch.cancel() == 1

    def test_what_was_published_again_by_another_delivery_but_sent_nowhere_is_still_in_the_stream(
        self, redis, namespace, keys
    ):
        batch = Publisher(redis, namespace=namespace).publish(months(2))
        Publisher(redis, delivery="pubsub", namespace=namespace).publish(months(2))
        assert batch.status().pending == 2
        assert (batch.cancel(), redis.xlen(keys.jobs)) == (2, 0)


class TestOfTheChannel:
    def test_what_nobody_has_claimed_is_taken_back(self, redis, namespace):
        """A worker that steps by hand has the message on its connection, and has not read it yet."""
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

    def test_what_was_done_for_another_batch_is_taken_back_for_this_one(self, redis, namespace):
        publisher = Publisher(redis, delivery="pubsub", namespace=namespace)
        with Subscriber(redis, FakeSite(), threads=1, namespace=namespace):
            publisher.publish(months(1)).wait(60)
        with redis.pubsub() as deaf:
            deaf.subscribe(Keys(namespace).channel)
            assert deaf.get_message(timeout=60)["type"] == "subscribe"
            batch = publisher.publish(months(2))
        assert (batch.cancel(), batch.cancel()) == (2, 0)
        assert batch.status().cancelled == 2

    def test_what_a_worker_has_claimed_is_finished(self, redis, namespace):
        site = GatedSite()
        with Subscriber(redis, site, threads=1, delivery="pubsub", namespace=namespace):
            batch = Publisher(redis, delivery="pubsub", namespace=namespace).publish(months(1))
            assert site.inside.acquire(timeout=60)
            assert batch.cancel() == 0
            site.gate.set()
            assert str(batch.wait(60)) == "1 published, 1 done"

    def test_published_again_it_is_done_after_all(self, redis, namespace):
        """Its claim says that it is finished for this batch, and must not keep workers from it."""
        publisher = Publisher(redis, delivery="pubsub", namespace=namespace)
        with redis.pubsub() as deaf:
            deaf.subscribe(Keys(namespace).channel)
            assert deaf.get_message(timeout=60)["type"] == "subscribe"
            assert publisher.publish(months(2)).cancel() == 2
        with Subscriber(redis, FakeSite(), threads=1, namespace=namespace):
            status = publisher.publish(months(2)).wait(60)
        assert str(status) == "2 published, 2 done"

    def test_is_remembered_for_the_time_that_its_publisher_was_set_to(self, redis, namespace, keys, monkeypatch):
        settings = Settings.load(namespace=namespace, claim_ttl=5_000)
        with redis.pubsub() as deaf:
            deaf.subscribe(keys.channel)
            assert deaf.get_message(timeout=60)["type"] == "subscribe"
            batch = Publisher(redis, delivery="pubsub", settings=settings).publish(months(1))
        monkeypatch.setenv("SCRAPERKIT_CLAIM_TTL", "7")
        assert Batch.find(redis, batch.id, namespace=namespace).cancel() == 1
        (claim,) = (keys.claim(message_id) for message_id in batch.jobs().index)
        assert 4_000 < redis.ttl(claim) <= 5_000

    def test_a_batch_without_a_time_for_its_claims_is_cancelled_too(self, redis, namespace, keys):
        with redis.pubsub() as deaf:
            deaf.subscribe(keys.channel)
            assert deaf.get_message(timeout=5)["type"] == "subscribe"
            batch = Publisher(redis, delivery="pubsub", namespace=namespace).publish(months(1))
        redis.hdel(keys.batch(batch.id), "claim_ms")
        assert batch.cancel() == 1

    @pytest.mark.parametrize("text", ["held a b c", "anna/1f2e3d4c", "held", "x" * 100])
    def test_a_claim_in_other_words_is_its_holders_until_it_expires(self, redis, namespace, keys, text):
        with redis.pubsub() as deaf:
            deaf.subscribe(keys.channel)
            assert deaf.get_message(timeout=5)["type"] == "subscribe"
            batch = Publisher(redis, delivery="pubsub", namespace=namespace).publish(months(1))
        (claim,) = (keys.claim(message_id) for message_id in batch.jobs().index)
        redis.set(claim, text, ex=1000)
        assert (batch.status().pending, batch.cancel()) == (1, 0)

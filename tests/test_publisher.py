"""Publishing sends one message for each fund and month, at most once."""

from __future__ import annotations

import datetime as dt
import json
import threading
import time
from dataclasses import replace

import pytest
from support.fakes import FUND, FakeSite, GatedSite, months, one_quote
from support.waiting import wait_until
from support.workers import step

from scraperkit.batch import Batch
from scraperkit.config import Settings
from scraperkit.engine.worker import Worker
from scraperkit.errors import BatchNotFound, BatchTimeout, ConfigError, ScraperKitWarning
from scraperkit.models import ScrapeRequest, today
from scraperkit.publisher import Publisher, batch_id_of
from scraperkit.subscriber import Subscriber


class TestToTheStream:
    def test_each_request_becomes_one_entry_with_one_field(self, redis, publisher, keys):
        batch = publisher.publish(months(3))
        entries = redis.xrange(keys.jobs)
        assert [set(fields) for _, fields in entries] == [{"message"}] * 3
        requests = [ScrapeRequest.parse(fields["message"]) for _, fields in entries]
        assert [request.month_year for request in requests] == ["01/2021", "02/2021", "03/2021"]
        assert {request.batch_id for request in requests} == {batch.id}
        assert all(abs(time.time() - request.published_at) < 60 for request in requests)

    def test_the_consumer_group_reads_from_the_start_of_the_stream(self, redis, publisher, keys):
        publisher.publish(months(2))
        assert redis.xinfo_groups(keys.jobs)[0]["last-delivered-id"] == "0-0"

    def test_a_batch_without_workers_stays_pending(self, publisher):
        batch = publisher.publish(months(2))
        assert batch.receivers is None
        assert str(batch.status()) == "2 published, 0 done, 2 pending"
        assert not batch.status().finished

    def test_a_large_batch_is_sent_completely_and_in_order(self, redis, publisher, keys):
        requests = [ScrapeRequest(document=FUND.cnpj, fund_pk=str(pk), month_year="01/2021") for pk in range(1, 2_502)]
        publisher.publish(requests)
        sent = [json.loads(fields["message"])["fund_pk"] for _, fields in redis.xrange(keys.jobs)]
        assert sent == [str(pk) for pk in range(1, 2_502)]

    def test_one_request_needs_no_list(self, publisher):
        assert publisher.publish(months(1)[0]).status().published == 1

    def test_nothing_to_publish_is_a_finished_batch(self, publisher):
        batch = publisher.publish([])
        assert batch.status().finished
        assert batch.wait(60).published == 0

    def test_acknowledged_requests_are_not_published(self, publisher):
        done = replace(months(1)[0], acked=True)
        assert publisher.publish([done, *months(2)[1:]]).status().published == 1

    def test_the_fund_card_is_saved(self, redis, publisher, keys):
        publisher.publish(months(1))
        assert redis.hgetall(keys.fund(FUND.cnpj))["name"] == FUND.name

    @pytest.mark.parametrize("wrong", [["18993924000100"], [{}], [None]])
    def test_anything_but_a_request_is_refused(self, publisher, wrong):
        with pytest.raises(ConfigError, match="fund.months"):
            publisher.publish(wrong)


class TestRepeating:
    def test_the_same_requests_are_the_same_batch(self, redis, publisher, keys):
        first, second = publisher.publish(months(3)), publisher.publish(months(3))
        assert first.id == second.id
        assert redis.xlen(keys.jobs) == 3
        assert second.status().published == 3

    def test_with_force_the_same_requests_are_a_new_batch(self, redis, publisher, keys):
        first, second = publisher.publish(months(3)), publisher.publish(months(3), force=True)
        assert first.id != second.id
        assert redis.xlen(keys.jobs) == 6

    def test_a_duplicate_request_in_a_batch_is_published_once(self, redis, publisher, keys):
        publisher.publish(months(2) + months(2))
        assert redis.xlen(keys.jobs) == 2

    def test_a_batch_with_a_recent_month_is_a_new_one_each_day(self):
        def batch_id(day):
            return batch_id_of(months(3), dt.date(2021, 4, day)), batch_id_of(months(2), dt.date(2021, 4, day))

        open_first, closed_first = batch_id(1)
        open_next, closed_next = batch_id(2)
        assert open_first != open_next
        assert closed_first == closed_next


class TestToTheChannel:
    def test_messages_without_subscribers_are_lost_with_a_warning(self, redis, namespace):
        publisher = Publisher(redis, delivery="pubsub", namespace=namespace)
        with pytest.warns(ScraperKitWarning, match="no subscriber on"):
            batch = publisher.publish(months(2))
        assert batch.receivers == 0
        status = batch.wait(60)
        assert (status.lost, status.pending) == (2, 0)
        assert list(batch.failures()["state"]) == ["lost", "lost"]
        assert set(batch.failures()["error"]) == {"no subscriber was listening"}

    def test_every_subscriber_receives_the_documented_message(self, redis, namespace, keys):
        with redis.pubsub() as one, redis.pubsub() as two:
            for each in (one, two):
                each.subscribe(keys.channel)
                assert each.get_message(timeout=60)["type"] == "subscribe"
            batch = Publisher(redis, delivery="pubsub", namespace=namespace).publish(months(1))
            texts = {each.get_message(timeout=60)["data"] for each in (one, two)}
        assert batch.receivers == 2
        assert len(texts) == 1
        message = json.loads(texts.pop())
        assert message["document"] == FUND.cnpj
        assert message["month_year"] == "01/2021"
        assert message["acked"] is False

    def test_lost_messages_are_published_again(self, redis, namespace, keys):
        publisher = Publisher(redis, delivery="pubsub", namespace=namespace)
        with pytest.warns(ScraperKitWarning):
            publisher.publish(months(2))
        with redis.pubsub() as listener:
            listener.subscribe(keys.channel)
            assert listener.get_message(timeout=60)["type"] == "subscribe"
            batch = publisher.publish(months(2))
            assert batch.receivers == 1
            status = batch._counts()[0]
        assert (status.published, status.lost, status.pending) == (2, 0, 2)

    @pytest.mark.parametrize("delivery", ["pubsub", "stream"])
    def test_messages_lost_with_their_worker_are_published_again(self, redis, namespace, monkeypatch, delivery):
        monkeypatch.setenv("SCRAPERKIT_HEARTBEAT", "0.1")
        doomed = Subscriber(redis, FakeSite(), threads=1, namespace=namespace).start()
        doomed.crash_next()
        batch = Publisher(redis, delivery="pubsub", namespace=namespace).publish(months(3))
        assert str(batch.wait(60, progress=False)) == "3 published, 0 done, 3 lost"
        doomed.stop()
        with Subscriber(redis, FakeSite(), namespace=namespace):
            # For some seconds, a listener may be one that received the first message.
            assert wait_until(lambda: batch.status().lost == 3)
            again = Publisher(redis, delivery=delivery, namespace=namespace).publish(months(3))
            assert again.id == batch.id
            assert str(again.wait(60)) == "3 published, 3 done"

    def test_messages_that_may_be_lost_are_also_sent_to_the_stream(self, redis, namespace, keys):
        with redis.pubsub() as deaf:
            deaf.subscribe(keys.channel)
            assert deaf.get_message(timeout=60)["type"] == "subscribe"
            Publisher(redis, delivery="pubsub", namespace=namespace).publish(months(2))
        batch = Publisher(redis, namespace=namespace).publish(months(2))
        assert redis.xlen(keys.jobs) == 2
        with Subscriber(redis, FakeSite(), namespace=namespace):
            assert str(batch.wait(60)) == "2 published, 2 done"

    def test_messages_that_a_worker_holds_are_not_lost(self, redis, namespace, monkeypatch, keys):
        monkeypatch.setenv("SCRAPERKIT_HEARTBEAT", "20")
        site = GatedSite()
        publisher = Publisher(redis, delivery="pubsub", namespace=namespace)
        with Subscriber(redis, site, threads=2, namespace=namespace):
            batch = publisher.publish(months(2))
            for _ in range(2):
                assert site.inside.acquire(timeout=60)
            assert publisher.publish(months(2)).status().lost == 0
            site.gate.set()
            assert str(batch.wait(60)) == "2 published, 2 done"
        assert site.asked.total() == 2

    @pytest.mark.parametrize("what", [None, 5, FUND, FUND.months])
    def test_anything_but_a_list_of_requests_is_refused(self, redis, namespace, what):
        with pytest.raises(ConfigError, match="^requests: expected ScrapeRequests, got .*; make them with fund.months"):
            Publisher(redis, namespace=namespace).publish(what)

    def test_an_unknown_delivery_is_refused(self, redis):
        with pytest.raises(ConfigError, match="^delivery: "):
            Publisher(redis, delivery="pigeon")  # type: ignore[arg-type]


class TestFindingABatchAgain:
    def test_by_its_id(self, redis, publisher, namespace):
        batch = publisher.publish(months(2))
        found = Batch.find(redis, batch.id, namespace=namespace)
        assert found.status() == batch.status()
        assert publisher.batch(batch.id).id == batch.id

    def test_an_unknown_batch_is_named(self, publisher):
        with pytest.raises(BatchNotFound, match="no-such-batch"):
            publisher.batch("no-such-batch")

    def test_it_expires(self, redis, publisher, keys):
        batch = publisher.publish(months(1))
        assert 0 < redis.ttl(keys.batch(batch.id)) <= publisher.settings.batch_ttl

    def test_a_wait_ends_with_the_timeout_and_the_work_continues(self, publisher):
        batch = publisher.publish(months(1))
        with pytest.raises(BatchTimeout, match="1 pending"):
            batch.wait(0.2)
        assert batch.status().pending == 1

    def test_its_jobs_are_a_frame(self, publisher):
        jobs = publisher.publish(months(3)).jobs()
        assert list(jobs.columns) == ["cnpj", "month", "state", "error"]
        assert list(jobs["month"]) == ["01/2021", "02/2021", "03/2021"]
        assert set(jobs["state"]) == {"pending"}

    def test_an_empty_batch_has_empty_frames_of_the_same_shape(self, publisher):
        empty, full = publisher.publish([]), publisher.publish(months(1))
        assert list(empty.jobs().columns) == list(full.jobs().columns)
        assert list(empty.events().columns) == list(full.events().columns)
        assert (empty.events().dtypes == full.events().dtypes).all()

    def test_its_repr_shows_its_counts(self, publisher):
        batch = publisher.publish(months(2))
        assert repr(batch) == f"<Batch {batch.id}: 2 published, 0 done, 2 pending>"


class TestPublishingAgainByPubSub:
    def test_recently_failed_messages_are_done(self, redis, namespace):
        well = threading.Event()

        def respond(request):
            if not well.is_set():
                raise OSError("reset by peer")
            return one_quote(request)

        publisher = Publisher(redis, delivery="pubsub", namespace=namespace)
        with Subscriber(redis, FakeSite(respond), threads=1, namespace=namespace):
            assert publisher.publish(months(2)).wait(60).failed == 2
            well.set()
            assert str(publisher.publish(months(2)).wait(60)) == "2 published, 2 done"


class TestOnlyMissing:
    def store(self, redis, keys, month: str, when: dt.datetime):
        redis.hset(keys.months(FUND.cnpj), month, int(when.timestamp()))

    def test_months_stored_after_their_end_are_omitted(self, redis, publisher, keys):
        self.store(redis, keys, "2021-01", dt.datetime(2021, 2, 2, tzinfo=dt.UTC))
        batch = publisher.publish(months(3), only_missing=True)
        assert list(batch.jobs()["month"]) == ["02/2021", "03/2021"]

    def test_months_stored_before_their_end_are_scraped_again(self, redis, publisher, keys):
        self.store(redis, keys, "2021-01", dt.datetime(2021, 1, 31, 23, tzinfo=dt.UTC))
        assert publisher.publish(months(1), only_missing=True).status().published == 1

    def test_the_current_month_is_never_omitted(self, redis, publisher, keys):
        self.store(redis, keys, f"{today():%Y-%m}", dt.datetime.now(dt.UTC))
        assert publisher.publish(FUND.months(today()), only_missing=True).status().published == 1

    def test_months_stored_by_workers_count_even_if_empty(self, redis, namespace, publisher):
        site = FakeSite(lambda request: [] if request.month == 1 else one_quote(request))
        publisher.publish(months(2))
        step(Worker(redis, site, settings=Settings.load(namespace=namespace)))
        batch = publisher.publish(months(3), only_missing=True)
        assert list(batch.jobs()["month"]) == ["03/2021"]

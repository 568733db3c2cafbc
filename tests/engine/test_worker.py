"""The engine, one step at a time: the outcomes of a message, and the guarantees of each delivery."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import math
import re
from collections.abc import Callable
from dataclasses import asdict

import pytest
from support.fakes import FUND, FakeSite, months, one_quote
from support.workers import AT_ONCE, step

from scraperkit.config import Settings
from scraperkit.engine.registry import WorkerCard
from scraperkit.engine.worker import Worker
from scraperkit.errors import ConfigError, MonthNotOffered, PageChanged, SiteUnavailable
from scraperkit.models import DailyQuote, ScrapeRequest
from scraperkit.publisher import Publisher
from scraperkit.timeseries.reader import TimeSeriesReader
from scraperkit.timeseries.store import SeriesStore

EXAMPLE = (
    '{"document": "18993924000100", "fund_pk": "132922", "month_year": "12/2022",'
    ' "message_id": "6db8704d-5b97-4c95-bb53-b052b48ed531", "acked": false}'
)


@pytest.fixture
def channel(redis, namespace):
    return Publisher(redis, namespace=namespace, delivery="pubsub")


@pytest.fixture
def make(redis, namespace) -> Callable[..., Worker]:
    """Make a worker of this test's namespace."""

    def make_worker(
        site: object, *, name: str | None = None, claim: bool = True, delivery="both", **settings
    ) -> Worker:
        given = Settings.load(namespace=namespace, **{**AT_ONCE, **settings})
        return Worker(redis, site, settings=given, delivery=delivery, claim=claim, name=name)

    return make_worker


class TestOneStep:
    def test_receives_fetches_stores_and_acknowledges(self, redis, namespace, keys, publisher, make):
        batch = publisher.publish(months(3))
        assert step(make(FakeSite(), threads=3)) == {"done": 3}
        assert redis.xlen(keys.jobs) == 0
        assert str(batch.status()) == "3 published, 3 done"
        quotes = TimeSeriesReader(redis, namespace=namespace).quotes()
        expected = [one_quote(request)[0] for request in months(3)]
        assert [DailyQuote(*row) for row in _rows(quotes)] == expected

    def test_holds_one_message_per_thread_and_the_prefetch_once_fetches_prove_fast(self, publisher, make, redis, keys):
        publisher.publish(months(12))
        assert step(make(FakeSite(), threads=2, prefetch=3)) == {"done": 2}
        assert step(make(FakeSite(), threads=2, prefetch=3), times=40)["done"] == 10
        assert redis.xlen(keys.jobs) == 0

    def test_settles_in_parts_more_results_than_a_script_can_take(self, redis, keys, publisher, make):
        wanted = [ScrapeRequest(document=FUND.cnpj, fund_pk=str(pk), month_year="01/2021") for pk in range(9_000)]
        batch = publisher.publish(wanted)
        worker = make(FakeSite(lambda _: []), threads=256, prefetch=10_000)
        assert step(worker, times=60)["done"] == 9_000
        assert batch.status().done == 9_000
        assert redis.xlen(keys.jobs) == 0

    def test_counts_the_same_message_twice_at_once_only_once(self, redis, keys, publisher, make):
        """As after a lost reply to XADD."""
        batch = publisher.publish(months(1))
        ((_, fields),) = redis.xrange(keys.jobs)
        redis.xadd(keys.jobs, fields)
        assert step(make(FakeSite(), threads=2)) == {"done": 1, "superseded": 1}
        assert str(batch.status()) == "1 published, 1 done"

    def test_keeps_both_attempts_of_a_message_that_fails_twice_at_once(self, redis, keys, publisher, make):
        def fail(request):
            raise SiteUnavailable("away")

        publisher.publish(months(1))
        ((_, fields),) = redis.xrange(keys.jobs)
        redis.xadd(keys.jobs, fields)
        assert step(make(FakeSite(fail), threads=2, max_attempts=2)) == {"retry": 1, "dead": 1}
        ((_, letter),) = redis.xrange(keys.dead)
        assert len(letter["history"].splitlines()) == 2
        assert redis.hlen(keys.history) == 0

    def test_with_nothing_to_do_does_nothing(self, make):
        assert step(make(FakeSite())) == {}

    def test_writes_one_event_per_job_with_worker_outcome_and_times(self, publisher, make):
        batch = publisher.publish(months(2))
        step(make(FakeSite(), name="anna"))
        events = batch.events()
        assert list(events["outcome"]) == ["done", "done"]
        assert list(events["attempt"]) == [1, 1]
        assert set(events["worker"].str.split("/").str[0]) == {"anna"}
        assert set(events["quotes"]) == {1}
        in_order = events[["published_at", "received_at", "started_at", "fetched_at", "stored_at"]]
        assert (in_order.diff(axis=1).iloc[:, 1:] >= dt.timedelta(0)).all(axis=None)

    def test_creates_a_fund_card_for_a_message_typed_by_hand(self, redis, keys, make):
        step(make(FakeSite()), lambda: redis.publish(keys.channel, EXAMPLE))
        assert redis.hgetall(keys.fund(FUND.cnpj)) == {"cnpj": FUND.cnpj, "pk": "132922"}

    def test_does_not_change_a_complete_fund_card(self, redis, keys, namespace, make):
        SeriesStore(redis, namespace=namespace).save_fund(FUND)
        step(make(FakeSite()), lambda: redis.publish(keys.channel, EXAMPLE))
        assert redis.hget(keys.fund(FUND.cnpj), "name") == FUND.name


class TestAMessageTypedByHand:
    def test_on_the_channel_starts_a_scrape(self, redis, keys, namespace, make):
        assert step(make(FakeSite(), delivery="pubsub"), lambda: redis.publish(keys.channel, EXAMPLE), block=5) == {
            "done": 1
        }
        prices = TimeSeriesReader(redis, namespace=namespace).prices()
        assert prices.index[0] == dt.datetime(2022, 12, 1)

    def test_in_the_stream_starts_a_scrape(self, redis, keys, make):
        redis.xadd(keys.jobs, {"message": EXAMPLE})
        assert step(make(FakeSite())) == {"done": 1}

    def test_that_is_acked_is_ignored(self, redis, keys, make):
        site = FakeSite()
        redis.xadd(keys.jobs, {"message": EXAMPLE.replace("false", "true")})
        assert step(make(site)) == {"ignored": 1}
        assert not site.asked
        assert redis.xlen(keys.jobs) == 0

    @pytest.mark.parametrize("raw", ["hello", "{}", b"\xff\x00", "", '{"document": "1"}', "x" * 2_000])
    def test_that_is_invalid_becomes_a_dead_letter(self, redis, keys, make, raw):
        worker = make(FakeSite(), max_message_bytes=1_000)
        redis.xadd(keys.jobs, {"message": raw})
        assert step(worker, lambda: redis.publish(keys.channel, raw), block=5) == {"dead": 2}
        letters = [fields for _, fields in redis.xrange(keys.dead)]
        assert [letter["error"].split(":")[0] for letter in letters] == ["BadMessage"] * 2
        assert redis.xlen(keys.jobs) == 0

    def test_without_the_field_becomes_a_dead_letter(self, redis, keys, make):
        redis.xadd(keys.jobs, {"something": "else"})
        assert step(make(FakeSite())) == {"dead": 1}


class TestAJobThatFails:
    def test_is_retried_and_its_attempts_are_counted(self, publisher, make):
        responses = iter([OSError("reset"), OSError("reset"), None])

        def respond(request):
            error = next(responses)
            if error:
                raise error
            return one_quote(request)

        batch = publisher.publish(months(1))
        assert step(make(FakeSite(respond)), times=3) == {"retry": 2, "done": 1}
        assert list(batch.events()["attempt"]) == [1, 2, 3]
        assert batch.status().done == 1

    def test_becomes_a_dead_letter_with_its_history_after_the_last_attempt(self, redis, keys, publisher, make):
        batch = publisher.publish(months(1))
        site = FakeSite(_raising(SiteUnavailable("no response", "http://site/page")))
        assert step(make(site, name="anna"), times=3) == {"retry": 2, "dead": 1}
        ((_, letter),) = redis.xrange(keys.dead)
        assert json.loads(letter["message"])["month_year"] == "01/2021"
        assert letter["error"] == "SiteUnavailable: no response [http://site/page]"
        assert letter["attempts"] == "3"
        assert letter["worker"].startswith("anna/")
        assert len(letter["history"].splitlines()) == 3
        assert not redis.exists(keys.history, keys.retries)
        assert batch.status().failed == 1
        assert list(batch.failures()["error"]) == [letter["error"]]

    def test_permanently_is_not_retried(self, publisher, make):
        site = FakeSite(_raising(PageChanged("no table", "http://site/page")))
        publisher.publish(months(1))
        assert step(make(site), times=2) == {"dead": 1}
        assert site.asked.total() == 1

    @pytest.mark.parametrize(
        ("broken", "told"),
        [
            (
                lambda request: request.month + None,
                "TypeError: unsupported operand .* (test_worker.py, line .*, in .*: ",
            ),
            (lambda request: request.quota, "AttributeError: .*'quota' (test_worker.py, line "),
            (lambda request: {}[request.month], "KeyError: 1 (test_worker.py, line "),
            (lambda request: [][request.month], "IndexError: list index out of range (test_worker.py, line "),
            (lambda request: undefined, "NameError: name 'undefined' is not defined (test_worker.py, line "),  # noqa: F821
            (lambda request: None, "TypeError: the source returned NoneType, not a list of DailyQuote$"),
        ],
    )
    def test_from_a_mistake_in_the_source_is_not_retried_and_names_the_line(
        self, publisher, redis, keys, make, broken, told
    ):
        site = FakeSite(broken)
        publisher.publish(months(1))
        assert step(make(site), times=2) == {"dead": 1}
        assert site.asked.total() == 1
        ((_, letter),) = redis.xrange(keys.dead)
        assert re.match(told.replace("(", "\\(").replace("[", "\\["), letter["error"]), letter["error"]

    @pytest.mark.parametrize("max_attempts", [1, 5])
    def test_because_its_month_is_not_offered_is_not_a_failure(self, redis, keys, publisher, make, max_attempts):
        site = FakeSite(_raising(MonthNotOffered("it has 01/2022 to 03/2022", "http://site/page")))
        batch = publisher.publish(months(1))
        assert step(make(site, max_attempts=max_attempts), times=3) == {"not_offered": 1}
        assert site.asked.total() == 1
        assert not redis.exists(keys.dead, keys.retries, keys.history)
        assert str(batch.status()) == "1 published, 0 done, 1 not offered"
        assert batch.status().finished
        assert batch.failures().empty
        (job,) = batch.jobs().itertuples()
        assert (job.state, job.error) == (
            "not_offered",
            "MonthNotOffered: it has 01/2022 to 03/2022 [http://site/page]",
        )
        assert list(batch.events()["outcome"]) == ["not_offered"]
        assert "not offered" in batch._repr_html_()
        assert batch.wait(30).not_offered == 1
        assert step(make(FakeSite()), lambda: publisher.publish(months(1))) == {"done": 1}, "it may be asked for again"
        assert str(batch.status()) == "1 published, 1 done"

    def test_by_pubsub_because_its_month_is_not_offered_is_not_a_failure(self, channel, make):
        batches = []
        worker = make(FakeSite(_raising(MonthNotOffered("not yet"))), delivery="pubsub")
        assert step(worker, lambda: batches.append(channel.publish(months(2))), block=5) == {"not_offered": 2}
        assert str(batches[0].status()) == "2 published, 0 done, 2 not offered"

    def test_waits_before_its_retry(self, redis, keys, publisher, make):
        publisher.publish(months(1))
        assert step(make(FakeSite(_raising(OSError())), backoff=100.0), times=3) == {"retry": 1}
        ((_, due),) = redis.zrange(keys.retries, 0, -1, withscores=True)
        assert 49 <= due / 1000 - float(redis.time()[0]) <= 101

    def test_by_pubsub_is_counted_and_not_retried(self, channel, make, redis, keys):
        batches = []
        worker = make(FakeSite(_raising(OSError("reset"))), delivery="pubsub")
        assert step(worker, lambda: batches.append(channel.publish(months(2))), block=5) == {"failed": 2}
        assert batches[0].status().failed == 2
        assert not redis.exists(keys.dead)

    @pytest.mark.parametrize("error", [ValueError("x"), SystemExit(1), KeyboardInterrupt(), RecursionError()])
    def test_with_any_exception_does_not_end_the_worker(self, publisher, make, error):
        def respond(request):
            if request.month == 1:
                raise error
            return one_quote(request)

        publisher.publish(months(2))
        assert step(make(FakeSite(respond), max_attempts=1)) == {"dead": 1, "done": 1}

    @pytest.mark.parametrize(
        "response",
        [
            lambda _: None,
            lambda _: [1],
            lambda _: 7,
            lambda request: [DailyQuote("33000167000101", request.first_day, 1.0)],
            lambda request: [DailyQuote(request.document, request.first_day, math.nan)],
            lambda request: [DailyQuote(request.document, dt.date(1969, 1, 1), 1.0)],
        ],
    )
    def test_with_a_response_that_is_not_quotes_affects_no_other_job(self, publisher, make, response):
        def sometimes(request):
            return response(request) if request.month == 1 else one_quote(request)

        batch = publisher.publish(months(2))
        assert step(make(FakeSite(sometimes), max_attempts=1)) == {"dead": 1, "done": 1}
        assert list(batch.failures()["month"]) == ["01/2021"]

    def test_a_month_without_quotes_is_done(self, publisher, make):
        batch = publisher.publish(months(1))
        assert step(make(FakeSite(lambda _: []))) == {"done": 1}
        assert batch.status().done == 1


class TestSeveralWorkers:
    def test_of_a_group_do_each_stream_entry_once(self, publisher, make):
        site = FakeSite()
        publisher.publish(months(4))

        async def go():
            one, two = make(site, prefetch=0), make(site, prefetch=0)
            for worker in (one, two):
                await worker.start()
            outcomes = [await worker.step() for worker in (one, two)]
            for worker in (one, two):
                await worker.close()
            return outcomes

        assert asyncio.run(go()) == [{"done": 2}, {"done": 2}]
        assert set(site.asked.values()) == {1}

    def test_claim_each_channel_message_once(self, channel, make):
        outcomes, site = self._both_hear(channel, make, claim=True)
        assert sum(outcomes, start=type(outcomes[0])()) == {"done": 3, "ignored": 3}
        assert set(site.asked.values()) == {1}

    def test_without_claims_all_do_each_channel_message_and_it_counts_once(self, channel, make):
        outcomes, site = self._both_hear(channel, make, claim=False)
        assert outcomes == [{"done": 3}, {"done": 3}]
        assert set(site.asked.values()) == {2}
        assert str(self.batch.status()) == "3 published, 3 done"

    def _both_hear(self, channel, make, claim):
        site = FakeSite()

        async def go():
            one, two = (make(site, claim=claim, threads=3, delivery="pubsub") for _ in range(2))
            for worker in (one, two):
                await worker.start()
            self.batch = channel.publish(months(3))
            assert self.batch.receivers == 2
            outcomes = [await worker.step(1) for worker in (one, two)]
            for worker in (one, two):
                await worker.close()
            return outcomes

        return asyncio.run(go()), site

    def test_have_distinct_names_and_give_them_back(self, make, redis, keys):
        async def go():
            one, two = make(FakeSite()), make(FakeSite())
            await one.start()
            await two.start()
            names = one.name, two.name
            await one.close()
            three = make(FakeSite())
            await three.start()
            assert three.name == names[0]
            await two.close()
            await three.close()
            return names

        one, two = asyncio.run(go())
        assert one != two
        assert not redis.exists(keys.workers, keys.worker(one), keys.worker(two))
        assert redis.xinfo_consumers(keys.jobs, keys.group) == []

    def test_with_an_invalid_name_are_refused(self, make):
        with pytest.raises(ConfigError, match="^name: "):
            step(make(FakeSite(), name="a b"))


class TestTheEventLog:
    def test_is_capped(self, redis, keys, publisher, make):
        publisher.publish(months(12))
        worker = make(FakeSite(), events_kept=1, threads=12)
        step(worker)
        publisher.publish(months(12), force=True)
        step(worker)
        # The cap is approximate: Redis drops whole nodes of a hundred entries.
        assert redis.xlen(keys.events) <= 100 + 24


def test_a_source_without_fetch_is_refused(redis):
    with pytest.raises(ConfigError, match="^source: "):
        Worker(redis, object())  # type: ignore[arg-type]


def _raising(error: BaseException):
    def respond(_):
        raise error

    return respond


def _rows(quotes):
    for row in quotes.itertuples(index=False):
        yield (row.cnpj, row.date.date(), *row[3:])


class TestTheLeaseOfALivingWorker:
    """A worker with a shorter lease judges another's jobs by the lease on the other's card."""

    @pytest.mark.parametrize(("lease", "taken"), [(3600.0, 0), (1.0, 1)])
    def test_is_its_own(self, redis, namespace, keys, publisher, lease, taken):
        batch = publisher.publish(months(1))
        card = WorkerCard("slow", "slow/1", "elsewhere", 1, 1, "stream", 0.0, lease=lease, heartbeat=600.0)
        redis.set(keys.worker("slow"), json.dumps(asdict(card)))
        redis.xreadgroup(keys.group, "slow", {keys.jobs: ">"})
        redis.xclaim(keys.jobs, keys.group, "slow", 0, [entry for entry, _ in redis.xrange(keys.jobs)], idle=60_000)
        hasty = Settings.load(namespace=namespace, lease=0.5, heartbeat=0.1)
        assert step(Worker(redis, FakeSite(), settings=hasty, delivery="stream")).get("done", 0) == taken
        assert batch.status().done == taken

    def test_never_expires_on_an_older_versions_card_without_a_lease(self, redis, namespace, keys, publisher):
        batch = publisher.publish(months(1))
        card = asdict(WorkerCard("slow", "slow/1", "elsewhere", 1, 1, "stream", 0.0))
        redis.set(keys.worker("slow"), json.dumps({name: value for name, value in card.items() if name != "lease"}))
        redis.xreadgroup(keys.group, "slow", {keys.jobs: ">"})
        redis.xclaim(keys.jobs, keys.group, "slow", 0, [entry for entry, _ in redis.xrange(keys.jobs)], idle=60_000)
        hasty = Settings.load(namespace=namespace, lease=0.5, heartbeat=0.1)
        assert not step(Worker(redis, FakeSite(), settings=hasty, delivery="stream"))
        redis.delete(keys.worker("slow"))
        assert step(Worker(redis, FakeSite(), settings=hasty, delivery="stream")) == {"done": 1}
        assert batch.status().done == 1

    def test_does_not_hide_the_jobs_of_a_dead_worker(self, redis, namespace, keys, publisher):
        batch = publisher.publish(months(12))
        card = WorkerCard("slow", "slow/1", "elsewhere", 1, 1, "stream", 0.0, lease=3600.0, heartbeat=600.0)
        redis.set(keys.worker("slow"), json.dumps(asdict(card)))
        for consumer, count in (("slow", 11), ("dead", 1)):
            ((_, [entries]),) = redis.xreadgroup(keys.group, consumer, {keys.jobs: ">"}, count=count).items()
            redis.xclaim(keys.jobs, keys.group, consumer, 0, [entry for entry, _ in entries], idle=60_000)
        hasty = Settings.load(namespace=namespace, lease=0.5, heartbeat=0.1, threads=1, prefetch=0)
        step(Worker(redis, FakeSite(), settings=hasty, delivery="stream"))
        assert batch.status().done == 1

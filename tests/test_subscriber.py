"""A worker in the background: starting, stopping, its views, and its errors."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import textwrap
import threading

import pytest
from redis.exceptions import ResponseError
from support.fakes import FUND, FakeSite, GatedSite, months, one_quote
from support.servers import connections
from support.waiting import wait_until
from support.workers import LIVELY, subscriber

from scraperkit.connection import connect
from scraperkit.errors import ConfigError, RedisUnreachable, WorkerError
from scraperkit.keys import Keys
from scraperkit.publisher import Publisher
from scraperkit.subscriber import Subscriber
from scraperkit.timeseries.reader import TimeSeriesReader


class TestWorking:
    @pytest.mark.parametrize("delivery", ["stream", "pubsub"])
    def test_a_batch_is_scraped_stored_and_counted(self, redis, namespace, delivery):
        with subscriber(redis, namespace, FakeSite(), threads=4):
            batch = Publisher(redis, namespace=namespace, delivery=delivery).publish(months(24))
            status = batch.wait(60)
        assert (status.published, status.done, status.failed, status.lost) == (24, 24, 0, 0)
        assert len(TimeSeriesReader(redis, namespace=namespace).prices([FUND.cnpj])) == 24

    def test_messages_published_before_the_start_are_done(self, redis, namespace, publisher):
        batch = publisher.publish(months(5))
        with subscriber(redis, namespace, FakeSite()):
            assert batch.wait(60).done == 5

    def test_a_batch_can_be_awaited_from_another_process(self, redis, redis_url, namespace, publisher):
        batch = publisher.publish(months(5))
        code = textwrap.dedent(f"""
            import os, scraperkit as sk
            batch = sk.Batch.find(sk.connect({redis_url!r}), {batch.id!r}, namespace={namespace!r})
            print(batch.wait(60))
        """)
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
            with subscriber(redis, namespace, FakeSite()):
                out, _ = other.communicate(timeout=60)
        assert out.strip() == "5 published, 5 done"

    def test_the_given_client_is_never_blocked(self, redis, namespace):
        with subscriber(redis, namespace, FakeSite()):
            assert redis.ping()

    def test_failures_are_reported_at_the_end_of_a_wait(self, redis, namespace, publisher, capsys):
        def respond(request):
            if request.month == 2:
                raise OSError("reset by peer")
            return one_quote(request)

        with subscriber(redis, namespace, FakeSite(respond), max_attempts=1):
            status = publisher.publish(months(3)).wait(60, progress=True)
        assert (status.done, status.failed) == (2, 1)
        told = capsys.readouterr().err
        assert re.search(r"^ +1 +OSError: reset by peer +18\.993\.924/0001-00 02/2021$", told, re.M)

    def test_the_progress_bar_counts_to_the_end(self, redis, namespace, publisher, capsys):
        with subscriber(redis, namespace, FakeSite()):
            publisher.publish(months(3)).wait(60, progress=True)
        assert "3/3" in capsys.readouterr().err


class TestTwoBatchesWithOneMonthInCommon:
    def test_are_both_done_if_the_second_is_published_while_the_month_is_fetched(self, redis, namespace):
        site = GatedSite()
        publisher = Publisher(redis, namespace=namespace, delivery="pubsub")
        with subscriber(redis, namespace, site, threads=2):
            first = publisher.publish(months(1))
            assert site.inside.acquire(timeout=60)
            second = publisher.publish(months(2))
            assert site.inside.acquire(timeout=60)
            site.gate.set()
            assert (str(first.wait(60)), str(second.wait(60))) == ("1 published, 1 done", "2 published, 2 done")

    @pytest.mark.parametrize("threads", [1, 2])
    def test_are_both_done_if_the_first_worker_is_stopped_in_between(self, redis, namespace, threads):
        site = GatedSite()
        publisher = Publisher(redis, namespace=namespace, delivery="pubsub")
        with subscriber(redis, namespace, FakeSite(), threads=1) as other:
            other.pause()
            with subscriber(redis, namespace, site, threads=threads, prefetch=0) as one:
                first = publisher.publish(months(1))
                assert site.inside.acquire(timeout=30)
                other.resume()
                second = publisher.publish(months(2))
                one.request_stop()
                site.gate.set()
            assert (str(first.wait(60)), str(second.wait(60))) == ("1 published, 1 done", "2 published, 2 done")


class TestStarting:
    def test_returns_when_the_server_has_confirmed_the_subscription(self, redis, namespace, keys):
        for _ in range(20):
            with subscriber(redis, namespace, FakeSite(), threads=1):
                assert redis.pubsub_numsub(keys.channel)[0][1] == 1
            assert redis.pubsub_numsub(keys.channel)[0][1] == 0

    def test_twice_is_the_same_as_once(self, redis, namespace):
        with subscriber(redis, namespace, FakeSite()) as one:
            before = threading.active_count()
            assert one.start() is one
            assert threading.active_count() == before

    def test_again_after_a_stop_works(self, redis, namespace, publisher):
        one = subscriber(redis, namespace, FakeSite())
        for count in (2, 3):
            with one:
                assert publisher.publish(months(count)).wait(60).done == count

    def test_without_redis_raises_redis_unreachable(self, namespace):
        import redis as redis_py

        client = redis_py.Redis(port=1, protocol=3, decode_responses=True)
        with pytest.raises(RedisUnreachable, match="could not start"):
            Subscriber(client, FakeSite(), namespace=namespace).start()

    def test_with_an_invalid_argument_names_it(self, redis):
        with pytest.raises(ConfigError, match="^delivery: "):
            Subscriber(redis, FakeSite(), delivery="mail")  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="^threads: must be at least 1"):
            Subscriber(redis, FakeSite(), threads=0)

    def test_with_a_name_in_use_is_refused(self, redis, namespace):
        with subscriber(redis, namespace, FakeSite(), name="anna", **LIVELY):
            with pytest.raises(ConfigError, match="'anna'"):
                subscriber(redis, namespace, FakeSite(), name="anna", heartbeat=0.2).start()


class TestStopping:
    def test_finishes_the_jobs_in_hand_and_hands_back_the_rest(self, redis, namespace, keys, publisher):
        site = GatedSite()
        one = subscriber(redis, namespace, site, threads=2, prefetch=3, delivery="stream").start()
        batch = publisher.publish(months(10))
        for _ in range(2):
            assert site.inside.acquire(timeout=60)
        one.request_stop()
        site.gate.set()
        one.stop()
        assert not one.running
        done = batch.status().done
        assert 2 <= done < 10
        assert redis.xlen(keys.jobs) == 10 - done
        assert redis.xpending(keys.jobs, keys.group)["pending"] == 0
        with subscriber(redis, namespace, FakeSite()):
            assert batch.wait(60).done == 10
        assert max(site.asked.values()) == 1

    def test_does_not_wait_for_a_stuck_fetch_beyond_the_deadline(self, redis, namespace, keys, publisher):
        site = GatedSite()
        one = subscriber(redis, namespace, site, threads=1, prefetch=0).start()
        batch = publisher.publish(months(1))
        assert site.inside.acquire(timeout=60)
        one.stop(deadline=0.1)
        assert redis.xlen(keys.jobs) == 1
        with subscriber(redis, namespace, FakeSite()):
            assert batch.wait(60).done == 1
        site.gate.set()

    def test_twice_is_the_same_as_once(self, redis, namespace):
        one = subscriber(redis, namespace, FakeSite()).start()
        one.stop()
        one.stop()
        assert not one.running

    def test_before_starting_does_nothing(self, redis, namespace):
        subscriber(redis, namespace, FakeSite()).stop()

    def test_leaves_no_connection(self, redis, namespace):
        before = connections(redis)
        with subscriber(redis, namespace, FakeSite()):
            assert connections(redis) - before
        assert wait_until(lambda: not connections(redis) - before)

    def test_republishes_channel_messages_that_it_has_not_begun(self, redis, namespace):
        site = GatedSite()
        first = subscriber(redis, namespace, site, threads=1, prefetch=2, delivery="pubsub").start()
        batch = Publisher(redis, namespace=namespace, delivery="pubsub").publish(months(3))
        assert site.inside.acquire(timeout=60)
        with subscriber(redis, namespace, FakeSite(), delivery="pubsub"):
            site.gate.set()
            first.stop()
            assert batch.wait(60).done == 3

    def test_is_automatic_when_the_process_ends(self, redis, redis_url, namespace, keys):
        code = textwrap.dedent(f"""
            import scraperkit as sk
            class Site:
                def fetch(self, request): return []
            redis = sk.connect({redis_url!r})
            sk.Subscriber(redis, Site(), namespace={namespace!r}).start()
        """)
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert not redis.exists(keys.workers)


class TestAnErrorOfTheEngine:
    @pytest.fixture
    def broken(self, redis, namespace, keys, publisher):
        """Yield a subscriber with a job in hand, whose engine meets a key of an unexpected type."""
        site = GatedSite()
        one = subscriber(redis, namespace, site, stop_deadline=0.5).start()
        self.batch = publisher.publish(months(1))
        assert site.inside.acquire(timeout=60)
        redis.set(keys.retries, "no sorted set")
        yield one
        site.gate.set()

    def test_is_raised_by_waiting_and_by_stopping(self, broken):
        assert wait_until(lambda: broken.error is not None)
        with pytest.raises(WorkerError, match="WRONGTYPE"):
            self.batch.wait(60)
        with pytest.raises(WorkerError, match="WRONGTYPE") as caught:
            broken.stop()
        assert isinstance(caught.value.__cause__, ResponseError)
        broken.stop()

    def test_is_raised_by_leaving_the_block(self, broken):
        with pytest.raises(WorkerError, match="WRONGTYPE"), broken:
            assert wait_until(lambda: broken.error is not None)

    def test_is_added_to_an_error_of_the_block(self, broken):
        with pytest.raises(ZeroDivisionError) as caught, broken:
            assert wait_until(lambda: broken.error is not None)
            raise ZeroDivisionError
        assert "WRONGTYPE" in caught.value.__notes__[0]

    def test_hands_back_the_jobs_in_hand(self, broken, redis, keys, namespace):
        assert wait_until(lambda: broken.error is not None)
        with contextlib.suppress(WorkerError):
            broken.stop()
        redis.delete(keys.retries)
        with subscriber(redis, namespace, FakeSite()):
            assert self.batch.wait(60).done == 1


class TestANameThatWasTaken:
    def test_during_a_silence_stays_with_the_newcomer(self, redis, namespace, keys, publisher):
        with subscriber(redis, namespace, FakeSite(), heartbeat=0.1) as one:
            name = one.name
            newcomer = json.loads(redis.get(keys.worker(name))) | {"instance": f"{name}/newcomer"}
            redis.set(keys.worker(name), json.dumps(newcomer))
            assert wait_until(lambda: one.name not in ("", name))
            assert publisher.publish(months(3)).wait(60).done == 3
        assert json.loads(redis.get(keys.worker(name)))["instance"] == f"{name}/newcomer"


class TestItsViews:
    def test_text_and_html_show_the_same(self, redis, namespace, publisher):
        with subscriber(redis, namespace, FakeSite(), name="anna") as one:
            publisher.publish(months(2)).wait(60)
            assert repr(one) == "<Subscriber anna is listening: 2 done>"
            html = one._repr_html_()
            assert "anna is listening" in html
        assert repr(one) == "<Subscriber stopped: 2 done>"

    def test_show_no_password(self, redis_url, namespace):
        password = redis_url.split(":")[2].split("@")[0]
        with connect(redis_url) as client, subscriber(client, namespace, FakeSite()) as one:
            assert password not in repr(one) + one._repr_html_() + repr(one.__dict__) + repr(one.worker.__dict__)


def test_batches_on_the_channel_that_overlap_are_both_done(redis, namespace):
    """The same job in another batch is claimed again, even if it was just done."""
    site = FakeSite()
    publisher = Publisher(redis, namespace=namespace, delivery="pubsub")
    with subscriber(redis, namespace, site), subscriber(redis, namespace, site):
        assert str(publisher.publish(months(2)).wait(60)) == "2 published, 2 done"
        assert str(publisher.publish(months(3)).wait(60)) == "3 published, 3 done"
    assert site.asked == {"01/2021": 2, "02/2021": 2, "03/2021": 1}


def test_jobs_done_for_another_batch_but_lost_for_this_one_count_as_lost(redis, namespace, monkeypatch):
    monkeypatch.setattr("scraperkit.engine.ledger.GRACE", 0.0)
    publisher = Publisher(redis, namespace=namespace, delivery="pubsub")
    with subscriber(redis, namespace, FakeSite()):
        publisher.publish(months(2)).wait(60)
    with redis.pubsub() as deaf:
        deaf.subscribe(Keys(namespace).channel)
        assert deaf.get_message(timeout=60)["type"] == "subscribe"
        batch = publisher.publish(months(3))
    assert str(batch.wait(60)) == "3 published, 0 done, 3 lost"


def test_the_log_counts_each_settled_job_once(redis, namespace, caplog):
    caplog.set_level("INFO", logger="scraperkit.engine.registry")
    engine = subscriber(redis, namespace, FakeSite(), name="anna")
    for year in (2021, 2022):
        with engine:
            Publisher(redis, namespace=namespace).publish(months(3, year=year)).wait(60)
    told = [record.getMessage() for record in caplog.records if record.getMessage().startswith("anna: ")]
    assert sum(int(text.removeprefix("anna: ").removesuffix(" done")) for text in told) == 6

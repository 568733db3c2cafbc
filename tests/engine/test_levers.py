"""What a lesson requests of a worker: pause, resume, and a simulated crash."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading

import pytest
from support.fakes import FakeSite, GatedSite, months
from support.servers import connections
from support.waiting import wait_until
from support.workers import subscriber

from scraperkit.config import Settings
from scraperkit.engine.worker import Worker
from scraperkit.health import Health
from scraperkit.publisher import Publisher

HASTY = {"lease": 0.4, "heartbeat": 0.1}


def publish(redis, namespace, count, delivery="stream", year=2021):
    return Publisher(redis, namespace=namespace, delivery=delivery).publish(months(count, year=year))


class TestAPause:
    @pytest.mark.parametrize("delivery", ["both", "stream", "pubsub"])
    def test_receives_nothing_from_the_moment_it_returns(self, redis, namespace, delivery):
        site = FakeSite()
        with subscriber(redis, namespace, site, threads=2, delivery=delivery) as one:
            for year in range(2019, 2024):
                one.pause()
                batch = publish(redis, namespace, 2, "pubsub" if delivery == "pubsub" else "stream", year)
                assert repr(one).startswith(f"<Subscriber {one.name} is paused")
                assert (one.paused, one.running, one.worker.held) == (True, True, [])
                one.resume()
                assert batch.wait(60).done == 2
                assert not one.paused

    def test_leaves_channel_messages_to_others(self, redis, namespace):
        resting = FakeSite()
        with subscriber(redis, namespace, resting) as one, subscriber(redis, namespace, FakeSite()):
            one.pause()
            assert publish(redis, namespace, 10, "pubsub").wait(60).done == 10
        assert not resting.asked

    def test_finishes_running_jobs_and_keeps_the_rest(self, redis, namespace, keys):
        site = GatedSite()
        leased = {"lease": 4.0, "heartbeat": 20.0}
        with subscriber(redis, namespace, site, threads=1, prefetch=0, delivery="both", **leased) as one:
            spoken = publish(redis, namespace, 1, "pubsub", 2022)
            assert site.inside.acquire(timeout=60)
            batch = publish(redis, namespace, 1)
            assert wait_until(lambda: len(one.worker.held) == 2)
            one.pause()
            site.gate.set()
            assert wait_until(lambda: batch.status().done + spoken.status().done == 1)
            with subscriber(redis, namespace, FakeSite(), **leased) as other:
                lease_is_over = Health.read(redis, namespace=namespace).last_heartbeat + 1.1 * leased["lease"]
                assert wait_until(lambda: Health.read(redis, namespace=namespace).last_heartbeat > lease_is_over)
                assert not other.outcomes
                assert len(one.worker.held) == 1
            one.resume()
            assert (batch.wait(60).done, spoken.wait(60).done) == (1, 1)

    def test_hands_back_the_jobs_it_kept_when_the_worker_stops(self, redis, namespace):
        site = GatedSite()
        one = subscriber(redis, namespace, site, threads=1, delivery="both").start()
        first, second = publish(redis, namespace, 1), publish(redis, namespace, 2, year=2022)
        assert site.inside.acquire(timeout=60)
        one.pause()
        site.gate.set()
        one.stop()
        assert not one.paused
        with subscriber(redis, namespace, FakeSite()):
            assert (first.wait(60).done, second.wait(60).done) == (1, 2)

    def test_requested_before_the_start_holds_after_it(self, redis, namespace):
        one = subscriber(redis, namespace, FakeSite())
        one.pause()
        with one:
            batch = publish(redis, namespace, 1)
            assert one.paused
            one.resume()
            assert batch.wait(60).done == 1

    def test_requested_before_the_start_of_a_worker_is_confirmed(self, redis, namespace):
        async def lesson():
            worker = Worker(redis, FakeSite(), namespace=namespace)
            worker.pause()
            await worker.start()
            assert await asyncio.to_thread(worker.wait_until_paused, 60)
            await worker.close()

        asyncio.run(lesson())

    def test_that_ended_before_it_held_does_not_confirm_the_next(self, redis, namespace):
        async def lesson():
            worker = Worker(redis, FakeSite(), namespace=namespace)
            await worker.start()
            worker.pause()
            await asyncio.sleep(0)  # the loop has noticed, and is about to interrupt the reads
            worker.resume()
            for _ in range(3):
                await asyncio.sleep(0)
            assert not worker.wait_until_paused(0)
            await worker.close()

        asyncio.run(lesson())

    @pytest.mark.parametrize("end", ["stop", "crash"])
    def test_requested_after_the_end_does_not_affect_the_next_life(self, redis, namespace, end):
        one = subscriber(redis, namespace, FakeSite(), **HASTY).start()
        if end == "stop":
            one.stop()
        else:
            one.crash_next()
            publish(redis, namespace, 1, year=2020)
            assert wait_until(lambda: not one.worker.name and one.crashed)
        one.pause()
        one.crash_next()
        assert not one.paused
        with one:
            assert publish(redis, namespace, 2).wait(60).done == 2
            assert not one.crashed

    def test_a_restarted_worker_waits_until_its_dead_predecessor_is_gone(self, redis, namespace, monkeypatch):
        one = subscriber(redis, namespace, FakeSite(), **HASTY).start()
        gone, sign_off = threading.Event(), one.worker._sign_off

        async def slowly():
            await asyncio.to_thread(gone.wait, 300)
            await sign_off()

        monkeypatch.setattr(one.worker, "_sign_off", slowly)
        one.crash_next()
        batch = publish(redis, namespace, 1)
        assert wait_until(lambda: one.crashed)
        again = threading.Thread(target=one.start)
        again.start()
        again.join(1)
        gone.set()
        again.join(60)
        with one:
            assert batch.wait(60).done == 1

    def test_of_a_stepped_worker(self, redis, namespace):
        async def lesson():
            worker = Worker(redis, FakeSite(), threads=2, namespace=namespace)
            batch = publish(redis, namespace, 2)
            worker.pause()
            assert not await worker.step()
            assert worker.paused
            worker.resume()
            assert await worker.step() == {"done": 2}
            await worker.close()
            assert batch.status().done == 2

        asyncio.run(lesson())


class TestACrash:
    def test_hands_nothing_back_and_reports_nothing(self, redis, namespace, keys):
        before = connections(redis)
        one = subscriber(redis, namespace, FakeSite(), threads=2, name="anna", **HASTY).start()
        assert publish(redis, namespace, 1).wait(60).done == 1
        one.crash_next()
        assert one.running
        batch = publish(redis, namespace, 3)
        assert wait_until(lambda: not one.running)
        assert repr(one) == "<Subscriber anna crashed on request: 1 done>"
        assert wait_until(lambda: not connections(redis) - before)
        assert redis.xpending(keys.jobs, keys.group)["pending"] > 0
        assert batch.status().done == 0
        assert wait_until(lambda: Health.read(redis, namespace=namespace).stale == ("anna",))
        with subscriber(redis, namespace, FakeSite(), name="bert", **HASTY):
            assert batch.wait(60).done == 3
        assert set(batch.events()["worker"].str.split("/").str[0]) == {"bert"}
        one.stop()

    def test_comes_after_the_page_was_fetched(self, redis, namespace):
        site = FakeSite()
        one = subscriber(redis, namespace, site, threads=1, **HASTY).start()
        one.crash_next()
        batch = publish(redis, namespace, 1)
        assert wait_until(lambda: one.crashed)
        with subscriber(redis, namespace, site, **HASTY):
            assert batch.wait(60).done == 1
        assert site.asked == {"01/2021": 2}
        one.stop()

    def test_leaves_running_jobs_pending(self, redis, namespace, keys):
        site = GatedSite()
        one = subscriber(redis, namespace, site, threads=2, prefetch=0, delivery="stream").start()
        one.crash_next()
        publish(redis, namespace, 2)
        assert site.inside.acquire(timeout=60)
        assert site.inside.acquire(timeout=60)
        site.gate.set()
        assert wait_until(lambda: not one.running)
        assert redis.xpending(keys.jobs, keys.group)["pending"] == 2
        one.stop()

    def test_raises_no_error_at_the_end_of_a_with_block(self, redis, namespace):
        before = threading.active_count()
        with subscriber(redis, namespace, FakeSite()) as one:
            one.crash_next()
            publish(redis, namespace, 1)
            assert wait_until(lambda: one.crashed)
        assert threading.active_count() == before
        assert not one.running

    def test_loses_its_pubsub_messages_and_the_batch_counts_them(self, redis, namespace):
        with subscriber(redis, namespace, FakeSite(), name="anna", **HASTY) as one:
            one.crash_next()
            status = publish(redis, namespace, 1, "pubsub").wait(60)
        assert (status.done, status.lost) == (0, 1)

    def test_names_the_lost_month(self, redis, namespace):
        with subscriber(redis, namespace, FakeSite(), name="anna", lease=5, heartbeat=0.1) as one:
            one.crash_next()
            batch = publish(redis, namespace, 1, "pubsub")
            batch.wait(60)
        failure = batch.failures().iloc[0]
        assert (failure["month"], failure["state"]) == ("01/2021", "lost")
        assert "anna" in failure["error"]

    def test_happens_only_once(self, redis, namespace):
        one = subscriber(redis, namespace, FakeSite(), **HASTY).start()
        one.crash_next()
        batch = publish(redis, namespace, 1)
        assert wait_until(lambda: one.crashed)
        with one:
            assert batch.wait(60).done == 1
            assert one.running
            assert not one.crashed

    def test_of_a_stepped_worker(self, redis, namespace):
        settings = Settings.load(namespace=namespace, **HASTY)

        async def lesson():
            worker = Worker(redis, FakeSite(), settings=settings, name="anna")
            assert not await worker.step()
            worker.crash_next()
            batch = publish(redis, namespace, 1)
            assert not await worker.step()
            assert worker.crashed_as == "anna"
            with subscriber(redis, namespace, FakeSite(), **HASTY):
                assert batch.wait(60).done == 1

        asyncio.run(lesson())


def test_nothing_is_printed_from_a_workers_thread(redis_url, namespace):
    """A notebook would show it below any cell; ``wait`` reports failures in the cell that calls it."""
    code = textwrap.dedent(f"""
        import scraperkit as sk
        class Site:
            def fetch(self, request): raise OSError("reset")
        redis = sk.connect({redis_url!r})
        settings = sk.Settings.load(namespace={namespace!r}, max_attempts=1)
        with sk.Subscriber(redis, Site(), settings=settings):
            months = sk.Fund("18993924000100", "132922").months("2021-01", "2021-02")
            batch = sk.Publisher(redis, namespace={namespace!r}).publish(months)
            print(batch.wait(60, progress=False))
    """)
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.stdout, ended.stderr) == ("2 published, 0 done, 2 failed\n", "")

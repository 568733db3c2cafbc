"""Faults between a worker and Redis, one at a time, and their required outcomes."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from chaos.processes import HANDS, WORK
from chaos.proxy import Proxy
from support.fakes import FUND, FakeSite, FlakySite, GatedSite, SteadySite
from support.waiting import wait_until, written_down
from support.workers import QUICK

from scraperkit.cli.exits import UNAVAILABLE
from scraperkit.config import Settings
from scraperkit.connection import connect, sibling
from scraperkit.errors import ScraperKitWarning
from scraperkit.keys import Keys
from scraperkit.models import Fund, ScrapeRequest
from scraperkit.publisher import Publisher
from scraperkit.replica import Replica
from scraperkit.sources import CvmPages
from scraperkit.subscriber import Subscriber

AN_HOUR = 3600.0


def months(count: int, *, year: int = 2021) -> list[ScrapeRequest]:
    """Requests for the first `count` months from January of `year` on."""
    last = year * 12 + count - 1
    return Fund(FUND.cnpj, FUND.pk).months(f"{year}-01", f"{last // 12}-{last % 12 + 1:02d}")


def pending(redis, keys: Keys, consumer: str = "") -> int:
    """Return how many entries are in hand, of one consumer or of all."""
    found = {entry["name"]: entry["pending"] for entry in redis.xinfo_consumers(keys.jobs, keys.group)}
    return found.get(consumer, 0) if consumer else sum(found.values())


def leased_at(redis, keys: Keys) -> float:
    """Return when the lease of the only pending entry was last renewed, in seconds by the clock of Redis."""
    with redis.pipeline() as together:
        together.time()
        together.xpending_range(keys.jobs, keys.group, "-", "+", 1)
        (seconds, microseconds), (entry,) = together.execute()
    return seconds + microseconds / 1e6 - entry["time_since_delivered"] / 1000


def quick(publisher: Publisher) -> None:
    """Let workers measure that fetching is quick, so that they prefetch."""
    assert publisher.publish(months(80, year=2000)).wait(60).done == 80


def outcomes(batch) -> Counter[str]:
    return Counter(batch.events()["outcome"])


def asked(folder: Path) -> Counter[str]:
    """Return how often the process of a folder was asked for each month."""
    file = folder / "asked"
    return Counter(line.split()[0] for line in file.read_text().splitlines()) if file.exists() else Counter()


class TestAWorkerThatDies:
    def test_during_a_job_on_an_idle_stream_leaves_it_to_another(self, redis, keys, publisher, process, subscriber):
        with Replica.start(latency=AN_HOUR) as site, CvmPages(site.url) as source:
            dying = process((*WORK, "--url", site.url)).ready()
            batch = publisher.publish(months(1, year=2022))
            assert wait_until(lambda: pending(redis, keys) == 1)
            # A lease too long for a starved worker to lose: a takeover while the site is slow would hang.
            other = subscriber(source, lease=5.0)
            dying.kill()
            site.latency = 0.0
            # Nothing more is published: only a timer can show the other that there is work.
            assert batch.wait(60).done == 1
            assert batch.events()["worker"].str.startswith(f"{other.name}/").all()

    @pytest.mark.parametrize("kind", ["replace_months", "commit"])
    def test_just_before_it_stores_or_acknowledges_loses_nothing(
        self, redis, keys, publisher, proxy, process, subscriber, tmp_path, kind
    ):
        dying = process(HANDS, str(tmp_path), url=proxy.url).ready()
        fault = proxy.before(kind, dying.kill)
        batch = publisher.publish(months(1))
        assert fault.struck()
        subscriber(FakeSite())
        assert batch.wait(60).done == 1
        assert outcomes(batch) == {"done": 1}
        assert redis.execute_command("TS.GET", keys.series(FUND.cnpj, "quota"))[1] == 2021.01

    @pytest.mark.parametrize(
        ("lease", "words"),
        [
            (0.3, ()),
            (60.0, ("--name", "anna")),
        ],
        ids=["followed by another", "come back by its name"],
    )
    def test_of_the_same_message_each_time_makes_it_a_dead_letter(
        self, redis, keys, publisher, process, tmp_path, lease, words
    ):
        (tmp_path / "deadly").write_text("01/2021")
        batch = publisher.publish(months(1))
        lives = process(HANDS, str(tmp_path), "--lives", "5", *words, lease=lease, heartbeat=0.1, max_attempts=3)
        assert wait_until(lambda: batch.status().finished or lives.code is not None), batch
        assert (batch.status().failed, asked(tmp_path)) == (1, {"01/2021": 3}), lives.output
        ((_, letter),) = redis.xrange(keys.dead)
        assert letter["error"].startswith("WorkerDied")
        assert lives.stop() == 0

    def test_of_the_same_message_each_time_fails_no_other_message(self, publisher, process, tmp_path):
        (tmp_path / "deadly").write_text("02/2021")
        batch = publisher.publish(months(3))
        lives = process(HANDS, str(tmp_path), "--lives", "9", lease=0.3, heartbeat=0.1, max_attempts=3)
        assert wait_until(lambda: batch.status().finished or lives.code is not None), batch
        assert list(batch.failures()["month"]) == ["02/2021"], batch.jobs()
        assert batch.status().done == 2

    def test_by_sigterm_finishes_running_jobs_and_hands_back_the_rest(self, redis, keys, publisher, process, tmp_path):
        worker = process(HANDS, str(tmp_path), prefetch=1, lease=60, stop_deadline=60).ready()
        quick(publisher)
        (tmp_path / "shut").touch()
        batch = publisher.publish(months(10))
        assert wait_until(lambda: pending(redis, keys) == 3 and asked(tmp_path).total() == 82)
        worker.ask_to_stop()
        assert wait_until(lambda: pending(redis, keys) == 2)
        assert redis.xlen(keys.jobs) == 10
        assert worker.code is None
        (tmp_path / "shut").unlink()
        assert worker.wait(60) == 0
        assert (batch.status().done, redis.xlen(keys.jobs), asked(tmp_path).total()) == (2, 8, 82)
        assert redis.xinfo_consumers(keys.jobs, keys.group) == []
        assert not redis.exists(keys.workers)

    def test_during_a_job_after_many_short_outages_leaves_it_to_another(
        self, redis, keys, publisher, proxy, process, subscriber, tmp_path
    ):
        (tmp_path / "shut").touch()
        batch = publisher.publish(months(1))
        dying = process(HANDS, str(tmp_path), url=proxy.url, lease=60, max_attempts=3).ready()
        assert wait_until(lambda: asked(tmp_path).total() == 1)
        for _ in range(4):
            proxy.cut_all()
            assert proxy.before("XREADGROUP", lambda: None).struck()
        dying.kill()
        subscriber(FakeSite(), max_attempts=3)
        # The message has killed one worker, not four.
        assert batch.wait(60).done == 1, batch.failures()["error"].tolist()


class TestARedisThatDies:
    def test_while_a_worker_starts_is_reported_in_one_sentence(self, proxy, process):
        proxy.lose_request("XGROUP")
        worker = process(WORK, url=proxy.url)
        assert worker.wait() == UNAVAILABLE
        assert worker.output.startswith("scraperkit: ")
        assert len(worker.output.splitlines()) == 1

    def test_for_seconds_loses_no_published_or_acknowledged_message(self, own_server, namespace, keys):
        site = GatedSite()
        settings = Settings.load(namespace=namespace, **{**QUICK, "lease": 60.0, "heartbeat": 0.3})
        with connect(own_server.url) as redis, contextlib.ExitStack() as stack:
            publisher = Publisher(redis, namespace=namespace)
            subscribers = [stack.enter_context(Subscriber(redis, site, settings=settings)) for _ in range(2)]
            stack.callback(site.gate.set)
            site.gate.set()
            before = publisher.publish(months(10))
            assert before.wait(60).done == 10
            site.gate.clear()
            during = publisher.publish(months(20, year=2018))
            assert wait_until(lambda: pending(redis, keys) >= 4)
            written_down(redis)
            own_server.kill()
            assert not own_server.running
            site.gate.set()
            # This tests time itself: for several heartbeats and many retries, Redis does not respond.
            time.sleep(2.5)
            assert wait_until(lambda: site.asked.total() >= 14)
            own_server.start()
            after = publisher.publish(months(30, year=2013))
            assert (during.wait(60).done, after.wait(60).done, before.status().done) == (20, 30, 10)
            assert (redis.xlen(keys.jobs), pending(redis, keys)) == (0, 0)
            assert all(one.running for one in subscribers)
        assert set(site.asked.values()) == {1}

    def test_does_not_end_the_wait_for_a_batch(self, own_server, namespace, monkeypatch):
        site, shown, found = GatedSite(), threading.Event(), []
        settings = Settings.load(namespace=namespace, **QUICK)
        with connect(own_server.url) as redis, Subscriber(redis, site, settings=settings):
            batch = Publisher(redis, namespace=namespace).publish(FUND.months("2021-01", "2021-03"))
            monkeypatch.setattr(batch, "_show", lambda *_: shown.set())
            waiting = threading.Thread(target=lambda: found.append(batch.wait(60)))
            waiting.start()
            try:
                assert site.inside.acquire(timeout=60)
                assert shown.wait(60)
                written_down(redis)
                own_server.kill()
                waiting.join(1)
                assert waiting.is_alive()
            finally:
                own_server.start()
                site.gate.set()
                waiting.join(60)
        assert str(found[0]) == "3 published, 3 done"

    def test_leaves_a_subscriber_that_reconnects_and_a_batch_that_counts_missed_messages(
        self, own_server, namespace, keys
    ):
        settings = Settings.load(namespace=namespace, **QUICK)
        with Proxy(own_server.url) as proxy, connect(own_server.url) as redis, connect(proxy.url) as behind:
            channel = Publisher(redis, namespace=namespace, delivery="pubsub")
            with Subscriber(behind, FakeSite(), settings=settings, delivery="pubsub"):
                assert channel.publish(months(2)).wait(60).done == 2
                written_down(redis)
                own_server.kill()
                proxy.shut()
                own_server.start()
                with pytest.warns(ScraperKitWarning, match="no subscriber on"):
                    missed = channel.publish(months(3, year=2020))
                proxy.open()
                assert wait_until(lambda: redis.pubsub_numsub(keys.channel)[0][1] == 1)
                assert channel.publish(months(4, year=2019)).wait(60).done == 4
            assert str(missed.status()) == "3 published, 0 done, 3 lost"
            assert set(missed.failures()["month"]) == {"01/2020", "02/2020", "03/2020"}


class TestARedisThatIsFull:
    def test_makes_workers_wait_and_costs_no_attempt(self, own_server, namespace):
        with connect(own_server.url) as redis:
            site = GatedSite()
            one = Subscriber(redis, site, settings=Settings.load(namespace=namespace, **QUICK))
            with one:
                batch = Publisher(redis, namespace=namespace).publish(months(3))
                assert site.inside.acquire(timeout=60)
                redis.config_set("maxmemory", 1)
                redis.config_set("maxmemory-policy", "noeviction")
                site.gate.set()
                assert wait_until(lambda: one.worker.outages > 0, 60)
                redis.config_set("maxmemory", 0)
                assert batch.wait(60).done == 3
            assert set(batch.events()["attempt"]) == {1}


class TestALostReply:
    """A client cannot tell whether the reply or the request was lost, so both are tested."""

    def test_of_xreadgroup_is_recovered_from_the_workers_pending_entries(
        self, subscriber, proxy, publisher, keys, redis
    ):
        site = FakeSite()
        subscriber(site, lease=AN_HOUR)
        fault = proxy.lose_reply("XREADGROUP")
        batch = publisher.publish(months(3))
        assert fault.struck()
        assert batch.wait(60).done == 3
        assert set(site.asked.values()) == {1}
        assert outcomes(batch) == {"done": 3}

    def test_of_publish_makes_no_second_entry(self, proxy, namespace, keys, redis):
        with connect(proxy.url) as behind:
            publisher = Publisher(behind, namespace=namespace)
            publisher.publish(months(1, year=2020))
            fault = proxy.lose_reply("publish")
            batch = publisher.publish(months(3))
        assert fault.struck()
        assert redis.xlen(keys.jobs) == 4
        assert str(batch.status()) == "3 published, 0 done, 3 pending"

    def test_of_publish_by_pubsub_delivers_and_counts_once(self, proxy, namespace, subscriber):
        site = FakeSite()
        subscriber(site, delivery="pubsub")
        with connect(proxy.url) as behind:
            channel = Publisher(behind, namespace=namespace, delivery="pubsub")
            channel.publish(months(1, year=2020)).wait(60)
            fault = proxy.lose_reply("publish")
            batch = channel.publish(months(3))
            assert fault.struck()
            assert str(batch.wait(60)) == "3 published, 3 done"
        assert set(site.asked.values()) == {1}

    def test_of_commit_counts_once(self, subscriber, proxy, publisher):
        subscriber(FakeSite())
        publisher.publish(months(1, year=2020)).wait(60)
        fault = proxy.lose_reply("commit")
        batch = publisher.publish(months(3))
        assert str(batch.wait(60)) == "3 published, 3 done"
        assert fault.struck()
        assert outcomes(batch)["done"] == 3

    def test_of_commit_makes_one_dead_letter_and_one_retry(self, subscriber, proxy, publisher, redis, keys):
        def fails(_: ScrapeRequest):
            raise OSError("reset")

        site = FakeSite(fails)
        subscriber(site, max_attempts=2)
        publisher.publish(months(1, year=2020)).wait(60)
        for attempt in (1, 2):
            fault = proxy.lose_reply("commit")
            if attempt == 1:
                batch = publisher.publish(months(1))
            assert fault.struck()
        assert str(batch.wait(60)) == "1 published, 0 done, 1 failed"
        assert site.asked == {"01/2020": 2, "01/2021": 2}
        assert redis.xlen(keys.dead) == 2

    @pytest.mark.parametrize("what", ["reply", "request"])
    def test_of_a_months_replacement_stores_once(self, subscriber, proxy, publisher, redis, keys, what):
        subscriber(FakeSite())
        publisher.publish(months(1, year=2020)).wait(60)
        fault = proxy.lose_reply("replace_months") if what == "reply" else proxy.lose_request("replace_months")
        batch = publisher.publish(months(3))
        assert str(batch.wait(60)) == "3 published, 3 done"
        assert fault.struck()
        stored = redis.execute_command("TS.RANGE", keys.series(FUND.cnpj, "quota"), "-", "+")
        assert [value for _, value in stored] == [2020.01, 2021.01, 2021.02, 2021.03]

    def test_of_a_months_replacement_still_creates_the_card_of_a_fund(self, subscriber, proxy, redis, keys):
        subscriber(FakeSite())
        fault = proxy.lose_request("replace_months")
        redis.xadd(keys.jobs, {"message": months(1)[0].to_json()})
        assert wait_until(lambda: redis.xlen(keys.jobs) == 0)
        assert fault.struck()
        assert redis.hgetall(keys.fund(FUND.cnpj)) == {"cnpj": FUND.cnpj, "pk": FUND.pk}

    def test_of_any_command_of_the_engine_does_no_harm(self, subscriber, proxy, publisher, redis, keys):
        """Each round has one retry and one renewal, so that every routine command occurs."""
        engine = ["XREADGROUP", "XPENDING", "XGROUP", "CLIENT", "replace_months", "commit", "renew", "feed_due"]
        rest = ["GET", "SET", "ZADD", "ZRANGEBYSCORE", "TIME"]
        site = FlakySite()
        subscriber(site, lease=2.0, heartbeat=0.1)
        for number, kind in enumerate(engine + rest):
            # Those without a reply worth losing: the group is there already, nothing lies idle, and no worker is dead.
            for arm in (proxy.lose_request, proxy.lose_reply)[
                : 1 if kind in ("XGROUP", "XPENDING", "ZRANGEBYSCORE") else 2
            ]:
                fault = arm(kind)
                # Only jobs in hand are renewed, so one stays in hand until the fault has struck.
                site.hold = fault.struck if kind == "renew" else lambda: True
                if kind in ("XGROUP", "CLIENT"):  # only in a new connection's beginnings
                    proxy.cut_all()
                batch = publisher.publish(months(2, year=1990 + number), force=True)
                assert str(batch.wait(60)) == "2 published, 2 done", (fault, batch)
                assert fault.struck(), fault
                assert outcomes(batch)["done"] == 2, (fault, batch.events())
        assert (redis.xlen(keys.jobs), pending(redis, keys)) == (0, 0)
        assert not redis.exists(keys.retries, keys.history, keys.dead)

    @pytest.mark.parametrize("what", ["reply", "request"])
    def test_of_a_claim_loses_no_channel_message(self, subscriber, proxy, channel, what):
        site = FakeSite()
        subscriber(site, delivery="pubsub")
        channel.publish(months(1, year=2020)).wait(60)
        fault = proxy.lose_reply("claim") if what == "reply" else proxy.lose_request("claim")
        batch = channel.publish(months(1))
        assert str(batch.wait(60)) == "1 published, 1 done"
        assert fault.struck()
        assert site.asked["01/2021"] == 1

    @pytest.mark.parametrize("what", ["reply", "request"])
    def test_of_handing_back_neither_loses_nor_duplicates_a_message(
        self, subscriber, proxy, publisher, redis, keys, what
    ):
        site = SteadySite()
        site.gate.set()
        one = subscriber(site, prefetch=1, delivery="stream")
        quick(publisher)
        site.gate.clear()
        publisher.publish(months(5))
        assert wait_until(lambda: pending(redis, keys) == 3 and len(one.worker.busy) == 2)
        fault = proxy.lose_reply("hand_back") if what == "reply" else proxy.lose_request("hand_back")
        one.stop(deadline=1.0)
        site.gate.set()
        assert fault.struck()
        assert (redis.xlen(keys.jobs), pending(redis, keys)) == (5, 0)


class TestAGroupThatVanishes:
    def test_while_jobs_are_in_hand_is_recreated_and_each_job_counts_once(self, subscriber, publisher, redis, keys):
        site = GatedSite()
        subscriber(site, prefetch=1, delivery="stream")
        subscriber(site, prefetch=1, delivery="stream")
        batch = publisher.publish(months(12))
        assert wait_until(lambda: pending(redis, keys) >= 4)
        redis.xgroup_destroy(keys.jobs, keys.group)
        site.gate.set()
        assert str(batch.wait(60)) == "12 published, 12 done"
        assert outcomes(batch)["done"] == 12
        assert wait_until(lambda: (redis.xlen(keys.jobs), pending(redis, keys)) == (0, 0))

    @pytest.mark.parametrize(
        "kind",
        [
            *("XREADGROUP", "XPENDING", "XCLAIM", "commit", "renew"),
        ],
    )
    def test_at_any_moment_of_a_takeover_does_not_end_a_worker(self, subscriber, proxy, publisher, redis, keys, kind):
        batch = publisher.publish(months(2))
        redis.xreadgroup(keys.group, "ghost", {keys.jobs: ">"}, count=1)
        site = GatedSite()
        fault = proxy.before(kind, lambda: redis.xgroup_destroy(keys.jobs, keys.group))
        one = subscriber(site, delivery="stream", lease=0.3)
        if kind != "commit":
            assert fault.struck()
        site.gate.set()
        assert wait_until(lambda: batch.status().finished or not one.running)
        if not one.running:
            one.stop()
        assert fault.struck()
        assert str(batch.status()) == "2 published, 2 done"

    def test_with_its_stream_is_recreated_for_new_messages(self, subscriber, publisher, redis, keys):
        subscriber(FakeSite())
        assert publisher.publish(months(2)).wait(60).done == 2
        for number in range(3):
            redis.delete(keys.jobs)
            assert str(publisher.publish(months(2, year=2010 + number)).wait(60)) == "2 published, 2 done"

    def test_with_its_stream_does_not_lose_jobs_in_hand(self, subscriber, publisher, redis, keys):
        site = GatedSite()
        subscriber(site, delivery="stream")
        batch = publisher.publish(months(2))
        assert wait_until(lambda: pending(redis, keys) == 2)
        redis.delete(keys.jobs)
        site.gate.set()
        assert str(batch.wait(60)) == "2 published, 2 done"


class TestALease:
    def test_of_a_long_job_is_renewed(self, subscriber, publisher, redis, keys):
        site = GatedSite()
        for _ in range(2):
            subscriber(site, delivery="stream", lease=4.0)
        batch = publisher.publish(months(1))
        assert site.inside.acquire(timeout=60)
        began = leased_at(redis, keys)
        # Time itself is what is tested here; the second worker looks for idle entries four times a lease.
        assert wait_until(lambda: leased_at(redis, keys) > began + 4.5)
        assert not site.inside.acquire(blocking=False)
        site.gate.set()
        assert batch.wait(60).done == 1
        assert outcomes(batch) == {"done": 1}

    def test_of_a_frozen_worker_expires_and_its_result_does_not_count(
        self, redis, keys, publisher, process, subscriber, tmp_path
    ):
        (tmp_path / "shut").touch()
        batch = publisher.publish(months(1))
        still = process(HANDS, str(tmp_path)).ready()
        assert wait_until(lambda: asked(tmp_path).total() == 1)
        still.pause()
        subscriber(FakeSite())
        assert batch.wait(60).done == 1
        (tmp_path / "shut").unlink()
        still.resume()
        assert wait_until(lambda: outcomes(batch) == {"done": 1, "superseded": 1})
        assert str(batch.status()) == "1 published, 1 done"
        assert still.stop() == 0

    def test_of_an_inherited_entry_may_pass_to_another_worker(self, subscriber, publisher, redis, keys):
        batch = publisher.publish(months(2))
        ((_, entries),) = redis.xreadgroup(keys.group, "anna", {keys.jobs: ">"}).items()
        ids = [entry_id for part in entries for entry_id, _ in part]
        # Handed out twice, so both are suspects; and idle for an hour, so any worker may take them over.
        redis.xclaim(keys.jobs, keys.group, "anna", 0, ids, idle=int(AN_HOUR * 1000))
        anna, other = GatedSite(), GatedSite()
        subscriber(anna, delivery="stream", name="anna", lease=60.0)
        assert anna.inside.acquire(timeout=60)
        subscriber(other, delivery="stream", lease=60.0, threads=1, prefetch=0)
        assert other.inside.acquire(timeout=60)
        anna.gate.set()
        assert wait_until(lambda: batch.status().done == 1)
        # The heir is free now, and the other is full. Before each read, the heir looks at its inherited entries.
        for year in (2018, 2019):
            assert publisher.publish(months(1, year=year)).wait(60).done == 1
        assert anna.asked.keys() & {"01/2018", "01/2019"} == {"01/2018", "01/2019"}
        assert anna.asked.total() == 3
        other.gate.set()
        assert batch.wait(60).done == 2


class TestANameThatIsLost:
    @pytest.mark.parametrize("kind", [None, "XGROUP"])
    def test_is_left_to_the_newcomer_and_work_continues(self, subscriber, proxy, publisher, redis, keys, kind):
        one = subscriber(FakeSite(), delivery="stream")
        name = one.name
        assert publisher.publish(months(1)).wait(60).done == 1
        newcomer = json.dumps(json.loads(redis.get(keys.worker(name))) | {"instance": f"{name}/newcomer"})
        if kind is not None:
            proxy.lose_request(kind)
        redis.set(keys.worker(name), newcomer)
        assert wait_until(lambda: one.name not in ("", name) or not one.running)
        if not one.running:
            one.stop()
        assert publisher.publish(months(3, year=2019)).wait(60).done == 3
        assert redis.get(keys.worker(name)) == newcomer
        assert redis.zscore(keys.workers, name) is not None


class TestPubSub:
    def test_a_batch_names_the_months_that_a_killed_worker_held(self, redis, channel, process, tmp_path):
        worker = process(HANDS, str(tmp_path), "--delivery", "pubsub", threads=3).ready()
        batch = channel.publish(months(3))
        assert batch.receivers == 1
        assert batch.wait(60).done == 3
        (tmp_path / "shut").touch()
        batch = channel.publish(months(3, year=2020))
        assert wait_until(lambda: set(batch.jobs()["state"]) == {"running"})
        assert batch.status().lost == 0
        worker.kill()
        assert wait_until(lambda: str(batch.status()) == "3 published, 0 done, 3 lost")
        failures = batch.failures()
        assert list(failures["month"]) == ["01/2020", "02/2020", "03/2020"]
        assert failures["error"].str.contains("died before it was done").all()

    def test_a_message_sent_to_a_dead_connection_counts_as_lost(self, channel, subscriber, proxy, redis, keys):
        subscriber(FakeSite(), delivery="pubsub")
        proxy.mute_all()
        batch = channel.publish(months(2))
        assert batch.receivers == 1
        proxy.cut_all()
        assert wait_until(lambda: str(batch.status()) == "2 published, 0 done, 2 lost")
        assert channel.publish(months(1, year=2020)).wait(60).done == 1


class TestASilentConnection:
    """Nothing arrives and nothing is refused, as behind a firewall that has dropped the connection."""

    TIMEOUT = 1.5

    @pytest.fixture
    def impatient(self, proxy):
        with connect(proxy.url) as client:
            with sibling(client, socket_timeout=self.TIMEOUT, health_check_interval=1) as impatient:
                yield impatient

    def test_is_given_up_and_the_stream_is_read_again(self, impatient, proxy, subscriber, publisher):
        site = FakeSite()
        subscriber(site, redis=impatient, delivery="stream", lease=60.0)
        publisher.publish(months(2)).wait(60)
        assert proxy.mute_all() > 1
        batch = publisher.publish(months(3, year=2020))
        assert batch.wait(60).done == 3
        assert set(site.asked.values()) == {1}

    def test_is_given_up_and_the_channel_is_subscribed_again(self, impatient, proxy, subscriber, channel, redis, keys):
        subscriber(FakeSite(), redis=impatient, delivery="pubsub")
        assert channel.publish(months(2)).wait(60).done == 2
        proxy.mute_all()
        # The server still counts the muted connection, so the new one is the second.
        assert wait_until(lambda: redis.pubsub_numsub(keys.channel)[0][1] >= 2)
        assert channel.publish(months(1, year=2020)).wait(60).done == 1

    def test_is_detected_with_few_commands(self, subscriber, redis):
        one = subscriber(FakeSite())
        assert one.running

        def calls() -> tuple[int, float]:
            seconds, microseconds = redis.time()
            return sum(entry["calls"] for entry in redis.info("commandstats").values()), seconds + microseconds / 1e6

        before, began = calls()
        time.sleep(1.5)
        after, ended = calls()
        # An idle worker reads once a second, and sends heartbeats.
        assert (after - before) / (ended - began) < 60

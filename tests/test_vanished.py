"""Vanished stream entries are reported as lost and published again; messages that only move are never lost."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import redis as redis_py
from redis.client import Pipeline
from support.fakes import FUND, FakeSite, GatedSite, months, one_quote
from support.pricer import pricer
from support.waiting import wait_until
from support.workers import LIVELY, subscriber
from typer.testing import CliRunner

from scraperkit import batch as batch_module
from scraperkit.cli import app
from scraperkit.connection import sibling
from scraperkit.deadletters import DeadLetters
from scraperkit.engine import ledger
from scraperkit.errors import PageChanged
from scraperkit.lua import scripts
from scraperkit.models import ScrapeRequest

REASON = "it vanished from the stream: deleted, trimmed or evicted"


def delete_entries(redis, keys) -> None:
    redis.xdel(keys.jobs, *(entry_id for entry_id, _ in redis.xrange(keys.jobs)))


WAYS = {
    "XDEL": delete_entries,
    "XTRIM": lambda redis, keys: redis.xtrim(keys.jobs, maxlen=0, approximate=False),
    "DEL": lambda redis, keys: redis.delete(keys.jobs),
}


@pytest.fixture(params=WAYS)
def vanish(request):
    return WAYS[request.param]


def put_among_retries(redis, keys) -> None:
    """Move all entries of the stream to the retries, as failures do."""
    for _, fields in redis.xrange(keys.jobs):
        redis.zadd(keys.retries, {fields["message"]: 4e12})
    WAYS["XTRIM"](redis, keys)


class TestABatchWhoseEntriesVanished:
    def test_reports_them_as_lost_with_the_reason(self, redis, publisher, keys, vanish):
        batch = publisher.publish(months(3))
        vanish(redis, keys)
        assert str(batch.status()) == "3 published, 0 done, 3 lost"
        assert set(batch.jobs()["state"]) == {"lost"}
        assert list(batch.failures()["month"]) == ["01/2021", "02/2021", "03/2021"]
        assert set(batch.failures()["error"]) == {REASON}
        assert str(batch.wait(60, progress=False)) == "3 published, 0 done, 3 lost"

    def test_is_repaired_by_publishing_again(self, redis, namespace, publisher, keys, vanish):
        publisher.publish(months(3))
        vanish(redis, keys)
        batch = publisher.publish(months(3))
        assert (str(batch.status()), redis.xlen(keys.jobs)) == ("3 published, 0 done, 3 pending", 3)
        with subscriber(redis, namespace, FakeSite()):
            assert str(batch.wait(60)) == "3 published, 3 done"

    def test_from_the_retries_is_repaired_without_the_old_history(self, redis, publisher, keys):
        batch = publisher.publish(months(2))
        put_among_retries(redis, keys)
        redis.hset(keys.history, mapping=dict.fromkeys(batch.jobs().index, "{}\n"))
        assert (batch.status().pending, set(batch.jobs()["state"])) == (2, {"pending"})
        redis.delete(keys.retries)
        assert batch.status().lost == 2
        assert publisher.publish(months(2)).status().pending == 2
        assert (redis.xlen(keys.jobs), redis.hlen(keys.history)) == (2, 0), "attempts start at zero"

    def test_among_entries_of_others_is_found_by_a_search(self, redis, publisher, keys, monkeypatch):
        batch = publisher.publish(months(3))
        redis.xdel(keys.jobs, redis.xrange(keys.jobs)[1][0])
        publisher.publish(months(9, year=2019))
        assert batch.status().pending == 3, "the stream is too long for a search"
        assert str(batch.status(search_up_to=11)) == "3 published, 0 done, 1 lost, 2 pending"
        assert batch.status(search_up_to=10).lost == 0
        assert list(batch.failures()["month"]) == ["02/2021"]
        assert publisher.publish(months(3)).status().lost == 0
        assert redis.xlen(keys.jobs) == 12

    def test_a_wait_searches_when_nothing_moves(self, redis, publisher, keys, monkeypatch):
        batch = publisher.publish(months(1))
        WAYS["XTRIM"](redis, keys)
        publisher.publish(months(9, year=2019))
        monkeypatch.setattr(batch_module, "_STILL", 0.0)
        assert batch.wait(60, progress=False).lost == 1

    def test_is_shown_on_the_command_line_and_by_the_pricer(self, redis, redis_url, namespace, publisher, keys):
        batch = publisher.publish(months(1))
        WAYS["XTRIM"](redis, keys)
        publisher.publish(months(9, year=2019))
        shown = CliRunner(env={"REDIS_URL": redis_url}).invoke(
            app, ["batch", "status", batch.id, "--namespace", namespace]
        )
        assert shown.output.splitlines() == [
            "1 published, 0 done, 1 lost",
            f"{FUND.cnpj} 01/2021 lost: {REASON}",
        ]
        with pricer(redis_url, namespace) as client:
            report = client.get(f"/v1/batches/{batch.id}").json()
            assert (report["lost"], report["pending"], report["finished"]) == (1, 0, True)
            assert [(each["state"], each["error"]) for each in report["failures"]] == [("lost", REASON)]

    def test_event_streams_report_it_if_idle(self, redis, redis_url, namespace, publisher, keys, monkeypatch):
        monkeypatch.setattr("scraperkit.api.batches.HEARTBEAT", 0.0)
        batch = publisher.publish(months(1))
        WAYS["XTRIM"](redis, keys)
        publisher.publish(months(9, year=2019))
        with pricer(redis_url, namespace) as client:
            told = client.get(f"/v1/batches/{batch.id}/events").text
        assert "event: finished" in told
        assert '"lost":1' in told

    def test_another_batch_with_the_same_months_keeps_its_claims(self, redis, namespace, publisher, keys):
        publisher.publish(months(1))
        claim = keys.claim(months(1)[0].message_id)
        redis.set(claim, "held anna/1 60000 6000")
        WAYS["DEL"](redis, keys)
        assert publisher.publish(months(1)).status().pending == 1
        assert redis.get(claim) == "held anna/1 60000 6000"


class TestInHand:
    """A message held by a living worker is not lost, even if its entry vanished."""

    def test_it_is_done_and_counted(self, redis, namespace, publisher, keys, vanish):
        site = GatedSite()
        with subscriber(redis, namespace, site, **LIVELY, delivery="stream") as one:
            batch = publisher.publish(months(2))
            for _ in range(2):
                assert site.inside.acquire(timeout=60)
            vanish(redis, keys)
            seen = redis.get(keys.worker(one.name))
            assert wait_until(lambda: redis.get(keys.worker(one.name)) != seen), "its leases are renewed meanwhile"
            assert wait_until(lambda: batch.status().pending == 2)
            assert set(batch.jobs()["state"]) == {"pending"}
            assert publisher.publish(months(2)).status().pending == 2
            assert redis.xlen(keys.jobs) == 0, "nothing was published again"
            site.gate.set()
            assert str(batch.wait(60)) == "2 published, 2 done"
        assert site.asked.total() == 2

    def test_the_renewal_of_its_lease_keeps_it_in_the_pending_list(self, redis, namespace, publisher, keys):
        site = GatedSite()
        with subscriber(redis, namespace, site, lease=2.0, heartbeat=20.0, delivery="stream") as one:
            batch = publisher.publish(months(1))
            assert site.inside.acquire(timeout=60)
            WAYS["XDEL"](redis, keys)
            for _ in range(2):
                seen = redis.get(keys.worker(one.name))
                assert wait_until(lambda seen=seen: redis.get(keys.worker(one.name)) != seen)
            assert scripts.pending_entries(redis, keys) == {one.name: (0, 1)}
            assert batch.status().lost == 0
            site.gate.set()
            assert batch.wait(60).done == 1

    @pytest.mark.parametrize("way", ["XDEL", "XTRIM"])
    def test_a_dead_workers_message_is_lost(self, redis, publisher, keys, way):
        batch = publisher.publish(months(2))
        redis.xreadgroup(keys.group, "ghost", {keys.jobs: ">"})
        WAYS[way](redis, keys)
        assert scripts.pending_entries(redis, keys) == {"ghost": (0, 2)}
        assert batch.status().lost == 2

    def test_a_job_that_then_fails_is_lost_and_published_again(self, redis, namespace, publisher, keys):
        site = GatedSite(lambda request: [][1])
        with subscriber(redis, namespace, site, **LIVELY, max_attempts=9) as one:
            batch = publisher.publish(months(1))
            assert site.inside.acquire(timeout=60)
            WAYS["XDEL"](redis, keys)
            site.gate.set()
            assert wait_until(lambda: one.outcomes["superseded"] == 1)
            assert batch.wait(60, progress=False).lost == 1
            site.respond = one_quote
            assert str(publisher.publish(months(1)).wait(60)) == "1 published, 1 done"

    def test_a_job_noted_as_lost_counts_once_when_it_is_done(self, redis, namespace, publisher, keys):
        """As between a publisher's note and its sending: it must not count as both lost and done."""
        site = GatedSite()
        with subscriber(redis, namespace, site, delivery="stream"):
            batch = publisher.publish(months(2))
            for _ in range(2):
                assert site.inside.acquire(timeout=60)
            redis.xdel(keys.jobs, redis.xrange(keys.jobs)[0][0])  # one entry vanishes, one stays
            noted = [(message_id, REASON, None) for message_id in batch.jobs().index]
            assert scripts.note_lost(redis, keys, batch.id, noted) == 2
            assert str(batch.status()) == "2 published, 0 done, 2 lost"
            site.gate.set()
            assert wait_until(lambda: str(batch.status()) == "2 published, 2 done")

    def test_sent_again_meanwhile_it_is_counted_once(self, redis, namespace, publisher, keys):
        site = GatedSite()
        with subscriber(redis, namespace, site, delivery="stream") as one:
            batch = publisher.publish(months(1))
            assert site.inside.acquire(timeout=60)
            WAYS["XDEL"](redis, keys)
            redis.xack(keys.jobs, keys.group, *(row["message_id"] for row in pending(redis, keys)))
            noted = [(message_id, REASON, None) for message_id in batch.jobs().index]
            assert scripts.note_lost(redis, keys, batch.id, noted) == 1
            publisher.publish(months(1))
            assert site.inside.acquire(timeout=60)
            site.gate.set()
            assert wait_until(lambda: one.outcomes.total() == 2)
        assert str(batch.status()) == "1 published, 1 done"
        assert redis.xlen(keys.jobs) == 0


MOVES = ("end", "retries", "dead")


def move(redis, keys, text: str, to: str | None) -> None:
    """Move a message atomically from its place, as the scripts do; a dead letter first returns to the stream."""
    if to is None:
        return
    request = ScrapeRequest.parse(text)
    batch = keys.batch(request.batch_id)
    for letter, fields in redis.xrange(keys.dead):
        if fields["message"] == text:
            scripts.retry_dead(redis, keys, letter, message_id=request.message_id, batch_id=request.batch_id)
    with redis.pipeline(transaction=True) as at_once:
        at_once.zrem(keys.retries, text)
        for entry_id, fields in redis.xrange(keys.jobs):
            if fields["message"] == text:
                at_once.xdel(keys.jobs, entry_id)
        if to == "end":
            at_once.xadd(keys.jobs, {"message": text})
        elif to == "retries":
            at_once.zadd(keys.retries, {text: 4e12})
        else:
            at_once.xadd(keys.dead, {"message": text})
            at_once.hset(batch, request.message_id, f"failed {request.document} {request.month_year} why")
            at_once.hincrby(batch, "failed", 1)
        at_once.execute()


@contextmanager
def before_commands(monkeypatch, act: Callable[[int], None]) -> Iterator[Callable[[], int]]:
    """Call `act` before each command of this thread on any connection, except those of `act`."""
    numbers, acting = itertools.count(), threading.local()

    def hooked(original):
        def run(*arguments, **options):
            if not getattr(acting, "now", False):
                acting.now = True
                act(next(numbers))
                acting.now = False
            return original(*arguments, **options)

        return run

    with monkeypatch.context() as patch:
        patch.setattr(redis_py.Redis, "execute_command", hooked(redis_py.Redis.execute_command))
        patch.setattr(Pipeline, "execute", hooked(Pipeline.execute))
        yield lambda: next(numbers)


def count_commands(monkeypatch, action: Callable[[], object]) -> int:
    with before_commands(monkeypatch, lambda _: None) as counted:
        action()
        return counted()


def pending(redis, keys) -> list[dict]:
    return redis.xpending_range(keys.jobs, keys.group, "-", "+", 10)


class TestAMessageThatMoves:
    """Each move is made at each step of a search, which must find the message or see it settled."""

    @pytest.mark.parametrize(
        "moves", [*itertools.product(MOVES, repeat=2), ("retries", "end", "retries"), ("dead", "end", "retries")]
    )
    def test_is_never_lost(self, redis, publisher, keys, monkeypatch, moves):
        monkeypatch.setattr(ledger, "_READ_AT_ONCE", 2)
        publisher.publish(months(3, year=2019))
        batch = publisher.publish(months(4))
        publisher.publish(months(3, year=2020))
        text = redis.xrange(keys.jobs)[4][1]["message"]
        move(redis, keys, text, "retries")  # so that a search continues to its last look
        commands = count_commands(monkeypatch, lambda: batch.status(search_up_to=math.inf))
        move(redis, keys, text, "end")
        assert commands > 5
        for when in itertools.combinations(range(commands + 1), len(moves)):
            planned = dict(zip(when, moves, strict=True))
            with before_commands(
                monkeypatch, lambda number, planned=planned: move(redis, keys, text, planned.get(number))
            ):
                assert batch.status(search_up_to=math.inf).lost == 0, planned
            move(redis, keys, text, "end")

    def test_is_never_lost_while_workers_move_it_fast(self, redis, namespace, publisher, keys, monkeypatch):
        """Failures, retries, dead letters and handing back at full speed, during searches."""
        monkeypatch.setattr(ledger, "_READ_AT_ONCE", 3)
        stop, settled = threading.Event(), threading.Event()

        def respond(request):
            if request.month % 3 == 0:
                raise PageChanged("at once a dead letter")
            if not settled.is_set():
                raise OSError("reset")
            return one_quote(request)

        def hurry() -> None:
            with sibling(redis) as client:
                letters = DeadLetters(client, namespace=namespace)
                while not stop.is_set():
                    letters.retry()

        moving = threading.Thread(target=hurry)
        with subscriber(redis, namespace, FakeSite(respond), backoff=0.0, max_attempts=2, lease=0.1, heartbeat=20.0):
            batch = publisher.publish(months(24))
            moving.start()
            try:
                lost = [len(ledger.Ledger(redis, keys, batch.id).lost(batch._ledger.states())) for _ in range(300)]
            finally:
                stop.set()
                moving.join()
        assert set(lost) == {0}

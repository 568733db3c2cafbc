"""A primary that is cut off and comes back: both sides keep running, and workers leave the demoted one."""

from __future__ import annotations

import contextlib
import signal
import socket
import ssl
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import trustme
from chaos.oracle import PAGES, Sample, Site
from chaos.processes import WORK, Child, environment
from support.fakes import FUND, GatedSite, months
from support.sentinels import DOWN_AFTER_MS, client, guarded_redis
from support.waiting import wait_until

from scraperkit.batch import Batch
from scraperkit.config import Settings
from scraperkit.connection import connect, sibling
from scraperkit.engine.registry import live_workers
from scraperkit.errors import RedisRefused, RedisUnreachable
from scraperkit.failover.sentinels import SentinelAddress, Sentinels, SentinelTlsConnection
from scraperkit.keys import Keys
from scraperkit.models import ScrapeRequest
from scraperkit.publisher import Publisher
from scraperkit.replica import Replica
from scraperkit.subscriber import Subscriber
from scraperkit.timeseries.reader import TimeSeriesReader

NAMESPACE = "cut-off"
KEYS = Keys(NAMESPACE)
JOBS = 160
CONFIRMED = Settings.load(confirmations=1, confirmation_timeout=0.2)


@pytest.fixture
def guarded(tmp_path):
    with guarded_redis(tmp_path, is_proxied=True) as service:
        yield service


def workers_at(server) -> set[str]:
    return {worker.name for worker in live_workers(server, KEYS)}


def kit_connections(server) -> list[str]:
    return [entry["addr"] for entry in server.client_list() if entry["name"].startswith("scraperkit")]


@pytest.mark.parametrize("who", ["peers", "all"])
def test_workers_leave_a_primary_that_is_cut_off_and_no_job_is_lost_or_done_twice(guarded, tmp_path, who):
    wanted = Sample.read().months[:JOBS]
    shown = Site.read(tmp_path).versions
    settings = {"heartbeat": 0.5, "lease": 3, "backoff": 0.1, "threads": 4}
    with Replica.start(latency=0.02) as site, contextlib.ExitStack() as stack, connect(guarded.url) as redis:
        command = (*WORK, "--url", site.url, "--delivery", "stream")
        for number in range(2):
            given = environment(guarded.url, NAMESPACE, **settings)
            stack.enter_context(Child(command, given, tmp_path / f"worker-{number}")).ready()
        publisher = Publisher(redis, namespace=NAMESPACE, settings=Settings.load(confirmations=1))
        requests = [ScrapeRequest(document=each.cnpj, fund_pk=each.pk, month_year=each.month) for each in wanted]
        batch = publisher.publish(requests)
        assert wait_until(lambda: batch.status().done > 0)
        before = guarded.primary
        guarded.proxies[before].shut(who)
        after = guarded.wait_for_another(before)
        with guarded.client(before) as old, guarded.client(after) as new:
            assert old.execute_command("ROLE")[0] == "master", "both sides live on"
            assert wait_until(lambda: len(workers_at(new)) == 2), "the workers do not come"
            assert wait_until(lambda: not kit_connections(old)), "they do not leave it"
            beats = old.zrange(KEYS.workers, 0, -1, withscores=True), old.xlen(KEYS.events)
            later = max(worker.beat_at for worker in live_workers(new, KEYS)) + 2
            assert wait_until(lambda: all(worker.beat_at > later for worker in live_workers(new, KEYS)))
            assert beats == (old.zrange(KEYS.workers, 0, -1, withscores=True), old.xlen(KEYS.events)), (
                "they write to it"
            )
            guarded.proxies[before].open()
            assert wait_until(lambda: guarded.is_replica(before), 180), guarded.told()
            assert batch.wait(120).done == JOBS
            done = Counter(fields["event"] for _, fields in new.xrange(KEYS.events) if fields["outcome"] == "done")
            assert done.total() == JOBS, "each counts once"
            figures: dict[tuple[str, str], list[float]] = {}
            for each in wanted:
                for name, days in shown[PAGES, each.cnpj, each.month][0].figures.items():
                    figures.setdefault(name, []).extend(days.values())
            for (cnpj, metric), values in figures.items():
                samples = new.execute_command("TS.RANGE", KEYS.series(cnpj, metric), "-", "+")
                assert [float(value) for _, value in samples] == values
            assert not kit_connections(old)


@pytest.mark.parametrize("confirmations", [0, 1])
def test_the_primary_is_lost_right_after_a_commit(guarded, confirmations):
    """Writes that no replica has are lost: jobs are done again or, with confirmations, only settled again."""
    site = GatedSite()
    settings = CONFIRMED if confirmations else Settings.load()
    with (
        connect(guarded.url) as redis,
        Subscriber(redis, site, threads=4, namespace=NAMESPACE, delivery="stream", settings=settings) as worker,
    ):
        before = guarded.primary
        batch = Publisher(redis, namespace=NAMESPACE, settings=Settings.load(confirmations=1)).publish(
            [replace(request, fund=None) for request in months(4)]  # the worker must create the card
        )
        for _ in range(4):
            assert site.inside.acquire(timeout=60)
        guarded.tolerate(600_000)  # no failover before the settlements, however slow the machine
        guarded.proxies[before].shut("peers")
        site.gate.set()
        with guarded.client(before) as old:
            # A settlement that waits to be confirmed holds up the next.
            least = 1 if confirmations else 4
            assert wait_until(lambda: Batch(old, batch.id, namespace=NAMESPACE).status().done >= least)
        if not confirmations:
            assert wait_until(lambda: worker.outcomes["done"] == 4), "their replies have come"
        guarded.kill(before)
        guarded.tolerate(DOWN_AFTER_MS)
        guarded.proxies[before].open()
        after = guarded.wait_for_another(before)
        guarded.start_again(before)
        assert batch.wait(120).done == 4
        assert wait_until(lambda: worker.outcomes["done"] == (4 if confirmations else 8))
        assert set(site.asked.values()) == ({1} if confirmations else {2})
        with guarded.client(after) as new:
            assert [fields["outcome"] for _, fields in new.xrange(KEYS.events)] == ["done"] * 4
            assert new.hget(KEYS.fund(FUND.cnpj), "cnpj") == FUND.cnpj, "lost with the rest, it is made again"
        assert len(TimeSeriesReader(redis, NAMESPACE).prices()[FUND.cnpj]) == 4


def test_a_primary_that_goes_silent_is_left_once_it_is_replaced(guarded):
    """Reads, publications and workers would wait for their time-out, here ten minutes."""
    site = GatedSite()
    site.gate.set()
    with (
        connect(guarded.url) as client,
        sibling(client, socket_timeout=600.0) as redis,
        Subscriber(redis, site, threads=2, namespace=NAMESPACE, delivery="stream"),
        ThreadPoolExecutor(4) as threads,
    ):
        publisher, reader = Publisher(redis, namespace=NAMESPACE), TimeSeriesReader(redis, NAMESPACE)
        assert publisher.publish(months(2)).wait(60).done == 2
        before = guarded.primary
        guarded.servers[before].send_signal(signal.SIGSTOP)
        try:
            reads = [threads.submit(reader.prices) for _ in range(3)]
            published = threads.submit(publisher.publish, months(4))
            guarded.wait_for_another(before)
            assert all(len(read.result(60)) >= 2 for read in reads)
            batch = published.result(60)
            assert wait_until(lambda: batch.status().done == 4), "the worker waits for the silent server"
        finally:
            guarded.servers[before].send_signal(signal.SIGCONT)


def test_a_sentinel_on_the_side_of_an_old_primary_is_outvoted(guarded):
    before = guarded.primary
    guarded.proxies[before].shut("peers")
    after = guarded.wait_for_another(before)
    isolated = guarded.isolated_sentinel(before)
    assert Sentinels(SentinelAddress.parse(f"redis+sentinel://127.0.0.1:{isolated}/prices"), {}).primary()[1] != after
    with connect(guarded.url.replace("//", f"//127.0.0.1:{isolated},")) as redis, guarded.client(after) as new:
        redis.set("written", "1")
        assert new.get("written") == "1"


def test_a_publication_that_no_replica_confirms_raises_and_can_be_repeated(redis, namespace):
    publisher = Publisher(redis, namespace=namespace, settings=CONFIRMED)
    with pytest.raises(RedisUnreachable, match=r"0 of 1 replicas confirmed the write within 0\.2 s"):
        publisher.publish(months(3))
    assert redis.xlen(publisher.keys.jobs) == 3, "the primary has it"
    assert Publisher(redis, namespace=namespace).publish(months(3)).status().published == 3
    assert redis.xlen(publisher.keys.jobs) == 3, "and is not told twice"


def test_a_stop_does_not_wait_forever_for_replicas(redis, namespace):
    settings = Settings.load(confirmations=1, confirmation_timeout=0.1, stop_deadline=0.5)
    batch = Publisher(redis, namespace=namespace).publish(months(1))
    site = GatedSite()
    with Subscriber(redis, site, threads=1, namespace=namespace, settings=settings) as worker:
        site.gate.set()
        assert wait_until(lambda: batch.status().done == 1)
        assert worker.outcomes["done"] == 0, "it does not count yet"


def test_a_user_without_the_right_to_wait_is_refused_at_the_start(redis_url, redis, namespace):
    redis.acl_setuser("nowait", enabled=True, nopass=True, keys=["*"], channels=["*"], commands=["+@all", "-wait"])
    host = redis_url.rpartition("@")[2]
    with (
        connect(f"redis://nowait:any@{host}") as other,
        pytest.raises(RedisRefused, match="no permissions to run the 'wait' command"),
        Subscriber(other, GatedSite(), namespace=namespace, settings=CONFIRMED),
    ):
        pass
    redis.acl_deluser("nowait")


def test_one_sentinel_with_an_older_primary_does_not_overrule_a_newer_one(guarded):
    """One does not, even if the others no longer know a primary; two of three do."""
    asked = Sentinels(SentinelAddress.parse(guarded.url), {})
    before = guarded.primary
    guarded.kill(before)
    after = guarded.wait_for_another(before)
    for port in guarded.sentinels:
        alone = Sentinels(SentinelAddress.parse(f"redis+sentinel://127.0.0.1:{port}/prices"), {})
        assert wait_until(lambda alone=alone: alone.primary() == ("127.0.0.1", after))
    assert asked.primary() == ("127.0.0.1", after)
    first, *others = guarded.sentinels
    for port, command in [(first, "REMOVE"), (first, "MONITOR"), (others[0], "REMOVE"), (others[1], "REMOVE")]:
        with client(port) as sentinel:
            told = ("127.0.0.1", before, 2) if command == "MONITOR" else ()
            sentinel.execute_command("SENTINEL", command, "prices", *told)
        assert asked.primary() == ("127.0.0.1", after)
    with client(others[0]) as sentinel:
        sentinel.execute_command("SENTINEL", "MONITOR", "prices", "127.0.0.1", before, 2)
    assert asked.primary() == ("127.0.0.1", before)


def test_sentinels_whose_user_may_not_call_master_are_believed_by_their_number(guarded):
    for port in guarded.sentinels:
        with client(port) as sentinel:
            sentinel.execute_command("ACL", "SETUSER", "default", "-sentinel|master")
    asked, named = Sentinels(SentinelAddress.parse(guarded.url), {}), ("127.0.0.1", guarded.primary)
    assert asked.primary() == named
    with client(guarded.sentinels[0]) as sentinel:
        sentinel.execute_command("SENTINEL", "REMOVE", "prices")
        sentinel.execute_command("SENTINEL", "MONITOR", "prices", "127.0.0.1", 1, 2)
    assert asked.primary() == named, "two outnumber one"


def test_a_cut_tls_connection_ends_a_waiting_read_and_sends_nothing_in_plain_text():
    authority = trustme.CA()
    server, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(trusting)
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(2) as threads:
        accepted = threads.submit(lambda: listening.accept()[0])
        plain = socket.create_connection(listening.getsockname())
        with accepted.result(60) as there:
            served = threads.submit(server.wrap_socket, there, server_side=True)
            with trusting.wrap_socket(plain, server_hostname="127.0.0.1") as here, served.result(60) as tls:
                connection = SentinelTlsConnection(
                    sentinels=Sentinels(SentinelAddress.parse("redis+sentinel://a/b"), {})
                )
                connection._sock = here
                reading = threads.submit(here.recv, 1)
                connection.cut()
                with contextlib.suppress(OSError):
                    assert reading.result(60) == b""
                with pytest.raises(ssl.SSLError):  # a broken pipe would be that of a plain socket
                    here.sendall(b"AUTH secret")
                connection._sock = None
                with contextlib.suppress(OSError):
                    assert tls.recv(100) == b""

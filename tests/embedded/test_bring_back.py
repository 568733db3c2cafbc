"""A wait for the embedded server brings it back after its keeper was killed, and only then."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import redis as redis_py
from support.disks import fill, small_disk
from support.fakes import FakeSite, GatedSite, months
from support.waiting import servers_below, wait_until

import scraperkit as sk
from scraperkit.connection import async_client, connect, sibling
from scraperkit.embedded import shared
from scraperkit.embedded.state import State
from scraperkit.errors import BatchTimeout, EmbeddedRedisError, RedisUnreachable

NAMESPACE = "back"


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Choose a data folder for `connect()`; nothing may run there afterwards."""
    monkeypatch.setenv("SCRAPERKIT_DATA", str(tmp_path))
    yield tmp_path
    shared.stop(force=True)
    assert not servers_below(tmp_path)


@pytest.fixture
def client(data):
    """Yield a client that waits for the server."""
    with connect() as client:
        yield client


def kill_keeper(data: Path) -> None:
    """Kill the keeper, and return once its server is gone too."""
    state = State.load(data / "redis")
    os.kill(state.keeper, signal.SIGKILL)
    assert wait_until(lambda: not psutil.pid_exists(state.pid) or psutil.Process(state.pid).status() == "zombie")


def starts(data: Path) -> int:
    """Return how often a server has started."""
    return (data / "redis" / "redis.log").read_text().count("Server initialized")


class TestAWaitForTheServer:
    def test_a_batch_brings_it_back(self, data, client):
        site = GatedSite()
        batch = sk.Publisher(client, namespace=NAMESPACE).publish(months(3))
        # The address alone gives the worker no right to start the server.
        with connect(shared.running_url()) as plain, sk.Subscriber(plain, site, threads=1, namespace=NAMESPACE):
            assert site.inside.acquire(timeout=60)
            kill_keeper(data)
            site.gate.set()
            assert batch.wait().done == 3
        assert starts(data) == 2

    def test_a_worker_brings_it_back(self, data, client):
        site = GatedSite()
        batch = sk.Publisher(client, namespace=NAMESPACE).publish(months(3))
        # A read-only client: it has the address but no right to start the server.
        with connect(shared.running_url()) as plain, sk.Subscriber(client, site, threads=1, namespace=NAMESPACE):
            assert site.inside.acquire(timeout=60)
            seen = sk.Publisher(plain, namespace=NAMESPACE).batch(batch.id)
            kill_keeper(data)
            site.gate.set()
            assert seen.wait().done == 3
        assert starts(data) == 2

    def test_a_wait_that_starts_while_the_server_is_away_waits_for_it(self, data, client):
        batch = sk.Publisher(client, namespace=NAMESPACE).publish(months(3))
        with connect(shared.running_url()) as plain:
            seen = sk.Publisher(plain, namespace=NAMESPACE).batch(batch.id)
            kill_keeper(data)
            with pytest.raises(BatchTimeout, match="Redis is unreachable"):
                seen.wait(0.3)

    @pytest.mark.parametrize(
        "ask",
        [
            lambda client: client.ping(),
            lambda client: sibling(client).ping(),
            lambda client: sk.Publisher(client, namespace=NAMESPACE).publish(months(2)),
            lambda client: sk.TimeSeriesReader(client, namespace=NAMESPACE).prices(),
            lambda client: sk.DeadLetters(client, namespace=NAMESPACE).list(),
            lambda client: sk.Health.read(client, namespace=NAMESPACE),
            lambda client: sk.Subscriber(client, FakeSite(), namespace=NAMESPACE).start().stop(),
        ],
        ids=["client", "sibling", "publisher", "reader", "dead letters", "health", "subscriber"],
    )
    def test_the_next_call_brings_it_back(self, data, client, ask):
        kill_keeper(data)
        ask(client)
        assert starts(data) == 2

    def test_many_callers_at_once_start_one_server(self, data, client):
        kill_keeper(data)
        together = threading.Barrier(12)

        def ask(_: int) -> bool:
            with sibling(client) as one:
                together.wait(60)
                return one.ping()

        with ThreadPoolExecutor(12) as threads:
            assert all(threads.map(ask, range(12)))
        assert starts(data) == 2
        assert len(servers_below(data)) == 2, "one server, one keeper"

    def test_an_event_loop_continues_meanwhile(self, data, client, monkeypatch):
        real, in_time = shared.bring_back, threading.Event()

        def bring_back(*where) -> State:
            assert in_time.wait(60), "the event loop stood still"
            return real(*where)

        async def ask() -> bool:
            async with async_client(client) as one:
                asking = asyncio.ensure_future(one.ping())
                while not any(thread.name == "scraperkit-connecting" for thread in threading.enumerate()):
                    await asyncio.sleep(0)
                in_time.set()
                return await asking

        kill_keeper(data)
        monkeypatch.setattr(shared, "bring_back", bring_back)
        assert asyncio.run(ask())

    def test_a_cancelled_asyncio_wait_ends_at_once(self, data, client, monkeypatch):
        hangs = threading.Event()
        monkeypatch.setattr(shared, "bring_back", lambda *_: hangs.wait(60))

        async def ask() -> None:
            async with async_client(client) as one:
                asking = asyncio.ensure_future(one.ping())
                while not any(thread.name == "scraperkit-connecting" for thread in threading.enumerate()):
                    await asyncio.sleep(0)
                asking.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asking

        kill_keeper(data)
        asyncio.run(ask())
        assert not hangs.is_set(), "the loop has ended, though the thread has not"
        hangs.set()

    def test_the_server_changes_its_port_if_the_old_one_was_taken(self, data, client):
        old = State.load(data / "redis").port
        kill_keeper(data)
        with socket.create_server(("127.0.0.1", old)):
            assert client.ping()
            assert State.load(data / "redis").port != old
            assert asyncio.run(ping(async_client(client)))

    def test_a_forked_child_brings_it_back(self, data):
        script = """
import os, sys
from scraperkit.connection import connect
client = connect()
if os.fork() == 0:
    client.ping()
    print("forked", flush=True)
    sys.stdin.readline()
    print(client.ping(), flush=True)
    os._exit(0)
os.wait()
"""
        with subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout.readline() == "forked\n"
            kill_keeper(data)
            assert process.communicate("go\n", timeout=60)[0] == "True\n"
        assert starts(data) == 2

    def test_a_pinned_server_stays_pinned(self, data, client):
        shared.start()
        kill_keeper(data)
        assert client.ping()
        assert shared.status().pinned


class TestAServerStoppedOnPurpose:
    """A server that was stopped on purpose stays stopped until a process connects."""

    @pytest.fixture(params=["running", "killed"])
    def stopped(self, request, data, client) -> None:
        if request.param == "killed":
            kill_keeper(data)
        told = subprocess.run(
            [Path(sys.executable).parent / "scraperkit", "redis", "stop", "--force"], capture_output=True, text=True
        )
        assert told.stdout == "stopped\n", told.stderr
        assert not servers_below(data)

    def test_is_not_restarted_by_a_client_or_a_worker(self, data, client, stopped):
        with pytest.raises(redis_py.ConnectionError):
            client.ping()
        with pytest.raises(redis_py.ConnectionError):
            asyncio.run(ping(async_client(client)))
        with pytest.raises(RedisUnreachable):
            sk.Subscriber(client, FakeSite(), namespace=NAMESPACE).start()
        assert not servers_below(data)

    def test_is_started_by_connecting(self, data, client, stopped):
        with connect() as other:
            assert other.ping()
        assert client.ping(), "who waited meanwhile finds it"

    def test_is_not_brought_back_by_a_process_that_released_it(self, data, client, monkeypatch):
        # Only this server: other tests use theirs.
        monkeypatch.setattr(shared, "_leases", {data / "redis": shared._leases.pop(data / "redis")})
        with sibling(client) as other:
            shared.release()
            with pytest.raises(redis_py.ConnectionError):
                other.ping()
        assert not servers_below(data)


class TestFullDisk:
    @pytest.fixture
    def disk(self, tmp_path, monkeypatch):
        with small_disk(tmp_path / "disk") as disk:
            monkeypatch.setenv("SCRAPERKIT_DATA", str(disk))
            yield disk
            shared.stop(force=True)

    # What fails first: the state, the server's own files, the state again once it is ready.
    @pytest.mark.parametrize("leave", [0, 4096, 8192, 16_384])
    def test_every_failed_start_says_that_the_disk_is_full_and_what_to_do(self, disk, leave):
        filling = fill(disk, leave=leave)
        for _ in range(2):
            with pytest.raises(EmbeddedRedisError, match=rf"disk is full: free some space in {disk}/redis, or point"):
                connect()
        assert not list((disk / "redis").glob("*.tmp"))
        filling.unlink()
        with connect() as client:
            assert client.ping()

    def test_connecting_to_a_server_that_can_no_longer_write_says_so(self, disk):
        with connect() as client:
            filling = fill(disk)
            client.set("x", "y" * 10_000)
            # Redis notes within a second that it cannot write.
            assert wait_until(lambda: client.info("persistence")["aof_last_write_status"] == "err")
            with pytest.raises(RedisUnreachable, match=rf"free some space in {disk}/redis, or point SCRAPERKIT_DATA"):
                connect()
            filling.unlink()
            assert wait_until(lambda: client.info("persistence")["aof_last_write_status"] == "ok")
            assert client.ping()

    def test_a_waiting_client_gets_the_reason_and_continues_once_there_is_room(self, disk):
        with connect() as client, sibling(client, retry=None) as impatient:
            filling = fill(disk)
            kill_keeper(disk)
            with pytest.raises(redis_py.ConnectionError, match=f"free some space in {disk}/redis"):
                impatient.ping()
            filling.unlink()
            assert wait_until(lambda: responses(impatient))

    def test_many_waiting_clients_share_one_attempt(self, disk, monkeypatch):
        launched = []
        real = shared.launch
        monkeypatch.setattr(shared, "launch", lambda *where: launched.append(1) or real(*where))
        monkeypatch.setattr(shared, "_TRY_AGAIN_AFTER", 3600.0)
        with connect() as client, sibling(client, retry=None) as impatient:
            fill(disk)
            kill_keeper(disk)
            launched.clear()
            with ThreadPoolExecutor(8) as threads:
                assert not any(threads.map(lambda _: responses(impatient), range(8)))
        assert launched == [1]


def responses(client) -> bool:
    try:
        return client.ping()
    except redis_py.ConnectionError:
        return False


async def ping(client) -> bool:
    async with client:
        return await client.ping()

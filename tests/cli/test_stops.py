"""A requested stop is clean at any moment, with real processes, real signals, and a Redis that really hangs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from chaos.processes import HANDS, WORK, Child, environment
from chaos.proxy import Proxy
from support.fakes import GatedSite, months
from support.waiting import servers_below, wait_until

import scraperkit as sk
from scraperkit.connection import connect
from scraperkit.embedded.shared import EmbeddedServer
from scraperkit.embedded.state import State
from scraperkit.engine.worker import Worker

API = (WORK[0], "api", "--port", "0")


class Hanging:
    """A Redis behind a proxy, which can be made to hang: it then accepts connections but does not respond."""

    def __init__(self, server: EmbeddedServer, proxy: Proxy) -> None:
        self.server, self.proxy = server, proxy

    def hang(self) -> None:
        os.kill(self.server.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        if self.server.pid is not None:
            os.kill(self.server.pid, signal.SIGCONT)


@pytest.fixture
def hanging(tmp_path) -> Iterator[Hanging]:
    with EmbeddedServer(tmp_path / "redis") as server, Proxy(server.url) as proxy:
        one = Hanging(server, proxy)
        yield one
        one.go_on()


@pytest.fixture
def around(hanging, namespace):
    # Without these, other waits would hide a hang.
    return environment(hanging.proxy.url, namespace, stop_deadline=1, cvm_url="http://127.0.0.1:9/")


def stops_cleanly(child: Child) -> None:
    assert child.stop() == 0, child.output
    is_clean(child)


def is_clean(child: Child) -> None:
    for words in ("Traceback", "something hangs", "did not stop within", "Exception ignored"):
        assert words not in child.output, child.output


class TestWhileRedisHangs:
    @pytest.mark.parametrize("at", ["HELLO", "TS.QUERYINDEX", "SET", "XGROUP", "SUBSCRIBE", "XREADGROUP"])
    def test_a_starting_worker_stops_cleanly_while_redis_hangs(self, hanging, around, tmp_path, at):
        reached = hanging.proxy.before(at, hanging.hang)
        with Child((*WORK, "--threads", "1"), around, tmp_path / "log") as worker:
            assert reached.struck(), worker.output
            stops_cleanly(worker)

    @pytest.mark.parametrize("at", ["HELLO", "SUBSCRIBE"])
    def test_several_starting_processes_stop_cleanly_while_redis_hangs(self, hanging, around, tmp_path, at):
        reached = hanging.proxy.before(at, hanging.hang)
        with Child((*WORK, "--threads", "1", "--processes", "2"), around, tmp_path / "log") as parent:
            assert reached.struck(), parent.output
            stops_cleanly(parent)

    @pytest.mark.parametrize("processes", ["1", "2"])
    def test_a_listening_worker_stops_cleanly_while_redis_hangs(self, hanging, around, tmp_path, processes):
        with Child((*WORK, "--threads", "1", "--processes", processes), around, tmp_path / "log") as worker:
            worker.ready()
            hanging.hang()
            stops_cleanly(worker)

    @pytest.mark.parametrize("at", ["UNSUBSCRIBE", "XINFO", "ZREM"])
    def test_a_stop_ends_cleanly_if_redis_hangs_during_it(self, hanging, around, tmp_path, at):
        with Child((*WORK, "--threads", "1"), around, tmp_path / "log") as worker:
            worker.ready()
            reached = hanging.proxy.before(at, hanging.hang)
            worker.ask_to_stop()
            assert reached.struck(), worker.output
            assert worker.wait() == 0, worker.output
        is_clean(worker)

    def test_a_worker_with_open_jobs_stops_cleanly_while_redis_hangs(self, hanging, around, namespace, tmp_path):
        (tmp_path / "shut").touch()
        with connect(hanging.server.url) as client:
            sk.Publisher(client, namespace=namespace).publish(months(4))
        with Child((*HANDS, str(tmp_path)), around, tmp_path / "log") as worker:
            assert wait_until((tmp_path / "asked").exists), worker.output
            hanging.hang()
            (tmp_path / "shut").unlink()
            stops_cleanly(worker)

    def test_the_last_user_of_a_hung_embedded_server_stops_cleanly(self, around, tmp_path):
        del around["REDIS_URL"]
        around["SCRAPERKIT_DATA"] = str(tmp_path / "data")
        with Child((*WORK, "--threads", "1"), around, tmp_path / "log") as worker:
            worker.ready()
            os.kill(State.load(tmp_path / "data" / "redis").pid, signal.SIGSTOP)
            assert worker.stop() == 0, worker.output
        assert wait_until(lambda: not servers_below(tmp_path / "data")), "its keeper kills it"

    def test_a_starting_pricer_stops_cleanly_while_redis_hangs(self, hanging, around, tmp_path):
        reached = hanging.proxy.before("HELLO", hanging.hang)
        with Child(API, around, tmp_path / "log") as pricer:
            assert reached.struck(), pricer.output
            stops_cleanly(pricer)

    def test_a_serving_pricer_stops_cleanly_while_redis_hangs(self, hanging, around, tmp_path):
        with Child(API, around, tmp_path / "log") as pricer:
            pricer.ready()
            hanging.hang()
            stops_cleanly(pricer)

    def test_a_subscriber_in_this_process_stops_while_redis_hangs(self, hanging, namespace):
        site = GatedSite()
        with connect(hanging.server.url) as client:
            sk.Publisher(client, namespace=namespace).publish(months(3))
            subscriber = sk.Subscriber(client, site, threads=1, namespace=namespace).start()
            assert site.inside.acquire(timeout=60)
            hanging.hang()
            site.gate.set()
            subscriber.stop(0.5)
            assert not subscriber.running
            hanging.go_on()


class TestAtTheStart:
    @pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks into /proc for a signal's handler")
    @pytest.mark.parametrize("processes", ["1", "2"])
    def test_a_stop_is_clean_as_soon_as_the_process_handles_signals(self, around, tmp_path, processes):
        with Child((*WORK, "--threads", "1", "--processes", processes), around, tmp_path / "log") as worker:
            assert wait_until(lambda: catches_sigterm(worker.pid)), worker.output
            stops_cleanly(worker)

    @pytest.mark.parametrize("one_heeds", [False, True], ids=["they have begun", "one heeds a signal"])
    def test_a_parent_stops_cleanly_while_its_workers_start(self, around, tmp_path, one_heeds):
        def begun() -> bool:
            children = psutil.Process(parent.pid).children()
            return len(children) == 2 and (not one_heeds or any(catches_sigterm(child.pid) for child in children))

        with Child((*WORK, "--threads", "1", "--processes", "2"), around, tmp_path / "log") as parent:
            assert wait_until(begun), parent.output
            stops_cleanly(parent)

    def test_a_stop_before_a_worker_listens_is_not_forgotten(self, hanging, namespace):
        async def start_and_run(worker: Worker) -> None:
            await worker.start()
            await worker.run()

        with connect(hanging.proxy.url) as client:
            worker = Worker(client, GatedSite(), threads=1, namespace=namespace)
            reached = hanging.proxy.before("SUBSCRIBE", worker.request_stop)
            asyncio.run(start_and_run(worker))
        assert reached.struck()


class TestWhileRedisIsDown:
    @pytest.mark.parametrize("processes", ["1", "2"])
    def test_a_worker_stops_cleanly_while_redis_is_down(self, hanging, around, tmp_path, processes):
        with Child((*WORK, "--threads", "1", "--processes", processes), around, tmp_path / "log") as worker:
            worker.ready()
            hanging.server.kill()
            assert worker.says("Redis is away")
            stops_cleanly(worker)


class TestRepeatedSignals:
    def test_a_second_stop_signal_while_redis_hangs_is_clean(self, hanging, around, tmp_path):
        with heard_by_systemd(tmp_path) as systemd:
            around["NOTIFY_SOCKET"] = systemd.getsockname()
            with Child((*WORK, "--threads", "1"), around, tmp_path / "log") as worker:
                worker.ready()
                hanging.hang()
                worker.ask_to_stop()
                while systemd.recv(100) != b"STOPPING=1":
                    pass
                stops_cleanly(worker)

    @pytest.mark.parametrize("processes", ["1", "2"])
    def test_endless_stop_signals_still_end_cleanly(self, around, tmp_path, processes):
        with Child((*WORK, "--threads", "1", "--processes", processes), around, tmp_path / "log") as worker:
            worker.ready()

            def ended() -> bool:
                worker.ask_to_stop()
                return worker.code is not None

            assert wait_until(ended), worker.output
            assert worker.code == 0, worker.output
        is_clean(worker)

    def test_a_stop_is_not_lost_in_a_destructor(self):
        script = """
import os, signal
from scraperkit.cli.exits import stop_at_once

class Dying:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000):
            pass

stop_at_once()
Dying()
print("goes on")
"""
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    def test_an_endless_wait_does_not_hold_up_a_stop(self):
        script = """
import logging, threading
from scraperkit.cli.exits import stop_by_all_means

logging.basicConfig(format="%(message)s")
stop_by_all_means(0.1)
threading.Event().wait()
"""
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "something hangs; ending this process without it\n")


def catches_sigterm(pid: int) -> bool:
    """Return whether a process handles SIGTERM, by its mask in /proc."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:")).split()[1]
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


@contextlib.contextmanager
def heard_by_systemd(folder) -> Iterator[socket.socket]:
    """Yield a socket that receives what is sent to systemd."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(folder / "notify"))
        systemd.settimeout(60)
        yield systemd

"""Incomplete requests, unread responses and too many connections do not lock out other clients."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import pytest
from support.pricer import CNPJ, GatedSearch, command, pricer, served
from support.waiting import wait_until

from scraperkit.api import connections

HALF = b"GET /v1/funds HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Half: "
HALF_A_BODY = b"POST /v1/funds HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 60000\r\n\r\n{"
WHOLE = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def connected(url: str, first: bytes = b"") -> socket.socket:
    parts = urlsplit(url)
    found = socket.create_connection((parts.hostname, parts.port), timeout=60)
    found.sendall(first)
    return found


def is_open(connection: socket.socket) -> bool:
    """Return whether the other end is still connected; discard what it has sent."""
    connection.setblocking(False)
    try:
        while said := connection.recv(65_536):
            del said
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


@pytest.fixture
def _many_files() -> Iterator[None]:
    """Allow this process as many connections as the tests make."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("_many_files")
@pytest.mark.parametrize("half", [b"", HALF, HALF_A_BODY], ids=["nothing", "half a head", "half a body"])
def test_1100_half_requests_do_not_lock_out_other_clients(redis_url, namespace, half, tmp_path):
    """The process may open only 1,024 files, a usual limit."""
    given = os.environ | {"REDIS_URL": redis_url, "SCRAPERKIT_NAMESPACE": namespace}
    with contextlib.ExitStack() as stack:
        process, url = stack.enter_context(
            command("api", "--port", "0", environment=given | {"SCRAPERKIT_API_RECEIVE_TIMEOUT": "120"})
        )
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (1024, 1024))
        held = [stack.enter_context(connected(url, half)) for _ in range(1_100)]
        began = time.monotonic()
        for _ in range(3):
            response = httpx.get(f"{url}/v1/funds", timeout=60)
            assert response.status_code == 200
        assert time.monotonic() - began < 30
        assert wait_until(lambda: sum(map(is_open, held)) <= 512)
        assert sum(map(is_open, held)) > 400, "only as many ended as had to"
    assert "Too many open files" not in process.said


@pytest.mark.parametrize("half", [b"", HALF, HALF_A_BODY], ids=["nothing", "half a head", "half a body"])
def test_a_half_request_ends_after_its_timeout(redis_url, namespace, half):
    with served(redis_url, namespace, api_receive_timeout=1.0) as (url, _), connected(url, half) as connection:
        began = time.monotonic()
        said = b""
        while part := connection.recv(1000):
            said += part
        assert 0.9 < time.monotonic() - began < 30
        assert said.startswith(b"HTTP/1.1 408 "), said


@pytest.mark.parametrize("first", [HALF, HALF_A_BODY, WHOLE + HALF], ids=["head", "body", "next request"])
def test_a_request_that_drips_in_ends_after_its_timeout(redis_url, namespace, first):
    with served(redis_url, namespace, api_receive_timeout=1.0) as (url, _), connected(url, first) as connection:
        began = time.monotonic()

        def ended() -> bool:
            with contextlib.suppress(OSError):
                connection.sendall(b"a")
            return not is_open(connection)

        assert wait_until(ended)
        assert 0.9 < time.monotonic() - began < 30


def test_a_response_that_is_not_read_is_given_up(redis_url, namespace, monkeypatch):
    monkeypatch.setattr(connections, "STALLED_SECONDS", 1.0)
    page = b"GET /static-offline-docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with served(redis_url, namespace) as (url, server), socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect((urlsplit(url).hostname, urlsplit(url).port))
        reader.sendall(page * 20)
        assert wait_until(lambda: server.server_state.total_requests > 0)
        assert wait_until(lambda: not server.server_state.connections)
        assert server.server_state.total_requests < 20
        assert httpx.get(f"{url}/health", timeout=60).status_code == 200


def test_a_response_may_take_longer_than_a_request(redis_url, namespace):
    """This includes event streams, and later requests on the same connection."""
    source = GatedSearch()
    order = {"document": CNPJ, "from_date": "01/2022", "to_date": "03/2022"}
    with pricer(redis_url, namespace, source, api_receive_timeout=0.5) as api, ThreadPoolExecutor(1) as clients:
        asked = clients.submit(api.post, "/v1/funds", json=order)
        assert source.inside.acquire(timeout=60)
        with pytest.raises(TimeoutError):
            asked.result(timeout=1.5)
        source.gate.set()
        links = asked.result(timeout=60).json()["links"]
        with api.stream("GET", links["events"]) as events:
            began, lines = time.monotonic(), events.iter_lines()
            assert next(lines).startswith("event: progress")
            while time.monotonic() - began < 1.5:
                assert api.get("/health").status_code == 200
            api.delete(links["batch"])
            assert any(line.startswith("event: finished") for line in lines)


def test_a_connection_over_the_limit_is_refused_while_all_others_are_busy(redis_url, namespace):
    source = GatedSearch()
    order = {"document": CNPJ, "from_date": "01/2022", "to_date": "03/2022"}
    with served(redis_url, namespace, source, api_connections=8) as (url, _), ThreadPoolExecutor(8) as clients:
        asked = [clients.submit(httpx.post, f"{url}/v1/funds", json=order, timeout=60) for _ in range(8)]
        assert source.inside.acquire(timeout=60)

        def refused() -> bool:
            try:
                return httpx.get(f"{url}/health", timeout=60).status_code == 503
            except httpx.TransportError:  # it was closed before it had sent its request
                return True

        assert wait_until(refused)
        source.gate.set()
        assert [one.result(60).status_code for one in asked] == [202] * 8
        assert wait_until(lambda: not refused())


def test_connections_use_at_most_half_of_the_allowed_files():
    found = subprocess.run(
        [
            sys.executable,
            "-c",
            "import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (100, 100))\n"
            "from scraperkit.api.connections import Limits; from scraperkit.config import Settings\n"
            "print(Limits.of(Settings.load()).most)",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert found.stdout == "50\n"


@pytest.mark.usefixtures("_many_files")
def test_unread_responses_do_not_lock_out_other_clients(redis_url, namespace, caplog):
    """Clients request a public page again and again, over more connections than the limit."""
    asked = b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 100
    with served(redis_url, namespace, api_connections=8) as (url, server), contextlib.ExitStack() as stack:

        def unread() -> None:
            reader = stack.enter_context(socket.socket())
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.connect((urlsplit(url).hostname, urlsplit(url).port))
            reader.sendall(asked)

        def stalled() -> int:
            open_ones = list(server.server_state.connections)
            return sum(one.flow is not None and one.flow.write_paused for one in open_ones)  # no flow: just accepted

        for _ in range(8):
            unread()
        assert wait_until(lambda: stalled() == 8)
        for _ in range(3):
            assert httpx.get(f"{url}/health", timeout=60).status_code == 200
        for _ in range(30):
            unread()
        assert wait_until(lambda: stalled() == 8)
        assert len(server.server_state.connections) <= 8
        assert "Exception in ASGI application" not in caplog.text

"""The pricer under failures: no Redis, a slow site, clients that disconnect, and its own stop."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest
import redis as redis_py
from support.fakes import FakeSite
from support.pricer import CNPJ, COMMAND, FakeSearch, GatedSearch, command, fields, pricer, served
from support.waiting import wait_until

import scraperkit as sk
from scraperkit.api import batches
from scraperkit.api.running import PROBE_SECONDS, PROBES
from scraperkit.cli.exits import SOFTWARE
from scraperkit.config import Settings
from scraperkit.embedded.server import EmbeddedServer
from scraperkit.embedded.state import State
from scraperkit.models import Fund
from scraperkit.sources.politeness import Politeness

QUARTER = {"document": CNPJ, "from_date": "01/2022", "to_date": "03/2022"}
TOO_LATE = "timeout graceful shutdown exceeded"  # what uvicorn logs when it aborts a response


class Impatient(threading.Event):
    """Fail whoever waits for this event."""

    def wait(self, timeout: float | None = None) -> bool:
        raise AssertionError(f"waited for {timeout} s")


@pytest.fixture
def dying(tmp_path):
    """A Redis to kill."""
    with EmbeddedServer(tmp_path / "redis") as server:
        yield server


def dying_pid(server: EmbeddedServer) -> int:
    return State.load(server.folder).pid


class TestRedisAway:
    def test_without_redis_the_response_is_503_until_it_recovers(self, dying, namespace):
        with pricer(dying.url, namespace) as api:
            batch = api.post("/v1/funds", json=QUARTER).json()["batch_id"]
            asked = [
                ("POST", "/v1/funds", QUARTER),
                ("GET", "/v1/funds", None),
                ("GET", f"/v1/funds/{CNPJ}", None),
                ("GET", f"/v1/funds/{CNPJ}/prices", None),
                ("GET", f"/v1/batches/{batch}", None),
                ("GET", f"/v1/batches/{batch}/events", None),
                ("DELETE", f"/v1/batches/{batch}", None),
                ("GET", "/v1/stored/events", None),
                ("GET", "/v1/dead", None),
                ("POST", "/v1/dead/1-1/retry", None),
                ("GET", "/ready", None),
            ]
            dying.kill()
            for method, path, body in asked:
                response = api.request(method, path, json=body)
                assert response.status_code == 503, path
                assert fields(response) == []
                assert "Retry-After" in response.headers
                assert "127.0.0.1" not in response.text, "Redis's address is not for callers"
            assert api.get("/health").json() == {"status": "alive"}
            assert "scraperkit_up 0.0" in api.get("/metrics").text
            dying.restart()
            assert api.get("/v1/funds").status_code == 200
            assert api.post("/v1/funds", json=QUARTER).status_code == 202
            assert "scraperkit_up 1.0" in api.get("/metrics").text

    def test_a_pricer_may_start_before_redis(self, dying, namespace):
        url = dying.url
        dying.stop()
        with pricer(url, namespace) as api:
            assert api.get("/health").status_code == 200
            assert api.get("/v1/funds").status_code == 503
            assert "Redis does not respond" in api.get("/ready").json()["detail"]
            dying.start()
            assert wait_until(lambda: api.get("/v1/funds").status_code == 200)

    def test_without_redis_the_site_is_not_asked(self, dying, namespace):
        source = FakeSearch()
        with pricer(dying.url, namespace, source) as api:
            dying.kill()
            assert api.post("/v1/funds", json=QUARTER).status_code == 503
        assert source.asked == []


class TestRedisHangs:
    """Redis accepts connections but does not respond, as if its disk or machine hangs."""

    @pytest.mark.parametrize("connected", [True, False])
    def test_many_probes_are_answered_in_time_while_redis_hangs(self, dying, namespace, connected):
        hung = psutil.Process(dying_pid(dying))
        with pricer(dying.url, namespace) as api:
            if connected:
                assert api.get("/v1/funds").status_code == 200
            hung.suspend()
            try:
                with ThreadPoolExecutor(24) as clients:
                    for path, says in (("/ready", "Redis does not respond"), ("/metrics", "scraperkit_up 0.0")) * 2:
                        began = time.monotonic()
                        responses = list(clients.map(api.get, [path] * 12))
                        # One after another, they would take 12 times as long.
                        assert time.monotonic() - began < 6 * PROBE_SECONDS
                        assert all(says in response.text for response in responses)
                        assert {response.status_code for response in responses} == {503 if path == "/ready" else 200}
                threads = [thread.name for thread in threading.enumerate() if thread.name.startswith("probe")]
                assert len(threads) <= PROBES
                assert api.get("/health").status_code == 200
            finally:
                hung.resume()
            assert wait_until(lambda: "scraperkit_up 1.0" in api.get("/metrics").text)


class TestProbes:
    def test_ready_needs_redis_and_a_worker(self, redis, redis_url, namespace):
        with pricer(redis_url, namespace) as api:
            response = api.get("/ready")
            assert response.status_code == 503
            assert "no worker is alive" in response.json()["detail"]
            api.post("/v1/funds", json=QUARTER)
            site = FakeSite()
            with sk.Subscriber(redis, site, threads=1, namespace=namespace):
                assert api.get("/ready").json()["workers"] == 1
            assert api.get("/ready").status_code == 503

    def test_a_redis_without_timeseries_is_reported(self, redis_url, namespace, monkeypatch):
        execute = redis_py.Redis.execute_command

        def without_timeseries(self, *words, **options):
            return execute(self, *(("NO.SUCH.COMMAND",) if words[0] == "TS.QUERYINDEX" else words), **options)

        with pricer(redis_url, namespace) as api:
            monkeypatch.setattr(redis_py.Redis, "execute_command", without_timeseries)
            for _ in range(2):  # before the pricer first connects, and after
                response = api.get("/ready")
                assert response.status_code == 503
                assert "TimeSeries" in response.json()["detail"]
                monkeypatch.undo()
                assert wait_until(lambda: api.get("/v1/funds").status_code == 200)
                monkeypatch.setattr(redis_py.Redis, "execute_command", without_timeseries)

    def test_metrics_count_requests_by_route_and_describe_the_queue(self, redis_url, namespace):
        with pricer(redis_url, namespace) as api:
            api.post("/v1/funds", json=QUARTER)
            for path in (f"/v1/funds/{CNPJ}", "/v1/funds/9Z8Y7X6W01DE54", "/no/such/<page>", "/v1/funds?limit=0"):
                api.get(path)
            api.request("PROPFIND", "/health")
            text = api.get("/metrics").text
        for line in (
            'scraperkit_requests_total{method="POST",route="/v1/funds",status="202"} 1.0',
            'scraperkit_requests_total{method="GET",route="/v1/funds/{document}",status="200"} 1.0',
            'scraperkit_requests_total{method="GET",route="/v1/funds/{document}",status="404"} 1.0',
            'scraperkit_requests_total{method="GET",route="none",status="404"} 1.0',
            'scraperkit_request_seconds_count{route="/v1/funds/{document}"} 2.0',
            'scraperkit_queue_lag{source="cvm_pages"} 3.0',
            "scraperkit_queue_pending 0.0",
            "scraperkit_queue_retries 0.0",
            "scraperkit_dead_letters 0.0",
            "scraperkit_workers 0.0",
        ):
            assert line in text, text
        assert 'method="other"' in text
        assert CNPJ not in text
        assert "<page>" not in text
        assert "python_info" not in text, "another registry's"

    def test_two_apps_count_separately(self, redis_url, namespace):
        with pricer(redis_url, namespace) as one, pricer(redis_url, namespace) as two:
            one.get("/health")
            assert 'route="/health"' in one.get("/metrics").text
            assert 'route="/health"' not in two.get("/metrics").text


class TestSlowSite:
    """The site does not respond: only look-ups wait."""

    @pytest.fixture
    def source(self):
        source = GatedSearch()
        yield source
        source.gate.set()

    def test_a_slow_site_delays_neither_probes_nor_reads(self, redis, redis_url, namespace, source):
        cnpjs = ["99101011000125", "99101012000170", "99101013000114", "99101014000169", "99101015000103"]
        source.funds |= {cnpj: Fund(cnpj, "1") for cnpj in cnpjs}
        with sk.Subscriber(redis, FakeSite(), threads=1, namespace=namespace):
            with pricer(redis_url, namespace, source, api_lookups=2, api_threads=2) as api:
                with ThreadPoolExecutor(len(cnpjs)) as clients:
                    orders = [QUARTER | {"document": cnpj} for cnpj in cnpjs]
                    asked = [clients.submit(api.post, "/v1/funds", json=order) for order in orders]
                    for _ in range(2):
                        assert source.inside.acquire(timeout=60)
                    for path in ("/health", "/ready", "/metrics", "/v1/funds", "/v1/dead"):
                        assert api.get(path).status_code == 200, path
                    assert not any(response.done() for response in asked)
                    assert not source.inside.acquire(blocking=False), "more asked the site at once than may"
                    source.gate.set()
                    assert [response.result(60).status_code for response in asked] == [202] * len(cnpjs)

    def test_concurrent_look_ups_of_a_fund_cause_one_request(self, redis_url, namespace, source):
        with pricer(redis_url, namespace, source, api_lookups=4) as api, ThreadPoolExecutor(4) as clients:
            asked = [clients.submit(api.post, "/v1/funds", json=QUARTER) for _ in range(4)]
            assert source.inside.acquire(timeout=60)
            source.gate.set()
            assert [response.result(60).status_code for response in asked] == [202] * 4
        assert len(source.asked) == 1

    def test_too_many_waiting_look_ups_return_503(self, redis_url, namespace, source):
        with pricer(redis_url, namespace, source, api_lookups=1, api_queue=1) as api, ThreadPoolExecutor(3) as clients:
            asked = [clients.submit(api.post, "/v1/funds", json=QUARTER) for _ in range(3)]
            assert wait_until(lambda: any(response.done() for response in asked))
            (refused,) = [response.result() for response in asked if response.done()]
            assert refused.status_code == 503
            assert refused.json()["type"].endswith(":busy")
            source.gate.set()
            assert sorted(response.result(60).status_code for response in asked) == [202, 202, 503]

    def test_a_site_with_an_open_circuit_is_not_waited_for(self):
        settings = Settings.load(site_patience=100.0, rate=100.0)
        politeness = Politeness("http://site.example/", settings)
        assert politeness.wait(Impatient())
        politeness.pause(300)
        with pytest.raises(sk.errors.SiteUnavailable, match=r"site\.example .*try again in"):
            politeness.wait(Impatient())


class TestStreams:
    def test_polling_ends_when_the_client_disconnects(self, redis_url, namespace, monkeypatch):
        looks = []
        look = batches._progress
        monkeypatch.setattr(batches, "LOOK_EVERY", 0.01)
        monkeypatch.setattr(batches, "_progress", lambda *given, **how: looks.append(given) or look(*given, **how))
        with pricer(redis_url, namespace) as api:
            batch = api.post("/v1/funds", json=QUARTER).json()["batch_id"]
            with api.stream("GET", f"/v1/batches/{batch}/events") as response:
                lines = response.iter_lines()
                assert next(lines) == "event: progress"
                assert wait_until(lambda: len(looks) > 3)
            assert wait_until(lambda: _still(looks))

    def test_the_number_of_watchers_is_limited(self, redis_url, namespace, monkeypatch):
        monkeypatch.setattr(batches, "WATCHERS", 1)
        with pricer(redis_url, namespace) as api:
            path = f"/v1/batches/{api.post('/v1/funds', json=QUARTER).json()['batch_id']}/events"
            with api.stream("GET", path) as response:
                lines = response.iter_lines()
                assert next(lines) == "event: progress"
                assert api.get(path).status_code == 503
            assert wait_until(lambda: _status_of(api, path) == 200)

    def test_event_streams_end_when_the_server_stops(self, redis_url, namespace, caplog):
        with served(redis_url, namespace) as (url, server), httpx.Client(base_url=url, timeout=60) as api:
            batch = api.post("/v1/funds", json=QUARTER).json()["batch_id"]
            with api.stream("GET", f"/v1/batches/{batch}/events") as response:
                lines = response.iter_lines()
                assert next(lines) == "event: progress"
                server.should_exit = True
                rest = list(lines)
        assert not any(line.startswith("event: finished") for line in rest)
        assert TOO_LATE not in caplog.text


def _status_of(api, path: str) -> int:
    with api.stream("GET", path) as response:
        return response.status_code


def _still(looks: list) -> bool:
    seen = len(looks)
    time.sleep(0.1)  # ten polling intervals
    return len(looks) == seen


def _connections(url: str) -> bool:
    """Return whether any client is connected to a server on this machine."""
    port = int(url.split(":")[2].partition("/")[0])
    return any(found.raddr and found.raddr.port == port for found in psutil.net_connections("tcp4"))


class TestCommand:
    @pytest.fixture
    def environment(self, redis_url, namespace):
        return os.environ | {"REDIS_URL": redis_url, "SCRAPERKIT_NAMESPACE": namespace}

    def test_sigterm_ends_with_0_even_while_a_client_watches(self, environment, redis, namespace):
        batch = sk.Publisher(redis, namespace=namespace).publish(Fund(CNPJ, "1").months("2022-01", "2022-02"))
        with command("api", "--port", "0", environment=environment) as (process, url):
            assert re.fullmatch(r"http://127\.0\.0\.1:[0-9]+", url)
            with httpx.stream("GET", f"{url}/v1/batches/{batch.id}/events", timeout=60) as response:
                lines = response.iter_lines()
                assert next(lines) == "event: progress"
                process.send_signal(signal.SIGTERM)
                assert not any(line.startswith("event:") for line in lines)
                assert process.wait(60) == 0
        password = environment["REDIS_URL"].split("@")[0].rpartition(":")[2]
        assert "GET /v1/batches" in process.said
        assert TOO_LATE not in process.said
        assert password not in process.said

    def test_sigterm_ends_with_0_while_the_site_does_not_respond(self, environment):
        impatient = {"SCRAPERKIT_READ_TIMEOUT": "1", "SCRAPERKIT_CONNECT_TIMEOUT": "1"}
        with (
            command("replica", "--port", "0", "--latency", "60", environment=environment) as (_, site),
            command("api", "--port", "0", "--url", site, environment=environment | impatient) as (process, url),
            ThreadPoolExecutor(1) as clients,
        ):
            asked = clients.submit(httpx.post, f"{url}/v1/funds", json=QUARTER, timeout=60)
            assert wait_until(lambda: _connections(site))
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
            assert asked.result().status_code == 503

    def test_a_taken_port_ends_with_one_sentence_and_a_code_that_allows_a_restart(self, environment):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            ended = subprocess.run(
                [COMMAND, "api", "--port", port],
                env=environment,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        assert ended.returncode == SOFTWARE  # not the code of an invalid setting: the port may be free in a moment
        assert ended.stderr.count("\n") == 1
        assert f"127.0.0.1:{port}" in ended.stderr
        assert "--port" in ended.stderr

    def test_the_command_starts_without_redis_and_says_so(self, environment):
        with socket.create_server(("127.0.0.1", 0)) as closed:
            nobody = f"redis://:s3cret@127.0.0.1:{closed.getsockname()[1]}"
        with command("api", "--port", "0", environment=environment | {"REDIS_URL": nobody}) as (process, url):
            assert httpx.get(f"{url}/health", timeout=60).status_code == 200
            assert httpx.get(f"{url}/ready", timeout=60).status_code == 503
        assert "starting without Redis" in process.said
        assert "s3cret" not in process.said

    def test_any_asgi_server_can_serve_the_app(self, environment):
        words = [Path(COMMAND).parent / "uvicorn", "scraperkit.api:app", "--port", "0"]
        with subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True) as process:
            url = next(found[0] for line in process.stderr if (found := re.search(r"http://127\.0\.0\.1:[0-9]+", line)))
            assert httpx.get(f"{url}/v1/funds", timeout=60).json() == {"funds": [], "next": None}
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)

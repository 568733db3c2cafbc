"""What lies between the kit and a site: proxies, password files, redirects, and the clocks of other workers."""

from __future__ import annotations

import contextlib
import http.server
import os
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import trustme
from support.waiting import wait_until

from scraperkit.config import Settings
from scraperkit.errors import ConfigError, NotACvmPage, SiteUnavailable
from scraperkit.keys import Keys
from scraperkit.models import Fund
from scraperkit.replica import Replica
from scraperkit.sources import CvmPages
from scraperkit.sources.http import HttpClient
from scraperkit.sources.open_data import OpenData
from scraperkit.sources.politeness import Politeness
from scraperkit.sources.rates import rates
from scraperkit.sources.wire import Wire

CNPJ = "18993924000100"
ONCE = Settings(http_retries=0, max_attempts=1, breaker_failures=1000)
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


class Recorder:
    """A server, or proxy, that records each request's target and headers, and responds as the test specifies."""

    def __init__(self, respond: Callable[[str], tuple[int, dict[str, str]]] = lambda _: (200, {})) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        recorder = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                recorder.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                status, headers = (404, {}) if self.path.endswith("/robots.txt") else respond(self.path)
                self.send_response(status)
                for name, value in {**headers, "Content-Length": "4"}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(b"page")

            do_POST = do_CONNECT = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.host = f"127.0.0.1:{self._server.server_port}"
        self.url = f"http://{self.host}/"

    def __enter__(self) -> Recorder:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@contextlib.contextmanager
def client_of(url: str, **given: object) -> Iterator[HttpClient]:
    settings = Settings.load(**{"http_retries": 0, **given})
    client = HttpClient(settings, Politeness(url, settings))
    yield client
    client.close()


class TestAProxy:
    def test_is_bypassed_for_this_machine(self, monkeypatch):
        with Recorder() as proxy, Replica.start() as replica:
            for name in PROXIES[:3]:
                monkeypatch.setenv(name, proxy.url)
            with CvmPages(replica.url) as source:
                assert source.find_fund(CNPJ).pk == "132922"
            for host in ("localhost", "127.0.0.2", "[::1]"):
                with CvmPages(f"http://{host}:1/") as source, pytest.raises(SiteUnavailable) as caught:
                    source.find_fund(CNPJ)
                assert "proxy" not in str(caught.value)
        assert not proxy.asked

    def test_does_not_stop_the_commands_that_work_on_this_machine(self, tmp_path):
        dead = dict.fromkeys((*PROXIES[:3], *map(str.upper, PROXIES[:3])), "http://127.0.0.1:9/")
        environment = os.environ | dead | {"SCRAPERKIT_DATA": str(tmp_path), "NO_PROXY": "", "no_proxy": ""}
        demo = subprocess.run(
            [sys.executable, "-m", "scraperkit", "demo"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert demo.returncode == 0, demo.stderr
        with Replica.start() as replica:
            doctor = subprocess.run(
                [sys.executable, "-m", "scraperkit", "doctor"],
                env=environment | {"SCRAPERKIT_CVM_URL": replica.url},
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
        assert "returned HTTP 200" in doctor.stdout

    @pytest.mark.parametrize("status", [403, 502])
    def test_is_named_in_errors_without_its_password(self, monkeypatch, status):
        with Recorder(lambda _: (status, {})) as proxy:
            monkeypatch.setenv("HTTP_PROXY", f"http://me:hush@{proxy.host}")
            monkeypatch.setenv("http_proxy", f"http://me:hush@{proxy.host}")
            with CvmPages("http://cvm.invalid/", settings=ONCE) as source:
                with pytest.raises(
                    (NotACvmPage, SiteUnavailable), match=rf"(returns|HTTP) {status}.*NO_PROXY"
                ) as caught:
                    source.find_fund(CNPJ)
            assert f"the proxy http://{proxy.host} " in str(caught.value)
            assert "hush" not in str(caught.value)
            assert all(headers["proxy-authorization"].startswith("Basic ") for _, headers in proxy.asked)
            assert proxy.asked[0][0] == "http://cvm.invalid/robots.txt"

    def test_that_refuses_a_tunnel_is_named(self, monkeypatch):
        with Recorder(lambda _: (407, {})) as proxy:
            monkeypatch.setenv("https_proxy", proxy.host)
            with CvmPages("https://cvm.invalid/", settings=ONCE) as source, pytest.raises(SiteUnavailable) as caught:
                source.find_fund(CNPJ)
            assert f"through the proxy http://{proxy.host} " in str(caught.value)

    @pytest.mark.parametrize("host", ["localhost.", "a.localhost", "0.0.0.0", "[::ffff:127.0.0.1]", "[::]"])
    def test_is_bypassed_for_all_names_of_this_machine(self, monkeypatch, host):
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9/")
        assert not Wire(f"http://{host}:1/", connect_timeout=1, read_timeout=1).proxy

    @pytest.mark.parametrize(
        ("status", "headers"),
        [(200, {}), (302, {"Location": "http://login.invalid/"}), (302, {"Location": "/again"})],
        ids=["another page", "another host", "without end"],
    )
    def test_that_responds_in_the_sites_place_is_named(self, monkeypatch, status, headers):
        with Recorder(lambda _: (status, headers)) as proxy:
            monkeypatch.setenv("http_proxy", proxy.url)
            with CvmPages("http://cvm.invalid/", settings=ONCE) as source:
                for ask in (
                    lambda: source.find_fund(CNPJ),
                    lambda: source.fetch(Fund(CNPJ, "132922").months("2022-01", "2022-01")[0]),
                ):
                    source.politeness._rate = float("inf")
                    with pytest.raises((NotACvmPage, SiteUnavailable)) as caught:
                        ask()
                    assert str(caught.value).count(f"through the proxy http://{proxy.host} ") == 1
                    assert str(caught.value).count("[http://cvm.invalid/") == 1

    def test_is_bypassed_for_hosts_in_no_proxy(self, monkeypatch):
        with Recorder() as proxy:
            monkeypatch.setenv("http_proxy", proxy.url)
            monkeypatch.setenv("no_proxy", "cvm.invalid")
            with CvmPages("http://cvm.invalid/", settings=ONCE) as source, pytest.raises(SiteUnavailable):
                source.find_fund(CNPJ)
            assert not proxy.asked

    @pytest.mark.parametrize("address", ["http://me:hush@:bad", "http://me:hush@", "socks5://me:hush@127.0.0.1:9"])
    def test_with_an_invalid_address_is_refused_at_once(self, monkeypatch, address):
        monkeypatch.setenv("http_proxy", address)
        with pytest.raises(ConfigError, match="HTTP_PROXY") as caught:
            CvmPages("http://cvm.invalid/")
        assert "hush" not in str(caught.value)


def test_no_password_comes_from_a_netrc(monkeypatch, tmp_path):
    netrc = tmp_path / ".netrc"
    netrc.write_text("default login me password hush\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    with Recorder() as site:
        with CvmPages(site.url, settings=ONCE) as source, pytest.raises(NotACvmPage):
            source.find_fund(CNPJ)
        monkeypatch.setenv("NETRC", str(netrc))
        with CvmPages(site.url, settings=ONCE) as source, pytest.raises(NotACvmPage):
            source.find_fund(CNPJ)
        assert len(site.asked) == 4
        assert not any("authorization" in headers for _, headers in site.asked)
        # Credentials in the address itself are sent.
        with CvmPages(f"http://me:hush@{site.host}/", settings=ONCE) as source, pytest.raises(NotACvmPage):
            source.find_fund(CNPJ)
        assert site.asked[-1][1]["authorization"].startswith("Basic ")


class TestARedirect:
    def test_waits_for_its_turn_like_any_request(self):
        with Recorder(lambda _: (302, {"Location": "/again"})) as site, client_of(site.url, rate=20.0) as client:
            began = time.monotonic()
            with pytest.raises(SiteUnavailable, match="redirects without end"):
                client.get(site.url)
            assert len(site.asked) == 12
            assert time.monotonic() - began >= 11 / 20

    def test_to_another_host_is_refused(self):
        with Recorder() as other, Recorder(lambda _: (302, {"Location": f"{other.url}x?y"})) as site:
            with client_of(site.url) as client, pytest.raises(NotACvmPage) as caught:
                client.get(site.url)
            assert f"redirects to {other.url}x, another host" in str(caught.value)
            assert "SCRAPERKIT_CVM_URL" in str(caught.value)
            assert caught.value.retryable
            assert not other.asked

    def test_that_is_refused_names_the_setting_of_the_site_that_was_asked(
        self, redis, namespace, monkeypatch, tmp_path
    ):
        def asked_of_each(url: str) -> Iterator[tuple[str, Callable[[], object]]]:
            with CvmPages(url, settings=ONCE) as pages:
                yield "SCRAPERKIT_CVM_URL", lambda: pages.find_fund(CNPJ)
            for name, variable in (("cdi", "SCRAPERKIT_SGS_URL"), ("ibovespa", "SCRAPERKIT_B3_URL")):
                monkeypatch.setenv(variable, url)
                yield variable, lambda name=name: rates(name, "2022-01", "2022-01", redis=redis)

        monkeypatch.setenv("SCRAPERKIT_NAMESPACE", namespace)
        with Recorder(lambda _: (302, {"Location": "//cvm.invalid/x"})) as site:
            for variable, call in asked_of_each(site.url):
                with pytest.raises(NotACvmPage, match=f"another host.*set {variable}"):
                    call()
            with OpenData(site.url, archive=tmp_path, settings=ONCE) as market:
                (reason, *_) = market.download("2024-01", "2024-01", progress=False)["reason"]
            assert "set SCRAPERKIT_OPEN_DATA_URL" in reason

    @pytest.mark.parametrize("target", ["//cvm.invalid/x", "https://127.0.0.1/x", "gopher://x/", "http://[broken"])
    def test_to_any_other_site_is_refused(self, target):
        with (
            Recorder(lambda _: (301, {"Location": target})) as site,
            client_of(site.url) as client,
            pytest.raises(NotACvmPage, match="not followed"),
        ):
            client.get(site.url)

    @pytest.mark.parametrize(("status", "kept"), [(302, False), (303, False), (307, True), (308, True)])
    def test_keeps_a_form_if_its_status_says_so(self, status, kept):
        def respond(path: str) -> tuple[int, dict[str, str]]:
            return (200, {}) if path == "/there" else (status, {"Location": "there"})

        with Recorder(respond) as site, client_of(site.url) as client:
            page = client.get(f"{site.url}there")
            assert client.post(site.url, "a=b", page.cookies).url == f"{site.url}there"
            assert ("content-type" in site.asked[-1][1]) is kept


WORKER = """
import sys, threading, time

ahead, url, key = float(sys.argv[1]), sys.argv[2], sys.argv[3]
real = time.time
time.time = lambda: real() + ahead

from scraperkit.config import Settings
from scraperkit.connection import connect
from scraperkit.sources.politeness import Politeness
from scraperkit.sources.wire import Wire

redis = connect(url)
politeness = Politeness("http://127.0.0.1:1/", Settings.load(rate=20.0))
politeness.site = key
politeness.share(redis)
stopped = threading.Event()
taken = []

def take():
    while politeness.wait(stopped):
        taken.append(1)

redis.incr(key + ":ready")
while int(redis.get(key + ":ready")) < 2:
    time.sleep(0.01)
threads = [threading.Thread(target=take) for _ in range(8)]
for thread in threads:
    thread.start()
stopped.wait(3)
stopped.set()
for thread in threads:
    thread.join()
print(len(taken))
"""


def test_a_clock_that_is_seconds_off_starves_no_worker(redis, redis_url, namespace):
    """Two processes, one with a clock that is 3 s ahead, take turns at one site for 3 s."""
    site = f"{namespace}:site"
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER, str(ahead), redis_url, site], stdout=subprocess.PIPE, text=True)
        for ahead in (0, 3)
    ]
    try:
        taken = [int(worker.communicate(timeout=120)[0]) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
        redis.delete(Keys.turn(site), Keys.site(site))
    assert 30 <= sum(taken) <= 70
    assert min(taken) >= sum(taken) / 4, taken


def test_no_waiting_worker_is_promised_a_turn_far_ahead(redis, redis_url, namespace):
    """So a worker that dies takes hardly any turns with it."""
    politeness = Politeness("http://127.0.0.1:1/", Settings.load(rate=0.5))
    politeness.site = f"{namespace}:site"
    politeness.share(redis)
    turns = [politeness._next_turn(float("inf")) for _ in range(10)]
    assert [turn.is_promised for turn in turns] == [True, True, *[False] * 8]
    assert 1.5 < turns[1].seconds <= 2.0
    assert all(1.5 < turn.seconds <= 3.0 for turn in turns[2:]), "when the next but one can be promised"
    assert wait_until(lambda: 0 < redis.pttl(Keys.turn(politeness.site)) <= 62_000)
    redis.delete(Keys.turn(politeness.site))


def test_the_certificate_of_a_site_is_checked(monkeypatch, tmp_path):
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with Recorder() as site:
        site._server.socket = context.wrap_socket(site._server.socket, server_side=True)
        url = f"https://{site.host}/"
        with client_of(url) as client, pytest.raises(SiteUnavailable, match="the site's certificate"):
            client.get(url)
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
        with client_of(url) as client:
            assert client.get(url).content == b"page"

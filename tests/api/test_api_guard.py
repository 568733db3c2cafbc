"""Keys, hosts, rates, body sizes and browser headers of the pricer, and secrets that no log may contain."""

from __future__ import annotations

import asyncio
import hmac
import os
import re
import shutil
import stat
import subprocess
from types import SimpleNamespace

import httpx
import pytest
from limits.aio.storage import memory
from support.pricer import CNPJ, COMMAND, FakeSearch, command, fields, pricer
from support.waiting import wait_until

from scraperkit.api import create_app, ratelimit
from scraperkit.api.keyring import Keyring
from scraperkit.cli.exits import CONFIG
from scraperkit.config import Settings
from scraperkit.connection import connect
from scraperkit.embedded.server import EmbeddedServer
from scraperkit.errors import ConfigError

KEY, OTHER = "first-key-correct-horse", "second-key-battery-staple"
WITH_KEY = {"X-API-Key": KEY}


@pytest.fixture
def keys_file(tmp_path):
    path = tmp_path / "keys"
    path.write_text(f"# two, while one takes the other's place\n{KEY}  # old\n\n{OTHER}\n")
    return path


@pytest.fixture
def locked(redis_url, namespace, keys_file):
    """A pricer with two keys in a file."""
    with pricer(redis_url, namespace, api_keys_file=keys_file) as client:
        yield client


@pytest.fixture
def unlocked(redis_url, namespace):
    """A pricer without keys."""
    with pricer(redis_url, namespace) as client:
        yield client


class TestKeys:
    def test_each_key_is_accepted_in_either_header(self, locked):
        bearers = ({"Authorization": f"Bearer {OTHER}"}, {"Authorization": f"bearer {KEY}"})
        for header in (WITH_KEY, {"X-API-Key": OTHER}, *bearers):
            assert locked.get("/v1/funds", headers=header).status_code == 200, header

    def test_without_a_valid_key_every_path_returns_401(self, locked):
        wrong = [{"X-API-Key": key} for key in ("", KEY[:-1], f"{KEY},{OTHER}")]
        paths = ("/v1/funds", "/v1/dead", "/v1/nowhere", "/nowhere", "/metrics", f"/v1/funds/{CNPJ}/prices")
        for header in ({}, *wrong, {"Authorization": f"Basic {KEY}"}, {"X-API-Key": "ç".encode() * 20}):
            for path in paths:
                response = locked.get(path, headers=header)
                assert response.status_code == 401, (path, header)
                assert response.headers["WWW-Authenticate"].startswith("Bearer")
                assert fields(response) == ["X-API-Key"]

    def test_a_body_is_not_read_before_the_key(self, locked):
        assert locked.post("/v1/funds", content=b"{").status_code == 401

    def test_probes_and_documentation_need_no_key(self, locked):
        for path in ("/health", "/docs", "/openapi.json", "/static-offline-docs/swagger-ui.css"):
            assert locked.get(path).status_code == 200, path
        assert locked.get("/ready").status_code == 503

    def test_every_key_is_compared_in_constant_time(self, keys_file, monkeypatch):
        keyring = Keyring(Settings.load(api_keys_file=keys_file, api_keys="third-key-correct-horse"))
        compared = []
        compare = hmac.compare_digest
        monkeypatch.setattr(hmac, "compare_digest", lambda *pair: compared.append(pair) or compare(*pair))
        for key in (KEY, OTHER, "third-key-correct-horse", "wrong"):
            compared.clear()
            assert (keyring.owner(key) is None) == (key == "wrong")
            assert len(compared) == 3
            assert all(len(one) == len(other) == 32 for one, other in compared)

    def test_a_changed_key_file_is_read_again(self, locked, keys_file):
        new = "third-key-correct-horse"
        assert locked.get("/v1/funds", headers={"X-API-Key": new}).status_code == 401
        keys_file.write_text(new)
        assert locked.get("/v1/funds", headers={"X-API-Key": new}).status_code == 200
        assert locked.get("/v1/funds", headers=WITH_KEY).status_code == 401

    def test_an_emptied_key_file_admits_nobody(self, locked, keys_file):
        keys_file.write_text("# nobody\n")
        for header in ({}, WITH_KEY, {"X-API-Key": ""}):
            assert locked.get("/v1/funds", headers=header).status_code == 401

    @pytest.mark.parametrize("spoil", [lambda path: path.unlink(), lambda path: path.write_text("short")])
    def test_a_missing_or_invalid_key_file_keeps_the_previous_keys(self, locked, keys_file, spoil, caplog):
        spoil(keys_file)
        assert locked.get("/v1/funds", headers=WITH_KEY).status_code == 200
        assert "kept the previous API keys" in caplog.text
        assert "short" not in caplog.text

    @pytest.mark.parametrize(
        ("text", "says"),
        [("", "holds no key"), ("s3cret", "16 to 200"), ("s3cret s3cret s3cret", "16 to 200"), (None, "No such file")],
    )
    def test_an_invalid_key_file_is_refused_without_revealing_a_key(self, tmp_path, text, says):
        path = tmp_path / "keys"
        if text is not None:
            path.write_text(text)
        with pytest.raises(ConfigError, match=says) as refused:
            create_app(Settings.load(api_keys_file=path), source=FakeSearch())
        assert "s3cret" not in str(refused.value)

    def test_no_key_appears_in_a_repr_or_a_log(self, redis_url, keys_file):
        given = os.environ | {"REDIS_URL": redis_url, "SCRAPERKIT_API_KEYS": f"{KEY}, {OTHER}"}
        keys = (KEY, OTHER, "wrong-key-wrong-key")
        with command("api", "--port", "0", environment=given) as (process, url):
            for key in keys:
                httpx.get(f"{url}/v1/funds", headers={"X-API-Key": key}, timeout=60)
                httpx.get(f"{url}/v1/funds", headers={"Authorization": f"Bearer {key}"}, timeout=60)
        settings = Settings.load(api_keys=KEY, api_keys_file=keys_file)
        shown = process.said + repr(settings) + str(settings) + repr(Keyring(settings)) + repr(vars(Keyring(settings)))
        assert "GET /v1/funds" in shown
        assert not any(key in shown for key in keys)


class TestThisMachineAlone:
    """Without keys."""

    def test_without_keys_only_loopback_names_are_answered(self, unlocked):
        for host in ("127.0.0.1", "localhost", "localhost:8000", "[::1]:8000", "LOCALHOST"):
            assert unlocked.get("/v1/funds", headers={"Host": host}).status_code == 200, host
        for host in ("evil.example", "127.0.0.1.evil.example", "10.0.0.1", "", "localhost.", "a]b", "[:::"):
            for path in ("/v1/funds", "/health", "/docs"):
                response = unlocked.get(path, headers={"Host": host})
                assert response.status_code == 403, host
                assert fields(response) == ["Host"]

    def test_without_keys_only_loopback_addresses_are_answered(self, redis_url, namespace):
        app = create_app(Settings.load(namespace=namespace), redis_url=redis_url, source=FakeSearch())
        for server, status in ((("127.0.0.1", 80), 200), (("::1", 80), 200), (("10.0.0.1", 80), 403)):
            assert asyncio.run(_status(app, server)) == status
        named = Settings.load(namespace=namespace, api_hosts="localhost")
        assert asyncio.run(_status(create_app(named, redis_url=redis_url), ("10.0.0.1", 80))) == 403

    def test_only_configured_host_names_are_answered(self, redis_url, namespace, keys_file):
        with pricer(redis_url, namespace, api_keys_file=keys_file, api_hosts="pricer.example, pricer") as client:
            for host, path, status in (
                ("pricer.example", "/v1/funds", 200),
                ("PRICER:8000", "/v1/funds", 200),
                ("evil.example", "/v1/funds", 403),
                ("10.0.0.1:8000", "/health", 200),  # a probe uses the container's address
            ):
                assert client.get(path, headers=WITH_KEY | {"Host": host}).status_code == status, host

    def test_a_page_of_another_site_cannot_change_anything(self, unlocked):
        path = "/v1/dead/1-1/retry"
        for header in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
            response = unlocked.post(path, headers=header)
            assert response.status_code == 403
            assert fields(response) == ["Origin"]
        own = str(unlocked.base_url).rstrip("/")
        for header in ({"Origin": own, "Sec-Fetch-Site": "same-origin"}, {}):
            assert unlocked.post(path, headers=header).status_code == 404


async def _status(app, server) -> int:
    found = []
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/health",
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
    }
    scope |= {"asgi": {"version": "3.0"}, "http_version": "1.1", "server": server}

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        found.append(message.get("status"))

    await app(scope, receive, send)
    return found[0]


class TestRate:
    def test_all_pricers_of_a_redis_share_a_limit_for_each_key(self, redis_url, namespace, keys_file, monkeypatch):
        monkeypatch.setattr(ratelimit, "_TIMEOUT", 60.0)  # or a slow Redis counts as unreachable
        settings = {"api_keys_file": keys_file, "api_rate": 5}
        with pricer(redis_url, namespace, **settings) as one, pricer(redis_url, namespace, **settings) as two:
            for client in (one, two):  # the first call of each connects it
                assert client.get("/v1/funds", headers={"X-API-Key": OTHER}).status_code == 200
            statuses = [client.get("/v1/funds", headers=WITH_KEY).status_code for client in (one, two) * 3]
            assert statuses == [200] * 5 + [429]
            refused = one.get("/v1/funds", headers=WITH_KEY)
            assert 1 <= int(refused.headers["Retry-After"]) <= 60
            assert fields(refused) == []
            assert two.get("/v1/funds", headers={"X-API-Key": OTHER}).status_code == 200
            assert one.get("/health").status_code == 200

    def test_without_redis_each_pricer_counts_alone(self, tmp_path, namespace, keys_file, monkeypatch):
        # Without Redis, windows follow the clock; if a minute ended during the test, more requests would pass.
        monkeypatch.setattr(memory, "time", SimpleNamespace(time=lambda: 1_700_000_030.0))
        with EmbeddedServer(tmp_path / "redis") as server:
            with pricer(server.url, namespace, api_keys_file=keys_file, api_rate=5) as client:
                assert client.get("/v1/funds", headers=WITH_KEY).status_code == 200
                server.kill()
                statuses = [client.get("/v1/funds", headers=WITH_KEY).status_code for _ in range(5)]
        assert statuses == [503] * 4 + [429]

    def test_the_key_does_not_become_the_name_of_a_counter(self, redis, redis_url, namespace, keys_file):
        with pricer(redis_url, namespace, api_keys_file=keys_file, api_rate=50) as client:
            for _ in range(2):
                client.get("/v1/funds", headers=WITH_KEY)
        names = [name for name in redis.scan_iter("*scraperkit:rate*") if namespace in name]
        assert names
        assert not any(KEY in name for name in names)


class TestBodies:
    @pytest.mark.parametrize("chunked", [False, True])
    def test_a_body_that_is_too_long_returns_413_with_or_without_its_length(self, redis_url, namespace, chunked):
        body = b'{"document": "' + b"1" * 300 + b'"}'
        with pricer(redis_url, namespace, api_max_body=300) as client:
            content = iter([body[:100], body[100:]]) if chunked else body
            response = client.post("/v1/funds", content=content, headers={"Content-Type": "application/json"})
            assert response.status_code == 413
            assert fields(response) == []
            fits = client.post("/v1/funds", content=iter([b"{}"]), headers={"Content-Type": "application/json"})
            assert fits.status_code == 422

    def test_an_endless_body_is_not_buffered(self, unlocked):
        sent = 0

        def endless():
            nonlocal sent
            while sent < 2**30:
                sent += 65_536
                yield b"x" * 65_536

        try:
            response = unlocked.post("/v1/funds", content=endless(), headers={"Content-Type": "application/json"})
        except httpx.WriteError:
            response = None
        assert response is None or response.status_code == 413
        assert sent < 2**26, "the server continued to read"


class TestBrowsers:
    def test_responses_have_security_headers(self, unlocked):
        for path in ("/v1/funds", "/v1/funds/x", "/health", "/nowhere", "/docs", "/metrics"):
            headers = unlocked.get(path).headers
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["X-Frame-Options"] == "DENY"
            assert headers["Referrer-Policy"] == "no-referrer"
            assert headers["Cache-Control"] == "no-store"
            assert "default-src 'none'" in headers["Content-Security-Policy"]
            assert "Server" not in headers
            assert "Access-Control-Allow-Origin" not in headers

    def test_refusals_have_security_headers(self, locked):
        assert locked.get("/v1/funds").headers["X-Content-Type-Options"] == "nosniff"

    def test_the_documentation_needs_no_other_host(self, unlocked):
        page = unlocked.get("/docs").text
        assert "http://" not in page
        assert "https://" not in page
        assert "//" not in re.sub(r"<!--.*?-->", "", page).replace("</", "")
        files = re.findall(r'(?:src|href)="([^"]+)"', page)
        assert len(files) == 3
        for name in files:
            assert unlocked.get(f"/{name}").status_code == 200

    def test_the_documentation_works_in_a_browser_under_its_policy(self, unlocked):
        chromium = shutil.which("chromium")
        if chromium is None:
            pytest.skip("no chromium here")
        playwright = pytest.importorskip("playwright.sync_api")
        asked, said = [], []
        with playwright.sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page()
            page.set_default_timeout(120_000)
            page.on("request", lambda request: asked.append(request.url))
            page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
            page.goto(f"{unlocked.base_url}/docs")
            page.get_by_text("Request the months of one or several funds").wait_for()
            browser.close()
        assert not [url for url in asked if not url.startswith((str(unlocked.base_url), "data:"))]
        assert not said


class TestSettings:
    def test_listening_beyond_loopback_needs_keys(self, redis_url):
        for host in ("0.0.0.0", "::"):
            response = _refusal("--host", host, REDIS_URL=redis_url)
            assert response.count("\n") == 1
            assert "SCRAPERKIT_API_KEYS_FILE" in response

    def test_with_keys_any_address_is_allowed(self, redis_url, keys_file):
        keys_file.chmod(stat.S_IRUSR)
        given = os.environ | {"REDIS_URL": redis_url, "SCRAPERKIT_API_KEYS_FILE": str(keys_file)}
        with command("api", "--host", "0.0.0.0", "--port", "0", environment=given) as (_, url):
            port = url.rpartition(":")[2]
            assert (
                httpx.get(f"http://127.0.0.1:{port}/health", headers={"Host": "pricer"}, timeout=60).status_code == 200
            )
            assert httpx.get(f"http://127.0.0.1:{port}/v1/funds", headers=WITH_KEY, timeout=60).status_code == 200

    def test_an_invalid_setting_ends_with_one_sentence(self, redis_url, tmp_path):
        assert "cannot read" in _refusal(REDIS_URL=redis_url, SCRAPERKIT_API_KEYS_FILE=str(tmp_path / "nothing"))
        assert "REDIS_URL" in _refusal(REDIS_URL="http://me:s3cret@localhost")
        assert "namespace" in _refusal("--namespace", "a:b", REDIS_URL=redis_url)


def _refusal(*words: str, **changes: str) -> str:
    """Run the command, which must fail; return its stderr."""
    ended = subprocess.run(
        [COMMAND, "api", "--port", "0", *words],
        env=os.environ | changes,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == CONFIG, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "s3cret" not in ended.stderr
    assert ended.stdout == ""
    return ended.stderr


def test_connections_close_with_the_pricer(tmp_path, namespace):
    with EmbeddedServer(tmp_path / "redis") as server, connect(server.url) as redis:
        with pricer(server.url, namespace, api_keys=KEY) as client:
            assert client.get("/v1/funds", headers=WITH_KEY).status_code == 200
            assert len(redis.client_list()) > 1
        assert wait_until(lambda: len(redis.client_list()) == 1)


PROXIED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP", "Via", "X-Client-IP")

RARER = ("X-Forwarded", "X_Forwarded_For", "Client-IP", "X-Originating-IP", "X-Envoy-Peer-Metadata", "X-Amzn-Trace-Id")


class TestProxies:
    """A proxy on the same machine looks like a local caller."""

    @pytest.mark.parametrize("name", [*PROXIED, "CF-Connecting-IP", "True-Client-IP", *RARER])
    def test_without_keys_forwarded_requests_are_refused(self, unlocked, name):
        for value in ("203.0.113.9", "127.0.0.1", ""):
            for path in ("/v1/funds", "/health", "/ready", "/metrics", "/docs"):
                response = unlocked.get(path, headers={name: value})
                assert response.status_code == 403, (path, value)
                [field] = fields(response)
                assert field.lower() == name.lower()
                assert "SCRAPERKIT_API_KEYS_FILE" in response.json()["detail"]

    @pytest.mark.parametrize("name", PROXIED)
    def test_with_a_key_forwarded_requests_are_answered(self, locked, name):
        assert locked.get("/v1/funds", headers=WITH_KEY | {name: "203.0.113.9"}).status_code == 200

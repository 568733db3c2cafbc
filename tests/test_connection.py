"""connect(): what it accepts, what it refuses, and its messages, which never show a password."""

from __future__ import annotations

import asyncio
import inspect
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
import redis as redis_py
import redis.asyncio
import trustme
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import RedisCluster as AsyncRedisCluster
from redis.sentinel import Sentinel
from support.fakes import FUND, FakeSite
from support.ports import unused_port
from support.servers import redis_server

import scraperkit as sk
from scraperkit.config import Settings
from scraperkit.connection import async_client, check_client, connect, connection_kwargs, sibling
from scraperkit.errors import ConfigError, RedisUnreachable, TimeSeriesMissing
from scraperkit.failover.roles import AsyncPlainConnection
from scraperkit.sources.open_data import OpenData
from scraperkit.sources.politeness import Politeness
from scraperkit.timeseries.rows import RowReader

SECRET = "s3cret/#:@pass"
QUOTED = "s3cret%2F%23%3A%40pass"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory) -> Iterator[int]:
    """Yield the port of a server with TimeSeries and a password."""
    port = unused_port()
    with redis_server(tmp_path_factory.mktemp("guarded"), "--port", str(port), "--requirepass", SECRET):
        yield port


def takers() -> Iterator[tuple[str, Callable[..., object]]]:
    """Yield all public classes, methods and functions that take a client, by name."""
    errors = tuple(vars(sk.errors).values())
    named = {name: found for name in sk.__all__ if callable(found := getattr(sk, name)) and found not in errors}
    for name, owner in (named | {"Politeness": Politeness, "RowReader": RowReader}).items():
        public = [each for each in vars(owner) if inspect.isclass(owner) and not each.startswith("_")]
        methods = {f"{name}.{each}": method for each in public if callable(method := getattr(owner, each))}
        for found, taker in ({name: owner} | methods).items():
            if "redis" in inspect.signature(taker).parameters and not found.endswith(".unshare"):
                yield found, taker


TAKERS = dict(takers())
DAYS = {"start": "2022-01", "end": "2022-02"}
#: Their other arguments.
ARGUMENTS = {
    "Batch": {"batch_id": "0"},
    "Batch.find": {"batch_id": "0"},
    "Dashboard": {"subscriber": None},
    "OpenData.load": {"self": OpenData("http://127.0.0.1:9/", archive="an-empty-folder")},
    "Politeness.share": {"self": Politeness("http://127.0.0.1:9/", Settings.load())},
    "RowReader": {"advice": ""},
    "Subscriber": {"source": FakeSite()},
    "Worker": {"source": FakeSite()},
    "export": {"data": None, "path": "figures.csv"},
    "live_prices": {"funds": FUND.cnpj},
    "on_stored": {"callback": print},
    "prices": {"funds": FUND.cnpj, **DAYS},
    "quotes": {"funds": FUND.cnpj, **DAYS},
    "rates": {"name": "cdi"},
    "update": {"funds": FUND.cnpj},
}


def refusal(kind: type[Exception], url: str) -> str:
    """Return the message for a refused address; check that its traceback shows no password."""
    with pytest.raises(kind) as caught:
        connect(url)
    shown = "".join(traceback.format_exception(caught.value))
    assert SECRET not in shown
    assert QUOTED not in shown
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestEmbedded:
    def test_without_an_address_it_connects_to_the_embedded_server(self, redis_url, monkeypatch):
        monkeypatch.delenv("REDIS_URL", raising=False)
        with connect() as client:
            assert client.get_connection_kwargs()["port"] == urlsplit(redis_url).port
        monkeypatch.setenv("REDIS_URL", "")
        with connect() as client:
            assert client.get_connection_kwargs()["port"] == urlsplit(redis_url).port

    def test_the_client_has_the_options_of_the_kit(self, redis, redis_url):
        assert check_client(redis) is redis
        assert redis.client_getname() == "scraperkit"
        assert redis.client_info()["resp"] == "3"
        options = redis.get_connection_kwargs()
        assert (options["socket_connect_timeout"], options["socket_timeout"]) == (5.0, 15.0)
        assert redis.get_retry().get_retries() == 3
        assert urlsplit(redis_url).password not in repr(redis)

    def test_the_timeseries_commands_work(self, redis, namespace):
        redis.execute_command("TS.ADD", f"{namespace}:x", 1, 2.5)
        assert redis.execute_command("TS.GET", f"{namespace}:x") == [1, 2.5]


class TestAddresses:
    def test_the_environment_names_the_server(self, guarded, monkeypatch):
        monkeypatch.setenv("REDIS_URL", f"redis://:{QUOTED}@127.0.0.1:{guarded}")
        with connect() as client:
            assert client.ping()
            assert SECRET not in repr(client)

    def test_a_user_without_permission_to_probe_is_accepted(self, guarded):
        with connect(f"redis://:{QUOTED}@127.0.0.1:{guarded}/0") as client:
            client.acl_setuser("reader", enabled=True, passwords=["+" + SECRET], categories=["+@connection"])
        with connect(f"redis://reader:{QUOTED}@127.0.0.1:{guarded}") as client:
            assert client.ping()

    def test_the_address_of_a_unix_socket_is_accepted(self, tmp_path):
        with redis_server(tmp_path, "--port", "0", "--requirepass", SECRET):
            url = f"unix://{tmp_path}/ready.sock?password={QUOTED}"
            with connect(url) as client:
                assert client.ping()
                assert asyncio.run(ping(async_client(client)))
                with sibling(client) as other:
                    assert other.ping()
            assert str(tmp_path) in refusal(RedisUnreachable, f"unix://{tmp_path}/ready.sock?password=wrong")
            assert refusal(ConfigError, f"unix://{tmp_path}/ready.sock?db=1&password={QUOTED}")

    def test_tls_works_and_verifies_the_certificate(self, tmp_path):
        authority, port = trustme.CA(), unused_port()
        certificate = authority.issue_cert("localhost", "127.0.0.1")
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
        certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
        with redis_server(
            tmp_path,
            *("--port", "0", "--tls-port", str(port), "--tls-auth-clients", "no"),
            *("--tls-cert-file", str(tmp_path / "cert.pem"), "--tls-key-file", str(tmp_path / "key.pem")),
            *("--requirepass", SECRET),
        ):
            url = f"rediss://:{QUOTED}@127.0.0.1:{port}"
            with connect(f"{url}?ssl_ca_certs={tmp_path}/ca.pem") as client:
                assert client.ping()
                assert asyncio.run(ping(async_client(client)))
                with sibling(client) as other:
                    assert other.ping()
            assert "certificate verify failed" in refusal(RedisUnreachable, url)
            assert "no file" in refusal(ConfigError, f"{url}?ssl_ca_certs={tmp_path}/other.pem")
            assert f"127.0.0.1:{port}" in refusal(RedisUnreachable, f"redis://:{QUOTED}@127.0.0.1:{port}")

    @pytest.mark.parametrize("end", ["/1", "/0?db=2", "?db=1"])
    def test_another_database_is_refused(self, end):
        text = refusal(ConfigError, f"redis://:{QUOTED}@127.0.0.1:9{end}")
        assert "use database 0" in text
        assert "SCRAPERKIT_NAMESPACE" in text

    @pytest.mark.parametrize(
        "url",
        [
            f"http://:{QUOTED}@localhost:6379",
            "localhost:6379",
            f"redis://:{SECRET}@localhost:6379",
            f"redis://:{QUOTED}@localhost:x",
            f"redis://:{QUOTED}@localhost:99999999",
            f"redis://:{QUOTED}@[::1:6379",
            f"redis://:{QUOTED}@localhost?health_check_interval=x",
            "redis://:12/34@localhost",
            "redis://:12?34@localhost",
            "redis://me:12#34@localhost",
            "redis://localhost/zero",
            "redis://",
        ],
    )
    def test_an_invalid_address_is_refused(self, url):
        assert "write redis://host:6379" in refusal(ConfigError, url)

    @pytest.mark.parametrize("option", ["protocol=2", "decode_responses=False", "socket_timeout=1", "no_such=1"])
    def test_options_that_the_kit_sets_are_refused(self, option):
        text = refusal(ConfigError, f"redis://:{QUOTED}@localhost?{option}")
        assert "use only" in text
        assert option.split("=")[0] not in text


class TestRefusals:
    def test_an_address_without_a_server_is_refused(self):
        text = refusal(RedisUnreachable, f"redis://:{QUOTED}@127.0.0.1:1")
        assert "no Redis responds at 127.0.0.1:1" in text
        assert "docker compose up redis" in text
        assert "leave REDIS_URL unset" in text

    @pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "x" * 80 + ".invalid"])
    def test_an_unknown_host_is_refused(self, host):
        assert f"no Redis responds at {host}:6379" in refusal(RedisUnreachable, f"redis://:{QUOTED}@{host}")

    def test_a_wrong_password_is_refused(self, guarded):
        for user in ("", "nobody"):
            text = refusal(RedisUnreachable, f"redis://{user}:wrong-{QUOTED}@127.0.0.1:{guarded}")
            assert f"127.0.0.1:{guarded} rejected this user and password" in text
            assert "redis://:password@host:6379" in text

    def test_a_missing_password_is_refused(self, guarded):
        assert "requires a password" in refusal(RedisUnreachable, f"redis://127.0.0.1:{guarded}")

    def test_a_user_without_permission_to_ping_is_refused(self, guarded):
        with connect(f"redis://:{QUOTED}@127.0.0.1:{guarded}/0") as client:
            client.acl_setuser("nothing", enabled=True, passwords=["+" + SECRET], commands=["+hello", "+client"])
        text = refusal(RedisUnreachable, f"redis://nothing:{QUOTED}@127.0.0.1:{guarded}")
        assert "replied with an error" in text

    def test_a_server_without_timeseries_is_refused(self, tmp_path):
        port = unused_port()
        with redis_server(tmp_path, "--port", str(port), timeseries=False):
            text = refusal(TimeSeriesMissing, f"redis://127.0.0.1:{port}")
        assert f"127.0.0.1:{port} has no TimeSeries" in text
        assert "Redis 8 or redis-stack" in text
        assert "docker compose up redis" in text

    def test_a_server_that_is_not_redis_is_refused(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def respond() -> None:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(1000)
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

            thread = threading.Thread(target=respond)
            thread.start()
            text = refusal(RedisUnreachable, f"redis://:{QUOTED}@127.0.0.1:{listener.getsockname()[1]}")
            thread.join()
        assert "127.0.0.1" in text

    @pytest.mark.parametrize(
        ("error", "told"),
        [
            (redis_py.BusyLoadingError("LOADING"), "still loading its data"),
            (redis_py.TimeoutError(f"Timeout {SECRET}"), r"no Redis responds .*Timeout \*\*\*"),
            (redis_py.ConnectionError(), "no Redis responds .*ConnectionError"),
        ],
    )
    def test_the_error_of_redis_is_shown_without_the_password(self, error, told, monkeypatch):
        def fail(_client):
            raise error

        monkeypatch.setattr(redis_py.Redis, "ping", fail)
        with pytest.raises(AssertionError, match=told):
            raise AssertionError(refusal(RedisUnreachable, f"redis://:{QUOTED}@127.0.0.1:6379"))


class TestClients:
    @pytest.mark.parametrize(
        ("client", "told"),
        [
            (redis_py.Redis(decode_responses=True), "protocol=3"),
            (redis_py.Redis(protocol=2, decode_responses=True), "protocol=3"),
            (redis_py.Redis(protocol=3), "decode_responses=True"),
            (redis_py.Redis(protocol=3, decode_responses=True, db=1), "database 1"),
            (Sentinel([("localhost", 1)]).master_for("x", protocol=3, decode_responses=True), "Sentinel"),
            (redis.asyncio.Redis(protocol=3, decode_responses=True), "Redis client, got Redis"),
            ("redis://localhost", "got str"),
            (None, "got NoneType"),
        ],
    )
    def test_another_kind_of_client_is_refused(self, client, told):
        with pytest.raises(ConfigError, match=f"{told}.*make it with scraperkit.connect"):
            check_client(client)

    @pytest.mark.parametrize("case", ["database 1", "protocol=3", "decode_responses=True", "None", "Cluster"])
    @pytest.mark.parametrize("name", TAKERS)
    def test_an_unsuitable_client_is_refused_everywhere(self, redis, namespace, name, case):
        unfit = {
            "database 1": sibling(redis, db=1),
            "protocol=3": sibling(redis, protocol=2),
            "decode_responses=True": sibling(redis, decode_responses=False),
            "None": None,
            "Cluster": AsyncRedisCluster(host="127.0.0.1", port=9, protocol=3, decode_responses=True),
        }[case]
        take, arguments = TAKERS[name], ARGUMENTS.get(name, {})
        if unfit is None and inspect.signature(take).parameters["redis"].default is None:
            pytest.skip("without a client, it connects")
        way_out = "not in cluster mode" if case == "Cluster" else "make it with scraperkit.connect"
        with pytest.raises(ConfigError, match=f"redis: .*{case}.*{way_out}"):
            take(**arguments, redis=unfit)

    def test_a_plain_client_with_the_right_options_is_accepted(self):
        made = redis_py.Redis(protocol=3, decode_responses=True)
        assert check_client(made) is made
        assert connection_kwargs(made)["host"] == "localhost"
        patient = redis_py.Redis(protocol=3, decode_responses=True, socket_timeout=None)
        assert async_client(patient).get_connection_kwargs()["socket_timeout"] is None

    def test_an_asyncio_client_has_its_own_connections_and_no_retries(self, redis):
        other = async_client(redis, socket_timeout=3.0, client_name="worker-1")
        assert other.get_connection_kwargs()["socket_timeout"] == 3.0
        assert other.get_connection_kwargs()["retry"].get_retries() == 0
        assert other.get_connection_kwargs()["health_check_interval"] == 30

        async def names() -> tuple[str, int]:
            async with other:
                return await other.client_getname(), await other.client_id()

        name, number = asyncio.run(names())
        assert name == "worker-1"
        assert number != redis.client_id()
        assert redis.client_getname() == "scraperkit"

    @given(st.sampled_from(["GET", "CONFIG GET", b"TS.MADD"]), st.lists(st.text() | st.binary() | st.integers()))
    def test_an_asyncio_client_packs_commands_as_redis_py_does(self, command, words):
        own = AsyncPlainConnection().pack_command(command, *words)
        assert b"".join(own) == b"".join(redis.asyncio.Connection().pack_command(command, *words))

    def test_an_invalid_word_is_refused_as_redis_py_refuses_it(self):
        for connection in (AsyncPlainConnection(), redis.asyncio.Connection()):
            with pytest.raises(redis_py.DataError):
                connection.pack_command("SET", "key", None)

    def test_a_sibling_has_its_own_connections(self, redis):
        with sibling(redis, client_name="other") as other:
            assert other.client_id() != redis.client_id()
            assert other.client_getname() == "other"
            assert other.get_retry() == redis.get_retry()
            assert check_client(other) is other
        assert redis.ping()


async def ping(client: redis.asyncio.Redis) -> bool:
    async with client:
        return await client.ping()

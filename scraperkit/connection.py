"""Connect to Redis, and check once that the server has what the kit needs."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.connection import SSLConnection, UnixDomainSocketConnection, parse_url
from redis.credentials import CredentialProvider
from redis.exceptions import AuthenticationError, BusyLoadingError, NoPermissionError, ResponseError
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry
from redis.sentinel import SentinelConnectionPool

from scraperkit.config import Settings
from scraperkit.embedded import shared
from scraperkit.embedded.connections import AsyncEmbeddedConnection, EmbeddedConnection
from scraperkit.errors import ConfigError, RedisRefused, RedisUnreachable, TimeSeriesMissing, way_out_of
from scraperkit.failover.clusters import CLUSTER_SCHEMES, is_of_cluster, no_cluster, refuse_cluster
from scraperkit.failover.roles import (
    AsyncPlainConnection,
    AsyncSocketConnection,
    AsyncTlsConnection,
    Demoted,
    PlainConnection,
    SocketConnection,
    TlsConnection,
    where_to,
)
from scraperkit.failover.sentinels import (
    SENTINEL_SCHEMES,
    AsyncSentinelConnection,
    AsyncSentinelTlsConnection,
    SentinelAddress,
    SentinelConnection,
    Sentinels,
    SentinelTlsConnection,
)

CONNECT_TIMEOUT = 5.0
SOCKET_TIMEOUT = 15.0
CLIENT_NAME = "scraperkit"
_LONGEST_SECRET = 4096
_START_REDIS = "run `docker compose up redis`, or leave REDIS_URL unset for the embedded server"

_ADDRESS_OPTIONS = {"host", "port", "path", "db", "username", "password", "credential_provider"}
_TLS_OPTIONS = {
    "ssl_keyfile",
    "ssl_certfile",
    "ssl_cert_reqs",
    "ssl_ca_certs",
    "ssl_ca_path",
    "ssl_ca_data",
    "ssl_check_hostname",
    "ssl_password",
    "ssl_min_version",
    "ssl_ciphers",
    "ssl_include_verify_flags",
    "ssl_exclude_verify_flags",
}
_TUNING_OPTIONS = {
    "socket_timeout",
    "socket_connect_timeout",
    "socket_keepalive",
    "socket_keepalive_options",
    "health_check_interval",
    "client_name",
}
_URL_OPTIONS = _TLS_OPTIONS | {"socket_connect_timeout", "socket_keepalive", "max_connections"}
_DATABASE = re.compile(r"(/[0-9]*)?", re.ASCII)
_COPIED = _ADDRESS_OPTIONS | _TLS_OPTIONS | _TUNING_OPTIONS | {"embedded", "sentinels"}
# Only hosted clusters need maintenance notices, and with them redis-py does not detect stale connections.
_FIXED: dict[str, Any] = {
    "protocol": 3,
    "decode_responses": True,
    "maint_notifications_config": MaintNotificationsConfig(enabled=False),
}


# For each kind of address: redis-py's connection class, and the kit's for sync and asyncio clients.
_CONNECTIONS: tuple[tuple[type, type, type], ...] = (
    (EmbeddedConnection, EmbeddedConnection, AsyncEmbeddedConnection),
    (SentinelTlsConnection, SentinelTlsConnection, AsyncSentinelTlsConnection),
    (SentinelConnection, SentinelConnection, AsyncSentinelConnection),
    (UnixDomainSocketConnection, SocketConnection, AsyncSocketConnection),
    (SSLConnection, TlsConnection, AsyncTlsConnection),
    (redis.Connection, PlainConnection, AsyncPlainConnection),
)
_SYNC_CONNECTIONS = tuple(sync for _, sync, _ in _CONNECTIONS)


def connect(url: str | None = None) -> redis.Redis:
    """Return a Redis client after checking that the server has what the kit needs.

    Parameters
    ----------
    url : str, optional
        ``redis://``, ``rediss://`` (TLS; options such as ``?ssl_ca_certs=ca.pem``) or ``unix://``. Defaults to
        ``REDIS_URL``, and if that is unset, to the embedded server, which is started if it is not running. If
        ``REDIS_URL`` has no password, it is read from the file named in ``SCRAPERKIT_REDIS_PASSWORD_FILE``.

    Returns
    -------
    redis.Redis
        Safe to share between threads. Close it, or use it in a ``with`` block.

    Raises
    ------
    ConfigError
        If the address is invalid, or that of a Redis Cluster, or its database is not 0: the label index spans all
        databases.
    RedisUnreachable
        If the server does not respond, or the password is wrong.
    TimeSeriesMissing
        If the server has no ``TS.*`` commands.
    EmbeddedRedisError
        If the embedded server does not start.

    Examples
    --------
    >>> with connect() as redis:  # doctest: +SKIP
    ...     redis.ping()
    True
    """
    settings = Settings.load(redis_url=url)
    if not settings.redis_url:
        address = _options("REDIS_URL", shared.ensure(settings))
        client = _client({**address, "connection_class": EmbeddedConnection, "embedded": settings})
        # If the server has just crashed, its keeper restarts it before these tries run out.
        tries = Retry(ExponentialWithJitterBackoff(base=0.1, cap=1.0), 6)
        with sibling(client, retry=tries) as once:
            _check_server(once, shared.advice(settings))
        return client
    options = _options("REDIS_URL" if url is None else "url", settings.redis_url.get_secret_value())
    if url is None and settings.redis_password_file and not options.get("password"):
        options["credential_provider"] = PasswordFile(settings.redis_password_file, options.pop("username", None))
    client = _client(options)
    # Retrying a wrong address would only delay the error.
    with sibling(client, retry=Retry(NoBackoff(), 0)) as once:
        _check_server(once, _START_REDIS)
    return client


def check_client(client: Any) -> redis.Redis:
    """Return the client if the kit can work with it.

    Raises
    ------
    ConfigError
        If it does not use RESP3, does not decode replies, is bound to a database other than 0, or is for a Cluster.
    """
    make = "make it with scraperkit.connect(url)"
    if isinstance(client, redis.RedisCluster | redis.asyncio.RedisCluster):
        raise no_cluster(f"redis: a {type(client).__name__} client")
    if not isinstance(client, redis.Redis):
        raise ConfigError(f"redis: expected a redis.Redis client, got {type(client).__name__}; {make}")
    options = client.get_connection_kwargs()
    if isinstance(client.connection_pool, SentinelConnectionPool):
        raise ConfigError(f"redis: a Sentinel client; {make}, as in connect('redis+sentinel://host:26379/service')")
    if str(options.get("protocol")) != "3" or not options.get("decode_responses"):
        raise ConfigError(f"redis: the client needs protocol=3 and decode_responses=True; {make}")
    if int(options.get("db") or 0):
        raise ConfigError(f"redis: the client is bound to database {options['db']}, but must use 0; {make}")
    return client


def check_server(pool: Any) -> None:
    """Check that a pool's server is not a node of a Cluster, which would serve only its own series.

    The kit's own connections check this in their handshake. For redis-py's connections, this reads the server's reply
    to the handshake and sends nothing else.

    Raises
    ------
    ConfigError
        If it is one.
    """
    if not issubclass(pool.connection_class, _SYNC_CONNECTIONS):
        connection = pool.get_connection()
        try:
            refuse_cluster(connection.handshake_metadata, where_to(connection))
        finally:
            pool.release(connection)


def connection_kwargs(client: redis.Redis) -> dict[str, Any]:
    """Return the keyword arguments for another connection like this client's, sync or asyncio.

    Address, password, TLS and timeouts are copied; retries and pool size are not.
    """
    kept = client.connection_pool.connection_kwargs.items()
    return {**{name: value for name, value in kept if name in _COPIED}, **_FIXED}


def _connections_like(pool: Any) -> tuple[Any, Any]:
    """Return the kit's sync and asyncio connection classes for a pool's kind of address; every client gets its here."""
    _, *ours = next((row for row in _CONNECTIONS if issubclass(pool.connection_class, row[0])), _CONNECTIONS[-1])
    return ours[0], ours[1]


def async_client(client: redis.Redis, **overrides: Any) -> redis.asyncio.Redis:
    """Return an asyncio client with the same parameters, its own connections and no retries.

    Parameters
    ----------
    **overrides
        Arguments of ``redis.asyncio.Connection`` to override, for example ``socket_timeout``.
    """
    options = {**connection_kwargs(client), "retry": AsyncRetry(NoBackoff(), 0), **overrides}
    _, connection_class = _connections_like(client.connection_pool)
    return redis.asyncio.Redis.from_pool(redis.asyncio.ConnectionPool(connection_class, **options))


def sibling(client: redis.Redis, **overrides: Any) -> redis.Redis:
    """Return a client with the same parameters and retries, and its own connections.

    Parameters
    ----------
    **overrides
        Arguments of ``redis.Connection`` to override.
    """
    options = {**connection_kwargs(client), "retry": client.get_retry() or Retry(NoBackoff(), 0), **overrides}
    connection_class, _ = _connections_like(client.connection_pool)
    return redis.Redis.from_pool(redis.ConnectionPool(connection_class, **options))


def _options(name: str, url: str) -> dict[str, Any]:
    scheme = url.partition("://")[0].lower()
    if scheme in CLUSTER_SCHEMES:
        raise no_cluster(name)
    if scheme in SENTINEL_SCHEMES:
        return _behind_sentinels(name, url)
    try:
        parts = urlsplit(url)
        # An unencoded / or # or : in a password would be misparsed, and the rest of the password shown.
        if parts.scheme != "unix" and (not _DATABASE.fullmatch(parts.path) or parts.fragment or not parts.hostname):
            raise ValueError
        options = dict(parse_url(url))  # type: ignore[no-untyped-call]
    except ValueError:
        raise ConfigError(
            f"{name}: not a Redis address; write redis://host:6379, rediss://host:6379, unix:///path/to/socket or "
            "redis+sentinel://host:26379,host:26379/service"
        ) from None
    if not set(options) <= _URL_OPTIONS | _ADDRESS_OPTIONS | {"connection_class"}:
        raise ConfigError(f"{name}: unsupported option after '?'; use only {', '.join(sorted(_URL_OPTIONS))}")
    for option in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"):
        if option in options and not Path(options[option]).is_file():
            raise ConfigError(f"{name}: {option}: no file {options[option]}; correct the path")
    if options.get("db"):
        raise ConfigError(
            f"{name}: database {options['db']} is not supported because the label index spans all databases; "
            "use database 0, and set SCRAPERKIT_NAMESPACE to keep data apart"
        )
    return options


def _behind_sentinels(name: str, url: str) -> dict[str, Any]:
    """Return the options for an address that names sentinels: the server's options and the sentinels to ask."""
    try:
        address = SentinelAddress.parse(url)
    except ValueError as error:
        raise ConfigError(f"{name}: {error}; write redis+sentinel://host:26379,host:26379/service") from None
    options = _options(name, address.server_url)
    sentinels = Sentinels(address, {key: value for key, value in options.items() if key in _TLS_OPTIONS})
    kind = SentinelTlsConnection if address.is_tls else SentinelConnection
    return options | {"connection_class": kind, "sentinels": sentinels}


def _client(options: dict[str, Any]) -> redis.Redis:
    pool = redis.ConnectionPool(
        **{
            "socket_connect_timeout": CONNECT_TIMEOUT,
            "socket_timeout": SOCKET_TIMEOUT,
            "client_name": CLIENT_NAME,
            "health_check_interval": 30,
            "retry": Retry(ExponentialWithJitterBackoff(base=0.05, cap=1.0), 3),
            **options,
            **_FIXED,
        }
    )
    pool.connection_class, _ = _connections_like(pool)
    return redis.Redis.from_pool(pool)


def _check_server(client: redis.Redis, ways_out: str) -> None:
    where = address_of(client)
    try:
        client.ping()
    except ConfigError:
        raise
    except (redis.RedisError, OSError, ValueError) as error:
        raise RedisUnreachable(f"{_why(client, error, where)}; {ways_out}") from None
    try:
        client.execute_command("TS.QUERYINDEX", "scraperkit.probe=1")  # type: ignore[no-untyped-call]
    except NoPermissionError:
        # The server looks up a command before it checks permissions, so TS.* exists.
        return
    except redis.RedisError as error:
        if "unknown command" not in str(error).lower():
            raise RedisUnreachable(f"{_why(client, error, where)}; {ways_out}") from None
        raise TimeSeriesMissing(
            f"Redis at {where} has no TimeSeries; use Redis 8 or redis-stack there, {ways_out}"
        ) from None


@contextmanager
def redis_needed() -> Iterator[None]:
    """Turn redis-py's errors into the kit's own; a context manager and decorator for every public call.

    Raises
    ------
    RedisUnreachable
        If Redis does not respond.
    RedisRefused
        If it responds with an error.
    ConfigError
        If it responds like a node of a Cluster.
    """
    try:
        yield
    except Demoted as error:
        raise RedisRefused(f"Redis refused: {error}{way_out_of(error)}") from error
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise RedisUnreachable(
            f"Redis went away: {str(error).rstrip('.')}; check that it is running, then try again"
        ) from error
    except redis.RedisError as error:
        if is_of_cluster(error):
            raise no_cluster("redis") from error
        raise RedisRefused(f"Redis refused: {str(error).rstrip('.')}{way_out_of(error)}") from error


def is_no_group(error: redis.ResponseError) -> bool:
    """Return whether the stream or its group does not exist yet."""
    return str(error).startswith(("NOGROUP", "ERR no such key", "no such key"))


def address_of(client: redis.Redis) -> str:
    """Return a client's host and port, its socket path, or its service and sentinels; never the password."""
    options = client.get_connection_kwargs()
    if sentinels := options.get("sentinels"):
        return str(sentinels)
    return str(options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}")


def _why(client: redis.Redis, error: Exception, where: str) -> str:
    options = client.get_connection_kwargs()
    password, file = options.get("password"), options.get("credential_provider")
    if isinstance(error, AuthenticationError):
        if isinstance(file, PasswordFile):
            return f"Redis at {where} rejected the password from {file!r}"
        refused = "rejected this user and password" if password else "requires a password"
        return f"Redis at {where} {refused}; write redis://:password@host:6379 with special characters %-encoded"
    if isinstance(error, BusyLoadingError):
        return f"Redis at {where} is still loading its data; try again in a moment"
    if isinstance(error, ResponseError):
        return f"Redis at {where} replied with an error: {_redacted(error, password or file)}"
    return f"no Redis responds at {where}: {_redacted(error, password or file)}"


def _redacted(error: Exception, password: Any) -> str:
    text = str(error).rstrip(".") or type(error).__name__
    if isinstance(password, PasswordFile):
        return password.redacted(text)
    return text.replace(str(password), "***") if password else text


def read_secret(path: Path, setting: str) -> str:
    r"""Return the secret in a one-line file.

    Parameters
    ----------
    path : Path
        The file; surrounding white space is stripped.
    setting : str
        The setting that names the file, for error messages.

    Raises
    ------
    ConfigError
        If the file cannot be read, is empty, or has more than one line. Never shows its contents.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile("w+") as file:
    ...     _ = file.write("correct horse\n"), file.flush()
    ...     read_secret(Path(file.name), "SCRAPERKIT_REDIS_PASSWORD_FILE")
    'correct horse'
    """
    try:
        with path.open("rb") as file:
            text = file.read(_LONGEST_SECRET + 1).decode("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError(f"{setting}: cannot read {path}: {reason}") from None
    if not text or len(text) > _LONGEST_SECRET or len(text.splitlines()) > 1:
        raise ConfigError(f"{setting}: {path} must contain one line: the secret")
    return text


class PasswordFile(CredentialProvider):
    """Credential provider that rereads a password file for each connection, so a new password needs no restart.

    Parameters
    ----------
    path : Path
        The file.
    username : str, optional
        The Redis user; the default user if omitted.

    Raises
    ------
    ConfigError
        If the file cannot be read at construction. Later, the last known password is used while it cannot be read.
    """

    def __init__(self, path: Path, username: str | None = None) -> None:
        self._path = path
        self._username = username or "default"
        self._password = read_secret(path, "SCRAPERKIT_REDIS_PASSWORD_FILE")

    def get_credentials(self) -> tuple[str, str]:
        """Return user and password."""
        with contextlib.suppress(ConfigError):
            self._password = read_secret(self._path, "SCRAPERKIT_REDIS_PASSWORD_FILE")
        return self._username, self._password

    async def get_credentials_async(self) -> tuple[str, str]:
        """Return user and password; reading one line does not block noticeably."""
        return self.get_credentials()

    def redacted(self, text: str) -> str:
        """Return the text with the password masked."""
        return text.replace(self._password, "***")

    def __repr__(self) -> str:
        return f"PasswordFile({str(self._path)!r}, {self._username!r})"

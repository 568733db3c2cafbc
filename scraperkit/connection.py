"""Connect to Redis: one client, checked once for what the kit needs."""

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
from scraperkit.errors import ConfigError, RedisUnreachable, TimeSeriesMissing

CONNECT_TIMEOUT = 5.0
SOCKET_TIMEOUT = 15.0
CLIENT_NAME = "scraperkit"
_LONGEST_SECRET = 4096
_WAYS_OUT = "run `docker compose up redis`, or leave REDIS_URL unset for the embedded server"

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
_COPIED = _ADDRESS_OPTIONS | _TLS_OPTIONS | _TUNING_OPTIONS
# Maintenance notices concern a hosted cluster; with them, redis-py no longer notices a connection that went stale.
_FIXED: dict[str, Any] = {
    "protocol": 3,
    "decode_responses": True,
    "maint_notifications_config": MaintNotificationsConfig(enabled=False),
}


def connect(url: str | None = None) -> redis.Redis:
    """Return a client for Redis, after a look at whether the server has what the kit needs.

    Parameters
    ----------
    url : str, optional
        ``redis://``, ``rediss://`` (TLS; options such as ``?ssl_ca_certs=ca.pem``) or ``unix://``. Left out,
        ``REDIS_URL`` decides, and without that the embedded server is used, and started where need be. A ``REDIS_URL``
        without a password takes it from the file that ``SCRAPERKIT_REDIS_PASSWORD_FILE`` names.

    Returns
    -------
    redis.Redis
        It may be shared by threads. Close it, or use it in a ``with`` block.

    Raises
    ------
    ConfigError
        If the address cannot be read, or names another database than 0: the index of labels spans all of them.
    RedisUnreachable
        If nobody answers there, or the password is wrong.
    TimeSeriesMissing
        If the server has no ``TS.*`` commands.
    EmbeddedRedisError
        If the embedded server is used and does not start.

    Examples
    --------
    >>> with connect() as redis:  # doctest: +SKIP
    ...     redis.ping()
    True
    """
    settings = Settings.load(redis_url=url)
    if not settings.redis_url:
        client = _client(_options("REDIS_URL", shared.ensure(settings)))
        # Its keeper brings it back in less than these tries take, should it have crashed just now.
        tries = Retry(ExponentialWithJitterBackoff(base=0.1, cap=1.0), 6)
        with sibling(client, retry=tries) as once:
            _check_server(once, f"that is the embedded server: see {shared.status(settings).log}")
        return client
    options = _options("REDIS_URL" if url is None else "url", settings.redis_url.get_secret_value())
    if url is None and settings.redis_password_file and not options.get("password"):
        options["credential_provider"] = PasswordFile(settings.redis_password_file, options.pop("username", None))
    client = _client(options)
    # One try: to wait for a wrong address four times helps nobody.
    with sibling(client, retry=Retry(NoBackoff(), 0)) as once:
        _check_server(once, _WAYS_OUT)
    return client


def check_client(client: Any) -> redis.Redis:
    """Return the client if it is one that the kit can work with.

    Raises
    ------
    ConfigError
        If it was made with another protocol than RESP3, does not decode replies, or is bound to another database.
    """
    make = "make it with scraperkit.connect(url)"
    if not isinstance(client, redis.Redis):
        raise ConfigError(f"redis: expected a redis.Redis client, got {type(client).__name__}; {make}")
    options = client.get_connection_kwargs()
    if isinstance(client.connection_pool, SentinelConnectionPool):
        raise ConfigError(f"redis: a client of Redis Sentinel does not fit; {make}")
    if str(options.get("protocol")) != "3" or not options.get("decode_responses"):
        raise ConfigError(f"redis: the client needs protocol=3 and decode_responses=True; {make}")
    if int(options.get("db") or 0):
        raise ConfigError(f"redis: the client is bound to database {options['db']}, the kit needs database 0; {make}")
    return client


def connection_kwargs(client: redis.Redis) -> dict[str, Any]:
    """Return the keyword arguments that make another client like this one, for ``Redis`` of redis or redis.asyncio.

    Address, password, TLS and timeouts are taken over; retries and the size of the pool are not.
    """
    pool = client.connection_pool
    kept = {name: value for name, value in pool.connection_kwargs.items() if name in _COPIED}
    if issubclass(pool.connection_class, UnixDomainSocketConnection):
        kept["unix_socket_path"] = kept.pop("path")
    elif issubclass(pool.connection_class, SSLConnection):
        kept["ssl"] = True
    return {**kept, **_FIXED}


def async_client(client: redis.Redis, **overrides: Any) -> redis.asyncio.Redis:
    """Return an asyncio client with this one's parameters, connections of its own, and no retries.

    Parameters
    ----------
    **overrides
        Arguments of ``redis.asyncio.Redis`` that are to differ, for example ``socket_timeout``.
    """
    return redis.asyncio.Redis(**{**connection_kwargs(client), "retry": AsyncRetry(NoBackoff(), 0), **overrides})


def sibling(client: redis.Redis, **overrides: Any) -> redis.Redis:
    """Return a client with this one's parameters and retries, and connections of its own.

    Parameters
    ----------
    **overrides
        Arguments of ``redis.Redis`` that are to differ.
    """
    retry = client.get_retry() or Retry(NoBackoff(), 0)
    return redis.Redis(**{**connection_kwargs(client), "retry": retry, **overrides})


def _options(name: str, url: str) -> dict[str, Any]:
    try:
        parts = urlsplit(url)
        # What follows an unencoded / or # or : in a password would be taken for something else, and shown.
        if parts.scheme != "unix" and (not _DATABASE.fullmatch(parts.path) or parts.fragment or not parts.hostname):
            raise ValueError
        options = dict(parse_url(url))  # type: ignore[no-untyped-call]
    except ValueError:
        raise ConfigError(
            f"{name}: not an address of Redis; write redis://host:6379, rediss://host:6379 or unix:///path/to/socket"
        ) from None
    if not set(options) <= _URL_OPTIONS | _ADDRESS_OPTIONS | {"connection_class"}:
        raise ConfigError(f"{name}: only these options fit after the question mark: {', '.join(sorted(_URL_OPTIONS))}")
    for option in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"):
        if option in options and not Path(options[option]).is_file():
            raise ConfigError(f"{name}: {option}: there is no file {options[option]}")
    if options.get("db"):
        raise ConfigError(
            f"{name}: database {options['db']} does not fit, use database 0 "
            "(the index of labels spans all databases); a namespace of your own keeps data apart: SCRAPERKIT_NAMESPACE"
        )
    return options


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
    return redis.Redis.from_pool(pool)


def _check_server(client: redis.Redis, ways_out: str) -> None:
    where = address_of(client)
    try:
        client.ping()
    except (redis.RedisError, OSError, ValueError) as error:
        raise RedisUnreachable(f"{_why(client, error, where)}; {ways_out}") from None
    try:
        client.execute_command("TS.QUERYINDEX", "scraperkit.probe=1")  # type: ignore[no-untyped-call]
    except NoPermissionError:
        # The server looks a command up before it looks at the user's rights: TS.* is there.
        return
    except redis.RedisError as error:
        if "unknown command" not in str(error).lower():
            raise RedisUnreachable(f"{_why(client, error, where)}; {ways_out}") from None
        raise TimeSeriesMissing(
            f"Redis at {where} has no TimeSeries; use Redis 8 or redis-stack there, {ways_out}"
        ) from None


@contextmanager
def redis_needed() -> Iterator[None]:
    """Turn the errors of a Redis that is away into one of the kit's; a context, or a decorator.

    Raises
    ------
    RedisUnreachable
        If Redis does not answer.
    """
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise RedisUnreachable(
            f"Redis went away: {str(error).rstrip('.')}; check that it runs, then do this again"
        ) from error


def address_of(client: redis.Redis) -> str:
    """Return host and port of a client, or the path of its socket; never the password."""
    options = client.get_connection_kwargs()
    return str(options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}")


def _why(client: redis.Redis, error: Exception, where: str) -> str:
    options = client.get_connection_kwargs()
    password, file = options.get("password"), options.get("credential_provider")
    if isinstance(error, AuthenticationError):
        if isinstance(file, PasswordFile):
            return f"Redis at {where} refuses the password of {file!r}"
        refused = "refuses this user and password" if password else "asks for a password"
        return f"Redis at {where} {refused}; write it as in redis://:password@host:6379, special characters %-encoded"
    if isinstance(error, BusyLoadingError):
        return f"Redis at {where} is still loading its data; try again in a moment"
    if isinstance(error, ResponseError):
        return f"Redis at {where} answers with an error: {_redacted(error, password or file)}"
    return f"nobody answers at {where}: {_redacted(error, password or file)}"


def _redacted(error: Exception, password: Any) -> str:
    text = str(error).rstrip(".") or type(error).__name__
    if isinstance(password, PasswordFile):
        return password.redacted(text)
    return text.replace(str(password), "***") if password else text


def read_secret(path: Path, setting: str) -> str:
    r"""Return the one line that a file holds.

    Parameters
    ----------
    path : Path
        The file; white space around the line does not count.
    setting : str
        The setting that names the file, for the error.

    Raises
    ------
    ConfigError
        If the file cannot be read, is empty, or holds more than one line. Never tells what it holds.

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
        raise ConfigError(f"{setting}: {path} must hold one line, the secret itself")
    return text


class PasswordFile(CredentialProvider):
    """Gives Redis the password that a file holds at that moment: a new one needs no restart.

    Parameters
    ----------
    path : Path
        The file.
    username : str, optional
        The user of Redis; left out, its default user.

    Raises
    ------
    ConfigError
        If the file cannot be read now. Later, while it is being replaced, the last known password serves.
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
        """Return user and password; a file of one line blocks nobody."""
        return self.get_credentials()

    def redacted(self, text: str) -> str:
        """Return a text without the password."""
        return text.replace(self._password, "***")

    def __repr__(self) -> str:
        return f"PasswordFile({str(self._path)!r}, {self._username!r})"

"""Every setting and its environment variable."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import platformdirs
from pydantic import AliasChoices, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from scraperkit.errors import ConfigError
from scraperkit.keys import DEFAULT_NAMESPACE, DEFAULT_SOURCE
from scraperkit.text import in_words

__version__ = "0.1.0"
CVM_URL = "https://cvmweb.cvm.gov.br/SWB/Sistemas/SCW/CPublica/"
OPEN_DATA_URL = "https://dados.cvm.gov.br/dados/FI/"
SGS_URL = "https://api.bcb.gov.br/dados/serie/"
B3_URL = "https://sistemaswebb3-listados.b3.com.br/indexStatisticsProxy/IndexCall/"
# Seconds. Redis measures in milliseconds, and neither Redis nor a timer supports an infinite wait.
_SHORTEST = 0.001
_LONGEST = 100 * 366 * 86_400
Seconds = Annotated[float, Field(le=_LONGEST)]


class Settings(BaseSettings):
    """Settings, read from the environment: ``SCRAPERKIT_<NAME>``, and ``REDIS_URL`` for the server.

    Examples
    --------
    >>> Settings.load(threads=2).threads
    2
    """

    model_config = SettingsConfigDict(
        env_prefix="SCRAPERKIT_", frozen=True, extra="ignore", hide_input_in_errors=True, populate_by_name=True
    )

    redis_url: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("REDIS_URL", "redis_url"),
        description="redis://, rediss://, unix:// or redis+sentinel:// address; the embedded server is used if unset",
    )
    redis_password_file: Path | None = Field(
        None, description="file with the password for a REDIS_URL that has none; reread for each connection"
    )
    namespace: str = Field(DEFAULT_NAMESPACE, description="prefix of every key, and the consumer group's name")
    data: Path = Field(
        default_factory=lambda: Path(platformdirs.user_data_dir("scraperkit", appauthor=False)),
        description="where the embedded server keeps its data",
    )
    cache: Path = Field(
        default_factory=lambda: Path(platformdirs.user_cache_dir("scraperkit", appauthor=False)),
        description="where the embedded server's binary is cached",
    )
    offline: bool = Field(
        False, description="whether the addresses are those of the offline site: figures are invented"
    )
    cvm_url: str = Field(CVM_URL, description="address of the regulator's pages")
    open_data_url: str = Field(OPEN_DATA_URL, description="address of the regulator's open data about funds")
    sgs_url: str = Field(SGS_URL, description="address of the Banco Central's time series (SGS)")
    b3_url: str = Field(B3_URL, description="address of B3's index statistics")
    archive: Path | None = Field(
        None, description="folder of the archive of the open data; `open_data` in the data folder if unset"
    )

    source: str = Field(DEFAULT_SOURCE, description="source that commands use: `cvm_pages` or `open_data`")

    log_format: Literal["text", "json"] = Field(
        "text", description="how `scraperkit work` and `scraperkit api` log: `text`, or `json` for one object a line"
    )
    threads: int = Field(8, ge=1, le=256, description="scraping threads per worker")
    prefetch: int = Field(384, ge=0, le=10_000, description="jobs that a worker may hold beyond one per thread")
    lease: Seconds = Field(
        60.0, ge=_SHORTEST, description="seconds until a job's lease expires unless its worker renews it"
    )
    heartbeat: Seconds = Field(
        1.0,
        ge=_SHORTEST,
        description="seconds between heartbeats; a worker that misses three counts as dead, and others take over",
    )
    stop_deadline: Seconds = Field(10.0, ge=0, description="seconds that stop() gives running jobs to finish")
    max_attempts: int = Field(5, ge=1, le=100, description="attempts before a job becomes a dead letter")
    backoff: Seconds = Field(1.0, ge=0, description="seconds before the second attempt; doubles for each later one")
    backoff_limit: Seconds = Field(300.0, ge=0, description="longest wait between two attempts, in seconds")

    batch_ttl: int = Field(7 * 86_400, ge=1, le=_LONGEST, description="seconds until a batch expires")
    claim_ttl: int = Field(
        300, ge=1, le=_LONGEST, description="seconds until the claim on a finished Pub/Sub message expires"
    )
    events_kept: int = Field(100_000, ge=1, description="events kept; the oldest are dropped first")
    confirmations: int = Field(
        0, ge=0, le=16, description="replicas that must have a result or a publication before it counts"
    )
    confirmation_timeout: float = Field(
        3.0, gt=0, le=10, description="seconds to wait for those replicas to confirm it"
    )
    max_message_bytes: int = Field(65_536, ge=256, description="longer messages are rejected")

    connect_timeout: Seconds = Field(5.0, gt=0, description="seconds to wait for a connection to the site")
    read_timeout: Seconds = Field(30.0, gt=0, description="seconds to wait for the site's next bytes")
    page_timeout: Seconds = Field(
        60.0, gt=0, description="seconds that a page may take, with redirects and retries but not waits for a turn"
    )
    download_timeout: Seconds = Field(3600.0, gt=0, description="seconds that a file of the open data may take")
    robots_timeout: Seconds = Field(10.0, gt=0, description="seconds that the site's robots.txt may take")
    http_retries: int = Field(3, ge=0, le=20, description="retries of one page before the attempt fails")
    rate: float | None = Field(
        None,
        gt=0,
        description="maximum requests per second per site and Redis; if unset, 2, or unlimited for local sites",
    )
    breaker_failures: int = Field(8, ge=1, description="failures in a row that open a site's circuit breaker")
    breaker_pause: Seconds = Field(15.0, gt=0, description="seconds that the circuit stays open; doubles each time")
    breaker_limit: Seconds = Field(600.0, gt=0, description="longest time that the circuit stays open, in seconds")
    site_patience: Seconds | None = Field(
        None, gt=0, description="longest wait for a request slot at the site, in seconds; unlimited if unset"
    )
    max_page_bytes: int = Field(8_000_000, ge=10_000, description="longer pages are rejected")

    api_keys: SecretStr | None = Field(None, description="keys that the REST pricer accepts, comma-separated")
    api_keys_file: Path | None = Field(None, description="file of such keys, one per line; reread when it changes")
    api_hosts: str | None = Field(
        None, description="host names that the pricer accepts, comma-separated; loopback only if there are no keys"
    )
    api_rate: int = Field(600, ge=0, description="requests per minute for each key; 0 means unlimited")
    api_threads: int = Field(16, ge=1, le=256, description="pricer threads that talk to Redis")
    api_lookups: int = Field(8, ge=1, le=64, description="funds that the pricer looks up on the site at once")
    api_queue: int = Field(512, ge=1, description="look-ups that may wait for a turn; further ones are rejected")
    api_connections: int = Field(
        512,
        ge=8,
        description="most open connections of the pricer; beyond that, the longest idle or stalled one is closed",
    )
    api_receive_timeout: Seconds = Field(
        10.0, gt=0, description="seconds in which a whole request must arrive, or its connection ends"
    )
    api_max_body: int = Field(65_536, ge=256, description="longest request body accepted, in bytes")

    @classmethod
    def load(cls, **given: Any) -> Self:
        """Read the environment; arguments that are not ``None`` override it.

        Raises
        ------
        ConfigError
            If a value is invalid or a setting is unknown; names the argument or the variable, never its value.
        """
        unknown = sorted(set(given) - set(cls.model_fields))
        if unknown:
            near = difflib.get_close_matches(unknown[0], cls.model_fields, 1)
            hint = f"did you mean {near[0]}?" if near else "help(sk.Settings) lists all"
            raise ConfigError(f"unknown setting {unknown[0][:40]!r}; {hint}")
        try:
            return cls(**{name: value for name, value in given.items() if value is not None})
        except ValidationError as error:
            parts = []
            for item in error.errors(include_url=False, include_input=False):
                name = str(item["loc"][0]) if item["loc"] else "settings"
                is_argument = given.get(name) is not None or name.isupper()
                parts.append(f"{name if is_argument else f'SCRAPERKIT_{name.upper()}'}: {in_words(item)}")
            raise ConfigError("; ".join(parts)) from None


def given_by(settings: Settings | None) -> dict[str, Any]:
    """Return settings as arguments for :meth:`Settings.load`; empty if `settings` is ``None``.

    Raises
    ------
    ConfigError
        If `settings` is of another type.
    """
    if settings is not None and not isinstance(settings, Settings):
        raise ConfigError(f"settings: expected Settings, got {type(settings).__name__}; use Settings.load(...)")
    return settings.model_dump() if settings is not None else {}

"""Every setting, and the environment variable that sets it."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Self

import platformdirs
from pydantic import AliasChoices, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from scraperkit.errors import ConfigError
from scraperkit.keys import DEFAULT_NAMESPACE

__version__ = "0.1.0"
CVM_URL = "https://cvmweb.cvm.gov.br/SWB/Sistemas/SCW/CPublica/"


class Settings(BaseSettings):
    """Settings, read from the environment: ``SCRAPERKIT_<NAME>``, but ``REDIS_URL`` for the server.

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
        description="redis://, rediss:// or unix:// address; left out, the embedded server is used",
    )
    redis_password_file: Path | None = Field(
        None, description="a file that holds the password for a REDIS_URL that has none; read anew with each connection"
    )
    namespace: str = Field(DEFAULT_NAMESPACE, description="the start of every key, and the name of the group")
    data: Path = Field(
        default_factory=lambda: Path(platformdirs.user_data_dir("scraperkit", appauthor=False)),
        description="where the embedded server keeps what it stores",
    )
    cache: Path = Field(
        default_factory=lambda: Path(platformdirs.user_cache_dir("scraperkit", appauthor=False)),
        description="where the embedded server's binary is kept",
    )
    cvm_url: str = Field(CVM_URL, description="where the regulator's pages are")

    threads: int = Field(8, ge=1, le=256, description="threads that scrape, for each worker")
    prefetch: int = Field(384, ge=0, le=10_000, description="the most that a worker holds beyond one for each thread")
    lease: float = Field(
        60.0, gt=0, description="seconds after which the job of a worker that fell silent is taken over"
    )
    heartbeat: float = Field(2.0, gt=0, description="seconds between signs of life; after three a worker is dead")
    stop_deadline: float = Field(10.0, ge=0, description="seconds that stop() gives to the jobs in hand")
    max_attempts: int = Field(5, ge=1, le=100, description="attempts at a job before it becomes a dead letter")
    backoff: float = Field(1.0, ge=0, description="seconds before the second attempt; doubled for each further one")
    backoff_limit: float = Field(300.0, ge=0, description="the longest wait between two attempts, in seconds")

    batch_ttl: int = Field(7 * 86_400, ge=1, description="seconds that a batch is remembered")
    claim_ttl: int = Field(300, ge=1, description="seconds that a finished Pub/Sub message is remembered")
    events_kept: int = Field(100_000, ge=1, description="events kept, the oldest go first")
    max_message_bytes: int = Field(65_536, ge=256, description="a longer message is refused")

    connect_timeout: float = Field(5.0, gt=0, description="seconds to wait for a connection to the site")
    read_timeout: float = Field(30.0, gt=0, description="seconds to wait for the site's next bytes")
    http_retries: int = Field(3, ge=0, le=20, description="retries of one page before the job fails")
    rate: float | None = Field(
        None,
        gt=0,
        description="requests a second for all workers of a Redis; 2 if unset, on this machine's own sites any",
    )
    breaker_failures: int = Field(8, ge=1, description="failures in a row after which a site is left alone")
    breaker_pause: float = Field(15.0, gt=0, description="seconds that it is left alone; doubled each further time")
    breaker_limit: float = Field(600.0, gt=0, description="the longest that a site is left alone, in seconds")
    site_patience: float | None = Field(
        None, gt=0, description="the longest wait for a turn at the site, in seconds; as long as it takes if unset"
    )
    max_page_bytes: int = Field(8_000_000, ge=10_000, description="a longer page is refused")

    api_keys: SecretStr | None = Field(None, description="keys that the REST pricer accepts, with commas between")
    api_keys_file: Path | None = Field(None, description="a file of such keys, one a line, read again when it changes")
    api_hosts: str | None = Field(
        None, description="host names that the pricer answers to, with commas between; without keys only loopback ones"
    )
    api_rate: int = Field(600, ge=0, description="requests a minute for each key; 0 is without end")
    api_threads: int = Field(16, ge=1, le=256, description="threads of the pricer that talk to Redis")
    api_lookups: int = Field(8, ge=1, le=64, description="funds that the pricer looks up at the site at once")
    api_queue: int = Field(512, ge=1, description="look-ups that may wait for their turn; further ones are refused")
    api_max_body: int = Field(65_536, ge=256, description="a longer request body is refused, in bytes")

    @classmethod
    def load(cls, **given: Any) -> Self:
        """Read the environment; arguments that are not ``None`` win over it.

        Raises
        ------
        ConfigError
            If a value does not fit, or there is no such setting; names the variable, never its value.
        """
        unknown = sorted(set(given) - set(cls.model_fields))
        if unknown:
            near = difflib.get_close_matches(unknown[0], cls.model_fields, 1) or sorted(cls.model_fields)
            raise ConfigError(f"there is no setting {unknown[0][:40]!r}; did you mean {', '.join(near)}?")
        try:
            return cls(**{name: value for name, value in given.items() if value is not None})
        except ValidationError as error:
            parts = []
            for item in error.errors(include_url=False, include_input=False, include_context=False):
                name = str(item["loc"][0]) if item["loc"] else "settings"
                variable = name if name.isupper() else f"SCRAPERKIT_{name.upper()}"
                parts.append(f"{variable}: {item['msg'][0].lower()}{item['msg'][1:]}")
            raise ConfigError("; ".join(parts)) from None


def given_by(settings: Settings | None) -> dict[str, Any]:
    """Return settings as arguments of :meth:`Settings.load`: none, if there are no settings.

    Raises
    ------
    ConfigError
        If they are of another type.
    """
    if settings is not None and not isinstance(settings, Settings):
        raise ConfigError(f"settings: {type(settings).__name__} is no Settings; make them with Settings.load(...)")
    return settings.model_dump() if settings is not None else {}

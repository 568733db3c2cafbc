"""The pricer's Redis client and sources, made when first needed and closed at the end."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import threading
import time
from dataclasses import replace
from typing import Any, Protocol

import pandas as pd
import redis as redis_py
from cachetools import TTLCache, cached
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from scraperkit.cnpj import format_cnpj
from scraperkit.config import Settings
from scraperkit.connection import connect, sibling
from scraperkit.errors import ArchiveError, ConfigError, NotDownloaded, RedisError, RedisUnreachable, TimeSeriesMissing
from scraperkit.health import Health
from scraperkit.keys import DEFAULT_SOURCE, Keys
from scraperkit.models import Fund
from scraperkit.publisher import Publisher
from scraperkit.sources import CvmPages, named
from scraperkit.sources.base import Hits, stream_of
from scraperkit.sources.open_data import OpenData
from scraperkit.sources.open_data.portal_files import DAILY_FILE
from scraperkit.timeseries.rows import RowReader

log = logging.getLogger(__name__)
CALLER_PATIENCE = 20.0  # seconds: a caller is waiting
READ_TIMEOUT = 10.0
REDIS_TIMEOUT = 3.0
KNOWN_FUNDS = 4_096
KNOWN_SECONDS = 600.0
KNOWN_NAMES = 512
MOST_HITS = 50
KNOWN_DAYS, KNOWN_DAY_SECONDS = 4, 60.0
_TRY_AGAIN = 0.5


# What is missing before the pricer can work, in words; and what was seen, if Redis responds.
Seen = tuple[list[str], Health | None]
SILENT: Seen = (["Redis does not respond"], None)


class FundSource(Protocol):
    """What the pricer needs of a source."""

    def find_fund(self, cnpj: str, /) -> Fund:
        """Look a fund up by its CNPJ."""
        ...


class Backend:
    """Redis and the sources, for the routes. Its methods block, and may be called from many threads.

    Parameters
    ----------
    settings : Settings
    redis_url : str, optional
        As for :func:`scraperkit.connect`.
    source : object with ``find_fund``, optional
        A custom source, which replaces the source of its ``name`` and is the default.

    Attributes
    ----------
    default_source : str
        The source of an order that names none: the custom one, or `Settings.source`.
    hasty_settings : Settings
        For requests to a site while a caller waits: less patience, fewer retries.

    Raises
    ------
    ConfigError
        If the source is unknown.
    """

    def __init__(self, settings: Settings, redis_url: str | None = None, source: FundSource | None = None) -> None:
        self.settings = settings
        self.keys = Keys(settings.namespace)
        # A caller waits for the response; a worker's job can be retried later.
        hasty = {
            "site_patience": settings.site_patience or CALLER_PATIENCE,
            "read_timeout": min(settings.read_timeout, READ_TIMEOUT),
            "http_retries": min(settings.http_retries, 1),
        }
        self.hasty_settings = settings.model_copy(update=hasty)
        self.default_source = settings.source if source is None else stream_of(source)
        self._sources: dict[str, FundSource] = {} if source is None else {self.default_source: source}
        self._made: list[CvmPages | OpenData] = []
        self._redis_url = redis_url
        self._client: redis_py.Redis | None = None
        self._connecting = threading.Lock()
        self._refused: tuple[float, RedisError] | None = None
        self._funds: TTLCache[Any, Fund] = TTLCache(KNOWN_FUNDS, KNOWN_SECONDS)
        self._funds_changed = threading.Condition()
        # Many callers request the same fund at once: one asks the source, the others wait for its response.
        self._look_up = cached(self._funds, condition=self._funds_changed)(self._ask)
        names: TTLCache[Any, Hits] = TTLCache(KNOWN_NAMES, KNOWN_SECONDS)
        self._search_site = cached(names, condition=threading.Condition())(self._ask_site)
        # Reading a day of the whole market takes half a second, and callers request its pages in a row.
        days: TTLCache[Any, pd.DataFrame] = TTLCache(KNOWN_DAYS, KNOWN_DAY_SECONDS)
        self._market = cached(days, condition=threading.Condition())(self._read_market)
        confirmed: TTLCache[Any, float | None] = TTLCache(1, KNOWN_DAY_SECONDS)
        self._confirmed_at = cached(confirmed, condition=threading.Condition())(self._read_confirmed_at)
        self._source(self.default_source)

    @property
    def connected(self) -> redis_py.Redis | None:
        """The client, if Redis has ever answered."""
        return self._client

    @property
    def redis(self) -> Any:
        """The client, which reconnects by itself.

        Raises
        ------
        RedisError
            If Redis has never answered, and does not now.
        """
        with self._connecting:
            if self._client is None:
                if self._refused and time.monotonic() < self._refused[0]:
                    raise type(self._refused[1])(str(self._refused[1]))
                try:
                    self._client = self._connect()
                except ConfigError as error:  # a file that the address names is gone: no fault of the caller
                    raise RedisUnreachable(str(error)) from None
            return self._client

    def open(self) -> None:
        """Connect now; if Redis is unreachable, log a warning and try again at the first request.

        Raises
        ------
        ConfigError
            If the address is invalid.
        """
        with self._connecting:
            try:
                self._client = self._client or self._connect()
            except RedisError as error:
                log.warning("starting without Redis: %s", error)

    def _connect(self) -> redis_py.Redis:
        try:
            with connect(self._redis_url) as first:
                # Two retries are safe: publishing is idempotent.
                retry = Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), 2)
                client = sibling(first, socket_timeout=REDIS_TIMEOUT, retry=retry)
        except RedisError as error:
            # All who wait for the lock get the same error, rather than each trying in turn.
            self._refused = time.monotonic() + _TRY_AGAIN, error
            raise
        for source in self._made:
            source.politeness.share(client)
        return client

    @property
    def rows(self) -> RowReader:
        """A reader of what is stored.

        Raises
        ------
        RedisError
            As :attr:`redis` does.
        """
        return RowReader(self.redis, self.keys.namespace, advice="POST it to /v1/funds first")

    def publisher(self, delivery: Any) -> Publisher:
        """Return a publisher to the stream or the channel."""
        return Publisher(self.redis, delivery=delivery, namespace=self.keys.namespace, settings=self.settings)

    def find_fund(self, cnpj: str, source: str, *, anew: bool = False) -> Fund:
        """Look a fund up at a source; reuse responses of the last ten minutes unless `anew`.

        Raises
        ------
        ConfigError
            If the source is unknown.
        SourceError, ArchiveError
            As the source does.
        """
        formatted = format_cnpj(cnpj)
        if anew:
            with self._funds_changed:
                self._funds.pop(self._look_up.cache_key(source, formatted), None)
        return self._look_up(source, formatted)

    def search(self, name: str) -> tuple[str, Hits]:
        """Search for a name in the archive's registry, or, if it has none, at the first source that can be searched.

        Raises
        ------
        NotDownloaded
            If no source can be searched.
        SourceError
            As the source does.
        """
        for source in dict.fromkeys(["open_data", self.default_source, DEFAULT_SOURCE]):
            found = self._source(source)
            with contextlib.suppress(NotDownloaded):
                if isinstance(found, OpenData):
                    return source, found.search(name, MOST_HITS)
                if hasattr(found, "search"):
                    return source, self._search_site(source, name)
        raise NotDownloaded("no source of the pricer can be searched by name")

    def _ask_site(self, source: str, name: str) -> Hits:
        site: Any = self._source(source)
        found: Hits = site.search(name, MOST_HITS)
        return found

    @property
    def archive(self) -> OpenData:
        """The archive of the open data, read-only.

        Raises
        ------
        NotDownloaded
            If a custom source replaces it.
        """
        found = self._source("open_data")
        if not isinstance(found, OpenData):
            raise NotDownloaded("the pricer has no archive, since it uses a custom source")
        return found

    def archive_age(self) -> float | None:
        """Return the seconds since the portal last confirmed or sent a daily file; ``None`` if there is no archive."""
        confirmed_at = self._confirmed_at()
        return None if confirmed_at is None else max(0.0, time.time() - confirmed_at)

    def _read_confirmed_at(self) -> float | None:
        try:
            ledger = self.archive.archive_info()
        except NotDownloaded:
            return None
        except ArchiveError as error:
            log.warning("the archive: %s", error)
            return None
        daily = ledger[ledger.index.str.startswith(DAILY_FILE)]
        newest = daily["confirmed_at"].fillna(daily["fetched_at"]).max()
        return None if pd.isna(newest) else float(newest.timestamp())

    def market_on(self, day: dt.date) -> pd.DataFrame:
        """Return every series of a day, sorted by the column ``document``; cached for a minute.

        Raises
        ------
        NotDownloaded
            If the archive has no data for its month.
        ArchiveError
            If it cannot be read.
        """
        return self._market(day)

    def _read_market(self, day: dt.date) -> pd.DataFrame:
        frame = self.archive.market(day)
        subclass = frame["subclass"].where(frame["subclass"] == "", ":" + frame["subclass"])
        return frame.assign(document=frame["cnpj"] + subclass)

    def _ask(self, source: str, cnpj: str) -> Fund:
        return replace(self._source(source).find_fund(cnpj), source=source)

    def _source(self, name: str) -> FundSource:
        """Return a source by its name; make it if it is one of the kit's."""
        with self._connecting:
            if name not in self._sources:
                made = named(name, settings=self.hasty_settings)
                self._sources[name] = made
                self._made.append(made)
                if self._client is not None:
                    made.politeness.share(self._client)
            return self._sources[name]

    def missing(self) -> Seen:
        """Return in words what is missing before the pricer can work, and what was seen if Redis responds."""
        try:
            self.redis.execute_command("TS.QUERYINDEX", "scraperkit.probe=1")
            health = Health.read(self.redis, namespace=self.keys.namespace)
        except TimeSeriesMissing:
            return ["Redis has no TimeSeries"], None
        except redis_py.ResponseError as error:
            what = "has no TimeSeries" if "unknown command" in str(error).lower() else "returns an error"
            log.warning("not ready: Redis: %s", error)
            return [f"Redis {what}"], None
        except (RedisError, redis_py.RedisError, OSError) as error:
            log.warning("not ready: Redis: %s", error)
            return SILENT
        return [] if health.alive else ["no worker is alive: start one with `scraperkit work`"], health

    def close(self) -> None:
        """Close all connections."""
        with self._connecting:
            for source in self._made:
                source.close()
            client, self._client = self._client, None
            self._refused = (float("inf"), RedisUnreachable("the pricer is closed"))
        if client is not None:
            for source in self._made:
                source.politeness.unshare(client)
            client.close()

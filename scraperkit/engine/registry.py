"""Stable names of workers, kept by heartbeats, and the housekeeping that a worker does besides its jobs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import os
import re
import socket
import time
import uuid
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from redis.exceptions import OutOfMemoryError, ResponseError

from scraperkit.config import Settings
from scraperkit.connection import is_no_group
from scraperkit.errors import ConfigError, WorkerError
from scraperkit.keys import DEFAULT_SOURCE, Keys
from scraperkit.lua import scripts

log = logging.getLogger(__name__)
_MISSED_HEARTBEATS = 3
_RETRIES_AT_ONCE = 500
_PROMPT = 1.0
# Seconds: the shortest pause between two searches for due retries.
_SHORTEST_WAIT = 0.02
_WORKER_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}", re.ASCII)


# The JSON types allowed for each type of a card's fields; true is not a number.
_KINDS: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float)}


@dataclass(frozen=True, slots=True)
class WorkerCard:
    """A worker's description of itself, sent with each heartbeat.

    Attributes
    ----------
    name : str
        Stable: a restarted worker on the same machine takes the first free name, and with it that name's pending jobs.
    instance : str
        This life of the worker.
    host, pid, threads, delivery
        Where and how it runs.
    started_at, subscribed_at, beat_at : float
        Seconds since 1970 by the clock of Redis; `subscribed_at` is 0 if it does not listen to the channel.
    in_hand, settled, errors : int
        Jobs held now, jobs settled so far, outages of Redis so far.
    lease, heartbeat : float
        Its settings, in seconds. Others take over its jobs after a lease without renewal; the card expires after three
        heartbeats. The jobs of a card without a lease are not taken over while it lives.
    """

    name: str
    instance: str
    host: str
    pid: int
    threads: int
    delivery: str
    started_at: float
    subscribed_at: float = 0.0
    beat_at: float = 0.0
    in_hand: int = 0
    settled: int = 0
    errors: int = 0
    lease: float = math.inf
    heartbeat: float = 0.0
    source: str = DEFAULT_SOURCE

    @classmethod
    def read(cls, text: str) -> WorkerCard | None:
        """Read a card from Redis; ``None`` if it is invalid. Unknown fields are a newer version's and are ignored."""
        known = {field.name: _KINDS[str(field.type)] for field in fields(cls)}
        try:
            card = cls(**{name: value for name, value in json.loads(text).items() if name in known})
        except (ValueError, TypeError, AttributeError, RecursionError):
            return None
        return card if all(type(getattr(card, name)) in kinds for name, kinds in known.items()) else None


async def dead_workers(client: Any, keys: Keys) -> list[str]:
    """Return the names of workers whose heartbeat stopped before they left. `client` is an asyncio client."""
    names = await client.zrange(keys.workers, 0, -1)
    cards = await client.mget([keys.worker(name) for name in names]) if names else []
    return [name for name, card in zip(names, cards, strict=True) if card is None]


def each_source(client: Any, keys: Keys) -> list[Keys]:
    """Return the keys of a namespace for each source that has been used, the default first."""
    return [keys.of(source) for source in (DEFAULT_SOURCE, *sorted(client.smembers(keys.sources)))]


def live_workers(client: Any, keys: Keys) -> list[WorkerCard]:
    """Return the cards of all living workers of a source, by name. `client` is a plain redis-py client."""
    names = client.zrange(keys.workers, 0, -1)
    texts: Iterable[str | None] = client.mget([keys.worker(name) for name in names]) if names else []
    cards = [WorkerCard.read(text) for text in texts if text]
    return sorted((card for card in cards if card is not None), key=lambda card: card.name)


def has_name(card: str | None, instance: str) -> bool:
    """Return whether a name's card still belongs to this life of a worker, as in ``lua/state.lua``."""
    try:
        found = json.loads(card or "{}")
    except (ValueError, RecursionError):
        return True
    return not isinstance(found, dict) or found.get("instance", instance) == instance


class NameTaken(WorkerError):
    """A worker sent no heartbeat for so long that another has taken its name."""


def this_host() -> str:
    """Return the name of this machine, as written on a card."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())[:80] or "worker"


async def redis_time(client: Any) -> float:
    """Return the time of the server's clock, which all workers and publishers share."""
    seconds, microseconds = await client.time()
    return float(seconds) + float(microseconds) / 1e6


class RedisClock:
    """The clock of Redis, estimated from the last time that it was read."""

    def __init__(self) -> None:
        self._ahead: float | None = None

    async def ask(self, client: Any) -> float:
        """Return the time of the server's clock."""
        asked_at = time.time()
        now = await redis_time(client)
        answered_at = time.time()
        # If this process was frozen meanwhile, the reply says nothing about the clocks' difference.
        if self._ahead is None or abs(answered_at - asked_at) < _PROMPT:
            self._ahead = now - (asked_at + answered_at) / 2
        return now

    def at(self, local: float) -> float:
        """Return what the clock of Redis showed when the clock of this machine showed `local`."""
        return local + (self._ahead or 0.0)


@dataclass(frozen=True, slots=True)
class Session:
    """What all parts of a worker share during one life.

    Attributes
    ----------
    client : redis.asyncio.Redis
    keys : Keys
    settings : Settings
    card : WorkerCard
        As of the worker's start.
    claiming : bool
        Whether a Pub/Sub message is for one worker rather than for every worker that receives it.
    clock : RedisClock
        Read with each heartbeat.
    """

    client: Any
    keys: Keys
    settings: Settings
    card: WorkerCard
    claiming: bool = True
    clock: RedisClock = field(default_factory=RedisClock)

    @property
    def silence(self) -> float:
        """Seconds without a heartbeat after which a worker counts as dead."""
        return _silence(self.settings)


def _silence(settings: Settings) -> float:
    return settings.heartbeat * _MISSED_HEARTBEATS


async def enter(client: Any, keys: Keys, settings: Settings, delivery: str, wanted: str | None = None) -> WorkerCard:
    """Take the wanted name, or the first free one on this machine.

    Raises
    ------
    ConfigError
        If the wanted name is invalid, or a living worker still has it after the time in which a dead worker's name
        would have become free.
    """
    if wanted is not None and not _WORKER_NAME.fullmatch(wanted):
        raise ConfigError(f"name: {wanted[:40]!r} is not a worker name: use letters, digits and _ . - only")
    host, token = this_host(), uuid.uuid4().hex[:8]
    ttl = _silence(settings)
    deadline = time.monotonic() + ttl + 1
    number = 0
    while True:
        number += 1
        name = wanted or f"{host}-{number}"
        now = await redis_time(client)
        card = WorkerCard(
            *(name, f"{name}/{token}", host, os.getpid(), settings.threads, delivery, now),
            beat_at=now,
            lease=settings.lease,
            heartbeat=settings.heartbeat,
            source=keys.source,
        )
        if await _write(client, keys, card, ttl, nx=True):
            await client.zadd(keys.workers, {name: now})
            if keys.source != DEFAULT_SOURCE:
                await client.sadd(keys.sources, keys.source)
            return card
        if wanted:
            if time.monotonic() > deadline:
                raise ConfigError(f"name: another living worker is called {wanted!r}; choose another name")
            await asyncio.sleep(ttl / 20)


async def _write(client: Any, keys: Keys, card: WorkerCard, ttl: float, *, nx: bool) -> bool:
    return bool(await client.set(keys.worker(card.name), json.dumps(asdict(card)), nx=nx, px=int(ttl * 1000)))


class Housekeeping:
    """A worker's tasks besides its jobs: heartbeats, due retries, names of dead workers. All are idempotent.

    Attributes
    ----------
    pace : float
        Seconds between two rounds.
    retry_scheduled : asyncio.Event
        Set when this worker has scheduled a retry.
    """

    def __init__(self, session: Session, outcomes: Counter[str]) -> None:
        self._client, self._keys, self._settings = session.client, session.keys, session.settings
        self._session = session
        self._card = session.card
        self._outcomes = outcomes
        self._logged = Counter(outcomes)
        self.pace = min(self._settings.heartbeat, self._settings.lease / 4, 1.0)
        self.retry_scheduled = asyncio.Event()
        self._beat_at = self._steady_from = time.monotonic()

    @property
    def is_steady(self) -> bool:
        """Whether recent heartbeats went out on time; after a break that all workers had, the others seem dead."""
        return self._beat_at >= self._steady_from

    async def beat(self, *, subscribed_at: float, in_hand: int, errors: int) -> None:
        """Send a heartbeat.

        Raises
        ------
        NameTaken
            If this worker sent no heartbeat for so long that another has taken its name.
        """
        if not await self._has_its_name():
            raise NameTaken(f"another worker is called {self._card.name!r} now; this one was silent for too long")
        now = await self._session.clock.ask(self._client)
        card = replace(
            self._card,
            subscribed_at=subscribed_at,
            beat_at=now,
            in_hand=in_hand,
            settled=self._outcomes.total() - self._outcomes["ignored"],
            errors=errors,
        )
        try:
            await _write(self._client, self._keys, card, self._session.silence, nx=False)
        except OutOfMemoryError:
            # A full Redis refuses the card, so extend the last one: otherwise all workers would seem dead.
            await self._client.pexpire(self._keys.worker(card.name), int(self._session.silence * 1000))
            raise
        await self._client.zadd(self._keys.workers, {card.name: now})
        last, self._beat_at = self._beat_at, time.monotonic()
        if self._beat_at - last > 2 * self.pace:
            self._steady_from = self._beat_at + 2 * self.pace

    async def leave(self) -> None:
        """Give up the name, and delete the consumer unless it still has pending entries.

        If another worker has taken the name, this does nothing.
        """
        if not await self._has_its_name():
            return
        name = self._card.name
        try:
            consumers = await self._client.xinfo_consumers(self._keys.jobs, self._keys.group)
        except ResponseError as error:
            if not is_no_group(error):
                raise
            consumers = []
        if any(entry["name"] == name and entry["pending"] == 0 for entry in consumers):
            await self._client.xgroup_delconsumer(self._keys.jobs, self._keys.group, name)
        await self._client.delete(self._keys.worker(name))
        await self._client.zrem(self._keys.workers, name)

    async def _has_its_name(self) -> bool:
        return has_name(await self._client.get(self._keys.worker(self._card.name)), self._card.instance)

    def log_outcomes(self) -> None:
        """Log the jobs settled since the last time in one line; a line for each would be too many."""
        news = self._outcomes - self._logged
        if news:
            log.info("%s: %s", self._card.name, ", ".join(f"{count} {outcome}" for outcome, count in news.items()))
            self._logged = Counter(self._outcomes)

    async def forget_the_dead(self) -> None:
        """Forget workers that have sent no heartbeat for long and have no pending entries."""
        silent_since = await redis_time(self._client) - self._settings.lease - self._session.silence
        names = await self._client.zrangebyscore(self._keys.workers, "-inf", silent_since)
        if names and (gone := await scripts.forget(self._client, self._keys, names)):
            log.info("forgot dead workers: %s", ", ".join(gone))

    async def feed_retries(self) -> float:
        """Put due retries back into the stream; return the seconds until the next is due."""
        return await scripts.feed_due(self._client, self._keys, _RETRIES_AT_ONCE)

    async def wait_for_retry(self, due_in: float) -> None:
        """Wait until the next retry is due, or until another has been scheduled here."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(max(due_in, _SHORTEST_WAIT), self.pace)):
                await self.retry_scheduled.wait()
        self.retry_scheduled.clear()

"""Who works here: stable names, and the sign of life that keeps them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import time
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from redis.exceptions import ResponseError

from scraperkit.errors import ConfigError, WorkerError
from scraperkit.keys import Keys

MISSED = 3
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}", re.ASCII)


@dataclass(frozen=True, slots=True)
class WorkerCard:
    """What a worker tells about itself with each heartbeat.

    Attributes
    ----------
    name : str
        Stable: a worker started again on the same machine takes the first free name, and with it what it left.
    instance : str
        This very life of the worker.
    host, pid, threads, delivery
        Where it runs and how.
    started_at, subscribed_at, beat_at : float
        Seconds since 1970 by the clock of Redis; `subscribed_at` is 0 if it does not listen to the channel.
    in_hand, settled, errors : int
        Jobs held now, jobs settled so far, outages of Redis met so far.
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

    @classmethod
    def read(cls, text: str) -> WorkerCard | None:
        """Read a card as it is kept in Redis, or ``None`` if it is none; unknown fields are of a newer version."""
        known = {field.name for field in fields(cls)}
        try:
            return cls(**{name: value for name, value in json.loads(text).items() if name in known})
        except (ValueError, TypeError, AttributeError, RecursionError):
            return None


def live_workers(client: Any, keys: Keys) -> list[WorkerCard]:
    """Return the cards of all workers whose heart beats, by name. `client` is a plain redis-py client."""
    names = client.zrange(keys.workers, 0, -1)
    texts: Iterable[str | None] = client.mget([keys.worker(name) for name in names]) if names else []
    cards = [WorkerCard.read(text) for text in texts if text]
    return sorted((card for card in cards if card is not None), key=lambda card: card.name)


class NameTaken(WorkerError):
    """A worker fell silent for so long that another has taken its name."""


def this_host() -> str:
    """Return the name of this machine, as it stands on a card."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())[:80] or "worker"


async def redis_time(client: Any) -> float:
    """Return the time of the server's clock, which all workers and publishers share."""
    seconds, microseconds = await client.time()
    return float(seconds) + float(microseconds) / 1e6


class Registry:
    """One worker's entry among the workers of a namespace."""

    def __init__(self, client: Any, keys: Keys, heartbeat: float, name: str | None = None) -> None:
        if name is not None and not _NAME.fullmatch(name):
            raise ConfigError(f"name: {name[:40]!r} does not fit a worker: letters, digits and _ . - only")
        self._client = client
        self._keys = keys
        self._ttl = int(heartbeat * MISSED * 1000)
        self._wanted = name
        self.token = uuid.uuid4().hex[:8]
        self.name = ""

    @property
    def instance(self) -> str:
        """The name of this very life of the worker."""
        return f"{self.name}/{self.token}"

    async def enter(self, threads: int, delivery: str) -> WorkerCard:
        """Take the first free name on this machine.

        Raises
        ------
        ConfigError
            If a name was asked for and a living worker has it, even after the time in which a dead one's would
            have become free.
        """
        host = this_host()
        deadline = time.monotonic() + self._ttl / 1000 + 1
        number = 0
        while True:
            number += 1
            self.name = self._wanted or f"{host}-{number}"
            now = await redis_time(self._client)
            card = WorkerCard(self.name, self.instance, host, os.getpid(), threads, delivery, now, beat_at=now)
            if await self._write(card, nx=True):
                await self._client.zadd(self._keys.workers, {self.name: now})
                return card
            if self._wanted:
                if time.monotonic() > deadline:
                    raise ConfigError(f"name: another living worker is called {self._wanted!r}; choose another name")
                await asyncio.sleep(self._ttl / 1000 / 20)

    async def beat(self, card: WorkerCard) -> bool:
        """Give a sign of life; return whether the name was still this worker's."""
        if not await self._is_mine():
            return False
        now = await redis_time(self._client)
        await self._write(replace(card, beat_at=now), nx=False)
        await self._client.zadd(self._keys.workers, {self.name: now})
        return True

    async def leave(self) -> None:
        """Give the name back, and forget the consumer unless something of it is still pending.

        If the name has become another's, it is left to that one.
        """
        if not await self._is_mine():
            return
        try:
            consumers = await self._client.xinfo_consumers(self._keys.jobs, self._keys.group)
        except ResponseError:  # no stream, or no group: nothing to forget
            consumers = []
        if any(entry["name"] == self.name and entry["pending"] == 0 for entry in consumers):
            await self._client.xgroup_delconsumer(self._keys.jobs, self._keys.group, self.name)
        await self._client.delete(self._keys.worker(self.name))
        await self._client.zrem(self._keys.workers, self.name)

    async def _is_mine(self) -> bool:
        holder = await self._client.get(self._keys.worker(self.name))
        card = WorkerCard.read(holder) if holder is not None else None
        return card is None or card.instance == self.instance

    async def _write(self, card: WorkerCard, *, nx: bool) -> bool:
        text = json.dumps(asdict(card))
        return bool(await self._client.set(self._keys.worker(self.name), text, nx=nx, px=self._ttl))

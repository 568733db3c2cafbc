"""The two deliveries: how a message reaches a worker, and how the worker keeps or gives back its hold on it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Collection, Sequence
from typing import Any, Protocol

from redis.asyncio import Redis
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from scraperkit.config import Settings
from scraperkit.engine.abandoned import Abandoned, make_group
from scraperkit.engine.jobs import DeliveryName, Job, read_message
from scraperkit.engine.registry import redis_time
from scraperkit.keys import Keys
from scraperkit.lua import script

log = logging.getLogger(__name__)
BLOCK = 1.0
_SILENCE = 15.0


class Delivery(Protocol):
    """One way in which messages reach a worker. All calls come from the worker's loop.

    Attributes
    ----------
    name : {"stream", "pubsub"}
    subscribed_at : float
        When the channel was subscribed to, by the clock of Redis; 0 for the stream.
    """

    name: DeliveryName
    subscribed_at: float

    async def open(self) -> None:
        """Connect, or connect anew: returns once the server has confirmed that messages will arrive."""

    async def receive(self, room: int, held: Collection[str], block: float = BLOCK) -> list[Job]:
        """Wait up to `block` seconds for messages, and take at most `room`."""

    async def interrupt(self) -> None:
        """Make a ``receive`` that waits come back at once."""

    async def nudge(self) -> None:
        """Make a ``receive`` that waits come back at once; messages go on arriving here."""

    async def leftovers(self) -> list[Job]:
        """After an interruption, take what has arrived and nobody has read yet: it is for others now."""

    async def close(self) -> None:
        """Close the connection."""


class StreamDelivery:
    """Messages from the job stream, by a consumer group: each reaches one worker and stays until acknowledged."""

    name: DeliveryName = "stream"
    subscribed_at = 0.0

    def __init__(self, client: Any, keys: Keys, consumer: str, settings: Settings) -> None:
        self._client = client
        self._reader: Any = Redis(connection_pool=client.connection_pool, single_connection_client=True)
        self._keys = keys
        self._settings = settings
        self._consumer = consumer
        self._abandoned = Abandoned(client, keys, consumer, settings)
        self._connection_id: int | None = None
        self._recovering = False

    async def open(self) -> None:
        """Make the group where it is missing; what this consumer holds is looked for before anything new is read."""
        await make_group(self._client, self._keys)
        with contextlib.suppress(ResponseError):
            self._connection_id = await self._reader.client_id()
        await self._abandoned.look_for_inherited()
        self._recovering = True

    async def receive(self, room: int, held: Collection[str], block: float = BLOCK) -> list[Job]:
        """Take what this consumer has pending without knowing it, then new entries."""
        jobs = await self._recover(room, held) or await self._abandoned.inherited(room, held)
        if jobs:
            return jobs
        milliseconds = max(1, int(block * 1000)) if block > 0 else None
        stream = {self._keys.jobs: ">"}
        try:
            reply = await self._reader.xreadgroup(
                self._keys.group, self._consumer, stream, count=room, block=milliseconds
            )
        except ResponseError as error:
            if not str(error).startswith(("NOGROUP", "UNBLOCKED")):
                raise
            if str(error).startswith("NOGROUP"):
                log.warning("the group of %s has vanished; it is made anew from the start", self._keys.jobs)
                await self.open()
            return []
        entries = [entry for part in reply.get(self._keys.jobs, []) for entry in part] if reply else []
        return [self._job(entry_id, fields) for entry_id, fields in entries if entry_id not in held]

    async def take_over(self, room: int, held: Collection[str], idle: float) -> list[Job]:
        """Take entries that another consumer has let lie for `idle` seconds."""
        return await self._abandoned.of_others(room, held, idle)

    async def _recover(self, room: int, held: Collection[str]) -> list[Job]:
        """After a lost connection: entries whose reply never arrived here. Nobody died of them."""
        if not self._recovering:
            return []
        mine = await self._abandoned.pending(consumername=self._consumer)
        unknown = [row["message_id"] for row in mine if row["message_id"] not in {*held, *self._abandoned.waiting}]
        if not unknown:
            self._recovering = False
            return []
        async with self._client.pipeline(transaction=False) as pipeline:
            for entry_id in unknown[:room]:
                pipeline.xrange(self._keys.jobs, entry_id, entry_id)
            found = await pipeline.execute()
        vanished = [entry_id for entry_id, entries in zip(unknown, found, strict=False) if not entries]
        if vanished:
            await self._client.xack(self._keys.jobs, self._keys.group, *vanished)
        return [self._job(entry_id, fields) for entries in found for entry_id, fields in entries]

    def _job(self, entry_id: str, fields: dict[str, str]) -> Job:
        return read_message(fields.get("message", ""), self.name, self._settings, entry_id)

    async def interrupt(self) -> None:
        """Unblock the read on the server's side, so that no reply is lost on the way."""
        if self._connection_id is not None:
            with contextlib.suppress(ResponseError):
                await self._client.client_unblock(self._connection_id)

    async def nudge(self) -> None:
        """Unblock the read."""
        await self.interrupt()

    async def leftovers(self) -> list[Job]:
        """Nothing: what this consumer has not read waits in the stream."""
        return []

    async def close(self) -> None:
        """Close the connection."""
        await self._reader.aclose()


class PubSubDelivery:
    """Messages from the channel: every subscriber receives each, and nothing is kept."""

    name: DeliveryName = "pubsub"

    def __init__(self, client: Any, keys: Keys, instance: str, settings: Settings, claiming: bool = True) -> None:
        self._client = client
        self._keys = keys
        self._instance = instance
        self._settings = settings
        self._claiming = claiming
        self._pubsub: Any = None
        self._claim = script(client, "claim")
        self._unclaimed: list[Job] = []
        self._asked_at: float | None = None
        self._heard_at = 0.0
        self.subscribed_at = 0.0

    async def open(self) -> None:
        """Subscribe, and wait for the server's word that it is so."""
        await self._drop()
        self._asked_at, self._heard_at = None, time.monotonic()
        subscribing_at = await redis_time(self._client)
        self._pubsub = self._client.pubsub()
        await self._pubsub.subscribe(self._keys.channel)
        async with asyncio.timeout(10):
            while (await self._pubsub.get_message(timeout=None))["type"] != "subscribe":
                pass
        self.subscribed_at = subscribing_at

    async def receive(self, room: int, held: Collection[str], block: float = BLOCK) -> list[Job]:
        """Read what has arrived, and claim it: what another worker has claimed is skipped."""
        wait = 0.0 if self._unclaimed else block
        while len(self._unclaimed) < room:
            message = await self._pubsub.get_message(timeout=wait)
            if message is None:
                await self._ask_for_a_sign_of_life()
                break
            self._asked_at, self._heard_at = None, time.monotonic()
            if message["type"] == "unsubscribe":
                break
            wait = 0.0
            if message["type"] == "message":
                self._unclaimed.append(
                    read_message(message["data"], self.name, self._settings, claiming=self._claiming)
                )
        seen: set[str] = set(held)
        jobs = []
        for job in self._unclaimed:
            if job.message_id not in seen:
                seen.add(job.message_id)
                jobs.append(job)
        mine = await self._claim_all(jobs)
        self._unclaimed.clear()
        return mine

    async def _ask_for_a_sign_of_life(self) -> None:
        """A connection may be dead and silent: ask the server, and give it up if no answer comes in time.

        Raises
        ------
        redis.exceptions.TimeoutError
            If nothing has come for as long as a reply may take.
        """
        now = time.monotonic()
        patience = self._client.connection_pool.connection_kwargs.get("socket_timeout") or _SILENCE
        if self._asked_at is None:
            if now - self._heard_at > patience / 3:
                self._asked_at = now
                await self._pubsub.ping()
        elif now - self._asked_at > patience:
            raise RedisTimeoutError(f"nothing was heard on {self._keys.channel} for {patience:g} s")

    async def _claim_all(self, jobs: Sequence[Job]) -> list[Job]:
        if not jobs:
            return []
        names = []
        for job in jobs:
            batch = job.request.batch_id if job.request else None
            names += [self._keys.claim(job.message_id), self._keys.batch(batch) if batch else ""]
        lease = int(self._settings.lease * 1000)
        won = await self._claim(
            keys=names, args=[self._instance, lease, "1" if self._claiming else "0", *(job.message_id for job in jobs)]
        )
        return [job for job, mine in zip(jobs, won, strict=True) if mine]

    async def interrupt(self) -> None:
        """Unsubscribe: the server's confirmation ends the wait."""
        if self._pubsub is not None:
            await self._pubsub.unsubscribe()

    async def nudge(self) -> None:
        """Have the server say something."""
        if self._pubsub is not None:
            await self._pubsub.ping()

    async def leftovers(self) -> list[Job]:
        """Read what the server had sent before it confirmed the end of the subscription, and claim it."""
        if self._pubsub is None or not self._claiming:
            return []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BLOCK):
                if self._pubsub.subscribed:  # nobody has interrupted a worker that was stepped by hand
                    await self._pubsub.unsubscribe()
                while self._pubsub.subscribed:
                    message = await self._pubsub.get_message(timeout=BLOCK)
                    if message is not None and message["type"] == "message":
                        self._unclaimed.append(read_message(message["data"], self.name, self._settings, claiming=True))
        return await self._claim_all(self._unclaimed)

    async def _drop(self) -> None:
        if self._pubsub is not None:
            with contextlib.suppress(Exception):
                await self._pubsub.aclose()
            self._pubsub = None

    async def close(self) -> None:
        """Close the connection."""
        await self._drop()

"""The two deliveries: how a message reaches a worker, and how the worker keeps or gives back its hold on it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Collection, Sequence
from typing import Any, Protocol

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from scraperkit.config import Settings
from scraperkit.engine.jobs import DeliveryName, Job
from scraperkit.engine.registry import redis_time
from scraperkit.engine.scripts import script
from scraperkit.errors import BadMessage
from scraperkit.keys import Keys
from scraperkit.models import ScrapeRequest

log = logging.getLogger(__name__)
BLOCK = 1.0
_RAW_IDS = uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
_KEPT_OF_OVERSIZE = 1_000


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

    async def leftovers(self) -> list[Job]:
        """After an interruption, take what has arrived and nobody has read yet: it is for others now."""

    async def close(self) -> None:
        """Close the connection."""


def read_message(
    raw: str, delivery: DeliveryName, settings: Settings, entry_id: str = "", claiming: bool = False
) -> Job:
    """Return a job for a message as it came off the wire; one that does not validate becomes a job with a problem."""
    now = time.time()
    size = len(raw.encode("utf-8", "surrogateescape"))
    try:
        if size > settings.max_message_bytes:
            raise BadMessage(f"the message has {size} bytes; at most {settings.max_message_bytes} are accepted")
        request = ScrapeRequest.parse(raw)
    except BadMessage as error:
        kept = raw if size <= settings.max_message_bytes else raw[:_KEPT_OF_OVERSIZE]
        readable = kept.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        message_id = str(uuid.uuid5(_RAW_IDS, repr(raw)))
        return Job(readable, None, delivery, entry_id, message_id, claiming, now, f"BadMessage: {error}")
    return Job(raw, request, delivery, entry_id, request.message_id, claiming, now)


class StreamDelivery:
    """Messages from the job stream, by a consumer group: each reaches one worker and stays until acknowledged."""

    name: DeliveryName = "stream"
    subscribed_at = 0.0

    def __init__(self, client: Any, keys: Keys, consumer: str, settings: Settings) -> None:
        self._client = client
        self._reader: Any = Redis(connection_pool=client.connection_pool, single_connection_client=True)
        self._keys = keys
        self._consumer = consumer
        self._settings = settings
        self._connection_id: int | None = None
        self._own: str | None = "0"

    async def open(self) -> None:
        """Make the group where it is missing; what this consumer already held is read before anything new."""
        await make_group(self._client, self._keys)
        with contextlib.suppress(ResponseError):
            self._connection_id = await self._reader.client_id()
        self._own = "0"

    async def receive(self, room: int, held: Collection[str], block: float = BLOCK) -> list[Job]:
        """Read this consumer's own pending entries first, then new ones."""
        try:
            reply = await self._reader.xreadgroup(
                self._keys.group,
                self._consumer,
                {self._keys.jobs: self._own or ">"},
                count=room,
                block=None if self._own or block <= 0 else max(1, int(block * 1000)),
            )
        except ResponseError as error:
            if not str(error).startswith(("NOGROUP", "UNBLOCKED")):
                raise
            if str(error).startswith("NOGROUP"):
                log.warning("the group of %s has vanished; it is made anew from the start", self._keys.jobs)
                await self.open()
            return []
        entries = [entry for part in reply.get(self._keys.jobs, []) for entry in part] if reply else []
        if self._own:
            self._own = entries[-1][0] if entries else None
            if not entries:
                return await self.receive(room, held, block)
        return await self._read(entries, held)

    async def take_over(self, room: int, held: Collection[str], idle: float) -> list[Job]:
        """Take entries that another consumer has let lie for `idle` seconds."""
        try:
            reply = await self._client.xautoclaim(
                self._keys.jobs, self._keys.group, self._consumer, int(idle * 1000), "0-0", count=room
            )
        except ResponseError as error:
            if str(error).startswith("NOGROUP"):
                return []
            raise
        jobs = await self._read(reply[1], held)
        if jobs:
            log.info("took over %d jobs that lay idle for %.1f s", len(jobs), idle)
        return [await self._unless_deadly(job) for job in jobs]

    async def _read(self, entries: Sequence[tuple[str, dict[str, str]]], held: Collection[str]) -> list[Job]:
        vanished = [entry_id for entry_id, fields in entries if not fields]
        if vanished:
            await self._client.xack(self._keys.jobs, self._keys.group, *vanished)
        return [
            read_message(fields.get("message", ""), self.name, self._settings, entry_id)
            for entry_id, fields in entries
            if fields and entry_id not in held
        ]

    async def _unless_deadly(self, job: Job) -> Job:
        """Give up on a message that has been handed out as often as a job may be attempted."""
        found = await self._client.xpending_range(
            self._keys.jobs, self._keys.group, job.entry_id, job.entry_id, 1, consumername=self._consumer
        )
        times = found[0]["times_delivered"] if found else 1
        if times <= self._settings.max_attempts or job.problem:
            return job
        problem = f"WorkerDied: handed out {times} times, and each time the worker fell silent"
        return Job(job.raw, job.request, job.delivery, job.entry_id, job.message_id, False, job.received_at, problem)

    async def interrupt(self) -> None:
        """Unblock the read on the server's side, so that no reply is lost on the way."""
        if self._connection_id is not None:
            with contextlib.suppress(ResponseError):
                await self._client.client_unblock(self._connection_id)

    async def leftovers(self) -> list[Job]:
        """Nothing: what this consumer has not read waits in the stream."""
        return []

    async def close(self) -> None:
        """Close the connection."""
        await self._reader.aclose()


async def make_group(client: Any, keys: Keys) -> None:
    """Make the job stream and its group, reading from the start, unless they are there."""
    try:
        await client.xgroup_create(keys.jobs, keys.group, id="0", mkstream=True)
    except ResponseError as error:
        if not str(error).startswith("BUSYGROUP"):
            raise


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
        self.subscribed_at = 0.0

    async def open(self) -> None:
        """Subscribe, and wait for the server's word that it is so."""
        await self._drop()
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
            if message is None or message["type"] == "unsubscribe":
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

    async def leftovers(self) -> list[Job]:
        """Read what the server had sent before it confirmed the end of the subscription, and claim it."""
        if self._pubsub is None or not self._claiming:
            return []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BLOCK):
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

"""The two deliveries that bring messages to a worker, and the recovery of dead workers' pending entries."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from redis.asyncio import Redis
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from scraperkit.connection import SOCKET_TIMEOUT, is_no_group
from scraperkit.engine.jobs import Job, read_message
from scraperkit.engine.redis_retry import end, within
from scraperkit.engine.registry import Session, WorkerCard, dead_workers, redis_time
from scraperkit.keys import DEFAULT_SOURCE, DeliveryName, Keys
from scraperkit.lua import scripts

log = logging.getLogger(__name__)
BLOCK = 1.0
_PENDING_READ = 10_000
_TAKEN_AT_ONCE = 500
_SUSPECT_AFTER = 2
_FEWEST_LIVES = 3


class Delivery(Protocol):
    """A way for messages to reach a worker. All calls come from the worker's loop.

    Attributes
    ----------
    name : {"stream", "pubsub"}
    subscribed_at : float
        When the channel was subscribed to, by the clock of Redis; 0 for the stream.
    """

    name: DeliveryName
    subscribed_at: float

    async def open(self) -> None:
        """Connect or reconnect; return once the server has confirmed that messages will arrive."""

    async def receive(self, room: int, held: Callable[[], Collection[str]], block: float = BLOCK) -> list[Job]:
        """Wait up to `block` seconds for messages, and take at most `room`; `held` returns the keys in hand now."""

    async def interrupt(self) -> None:
        """Make a waiting ``receive`` return at once."""

    async def nudge(self) -> None:
        """Make a waiting ``receive`` return at once; messages continue to arrive here."""

    async def leftovers(self, held: Collection[str]) -> list[Job]:
        """After an interruption, take the messages that arrived unread, to hand them to other workers."""

    async def close(self) -> None:
        """Close the connection."""


class StreamDelivery:
    """Messages from the job stream, by a consumer group: each reaches one worker and stays until acknowledged."""

    name: DeliveryName = "stream"
    subscribed_at = 0.0

    def __init__(self, session: Session) -> None:
        self._client, self._keys, self._settings = session.client, session.keys, session.settings
        self._reader: Any = Redis(connection_pool=self._client.connection_pool, single_connection_client=True)
        self._consumer = session.card.name
        self._pending = PendingRecovery(session)
        # Only one task at a time takes entries back: otherwise two tasks could each take a suspect.
        self._taking_back = asyncio.Lock()
        self._connection_id: int | None = None
        self._recovering = False

    async def open(self) -> None:
        """Create the group if it is missing; find what this consumer holds before anything new is read."""
        await make_group(self._client, self._keys)
        with contextlib.suppress(ResponseError):
            self._connection_id = await self._reader.client_id()
        await self._pending.look_for_inherited()
        self._recovering = True

    async def receive(self, room: int, held: Callable[[], Collection[str]], block: float = BLOCK) -> list[Job]:
        """Take entries that are pending with this consumer but not in hand; if there are none, new entries."""
        async with self._taking_back:
            jobs = await self._recover(room, held()) or await self._pending.take(room, held())
        if jobs:
            return jobs
        milliseconds = max(1, int(block * 1000)) if block > 0 else None
        stream = {self._keys.jobs: ">"}
        try:
            reply = await self._reader.xreadgroup(
                self._keys.group, self._consumer, stream, count=room, block=milliseconds
            )
        except ResponseError as error:
            if is_no_group(error):
                log.warning(
                    "the consumer group of %s has vanished; creating it again from the start of the stream",
                    self._keys.jobs,
                )
                await self.open()
            elif not str(error).startswith("UNBLOCKED"):
                raise
            return []
        entries = [entry for part in reply.get(self._keys.jobs, []) for entry in part] if reply else []
        in_hand = held()
        return [self._job(entry_id, fields) for entry_id, fields in entries if entry_id not in in_hand]

    async def look_for_the_dead(self) -> None:
        """Find the pending entries of workers whose heartbeat has stopped; the next ``receive`` takes them first."""
        if await self._pending.look_for_the_dead():
            await self.nudge()

    async def take_expired(self, room: int, held: Callable[[], Collection[str]], idle: float) -> list[Job]:
        """Take entries that another consumer, dead or alive, has not renewed for `idle` seconds."""
        async with self._taking_back:
            return await self._pending.expired(room, held(), idle)

    async def _recover(self, room: int, held: Collection[str]) -> list[Job]:
        """Return entries whose reply was lost with a connection; they did not kill a worker."""
        if not self._recovering:
            return []
        mine = await self._pending.pending(consumername=self._consumer)
        unknown = [row["message_id"] for row in mine if row["message_id"] not in {*held, *self._pending.waiting}]
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
        job = read_message(fields.get("message", ""), self.name, self._settings, entry_id)
        source = self._keys.source
        if job.request is None or job.request.source == source:
            return job
        return job._replace(
            request=None,
            problem=f"BadMessage: source: this is the stream of {source}, not of {job.request.source}; "
            f"publish to {self._keys.of(job.request.source).jobs}",
        )

    async def interrupt(self) -> None:
        """Unblock the read on the server's side, so that no reply is lost on the way."""
        if self._connection_id is not None:
            with contextlib.suppress(ResponseError):
                await self._client.client_unblock(self._connection_id)

    async def nudge(self) -> None:
        """Unblock the read."""
        await self.interrupt()

    async def leftovers(self, held: Collection[str]) -> list[Job]:  # noqa: ARG002
        """Return nothing: entries that this consumer has not read wait in the stream."""
        return []

    async def close(self) -> None:
        """Close the connection."""
        await self._reader.aclose()


class PubSubDelivery:
    """Messages from the channel: every subscriber receives each, and nothing is kept."""

    name: DeliveryName = "pubsub"

    def __init__(self, session: Session, outcomes: Counter[str]) -> None:
        self._client, self._keys, self._settings = session.client, session.keys, session.settings
        self._session = session
        self._outcomes = outcomes
        self._claiming = session.claiming
        self._pubsub: Any = None
        self._unclaimed: list[Job] = []
        self._twins: dict[tuple[str, str | None], Job] = {}
        self._asked_at: float | None = None
        self._heard_at = 0.0
        self.subscribed_at = 0.0

    async def open(self) -> None:
        """Subscribe, and wait for the server's confirmation."""
        await self._drop()
        self._asked_at, self._heard_at = None, time.monotonic()
        subscribing_at = await redis_time(self._client)
        self._pubsub = self._client.pubsub()
        await self._pubsub.subscribe(self._keys.channel)
        async with asyncio.timeout(10):
            while (await self._pubsub.get_message(timeout=None))["type"] != "subscribe":
                pass
        self.subscribed_at = subscribing_at

    async def receive(self, room: int, held: Callable[[], Collection[str]], block: float = BLOCK) -> list[Job]:
        """Read and claim the messages that have arrived; count those that another worker has claimed as ignored.

        A message that is already in hand waits until that job is settled, since it may be for another batch.
        """
        in_hand = held()
        ready = [twin for twin, job in self._twins.items() if job.message_id not in in_hand]
        self._unclaimed += [self._twins.pop(twin) for twin in ready]
        wait = 0.0 if self._unclaimed else block
        while len(self._unclaimed) < room:
            message = await self._pubsub.get_message(timeout=wait)
            if message is None:
                await self._check_connection()
                break
            self._asked_at, self._heard_at = None, time.monotonic()
            if message["type"] == "unsubscribe":
                break
            wait = 0.0
            self._keep(message)
        seen: set[str] = set(held())
        jobs = []
        for job in self._unclaimed:
            if job.message_id in seen:
                self._twins[_twin(job)] = job
            else:
                seen.add(job.message_id)
                jobs.append(job)
        mine = await self._claim_all(jobs)
        if ignored := len(jobs) - len(mine):
            self._outcomes["ignored"] += ignored
        self._unclaimed.clear()
        return mine

    def _keep(self, message: Mapping[str, Any]) -> None:
        """Keep a message that is for this source; the default source reports messages that are invalid."""
        if message["type"] == "message":
            job = read_message(message["data"], self.name, self._settings, claiming=self._claiming)
            if (job.request.source if job.request is not None else DEFAULT_SOURCE) == self._keys.source:
                self._unclaimed.append(job)

    async def _check_connection(self) -> None:
        """Ping the server after a silence, since the connection may be dead; give it up if no reply comes in time.

        Raises
        ------
        redis.exceptions.TimeoutError
            If no reply has come within the time allowed.
        """
        now = time.monotonic()
        allowed = self._client.connection_pool.connection_kwargs.get("socket_timeout") or SOCKET_TIMEOUT
        if self._asked_at is None:
            if now - self._heard_at > allowed / 3:
                self._asked_at = now
                await self._pubsub.ping()
        elif now - self._asked_at > allowed:
            raise RedisTimeoutError(f"no message or reply arrived on {self._keys.channel} for {allowed:g} s")

    async def _claim_all(self, jobs: Sequence[Job]) -> list[Job]:
        if not jobs:
            return []
        won = await scripts.claim(
            self._client,
            self._keys,
            [(job.message_id, job.request.batch_id if job.request else None) for job in jobs],
            instance=self._session.card.instance,
            lease=self._settings.lease,
            silence=self._session.silence,
            exclusive=self._claiming,
        )
        return [job for job, mine in zip(jobs, won, strict=True) if mine]

    async def interrupt(self) -> None:
        """Unsubscribe: the server's confirmation ends the wait."""
        if self._pubsub is not None:
            await self._pubsub.unsubscribe()

    async def nudge(self) -> None:
        """Make the server send a reply."""
        if self._pubsub is not None:
            await self._pubsub.ping()

    async def leftovers(self, held: Collection[str]) -> list[Job]:
        """Read and claim what the server sent before it confirmed the end of the subscription."""
        if self._pubsub is None or not self._claiming:
            return []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BLOCK):
                if self._pubsub.subscribed:  # a worker stepped by hand was not interrupted
                    await self._pubsub.unsubscribe()
                while self._pubsub.subscribed:
                    message = await self._pubsub.get_message(timeout=BLOCK)
                    if message is not None:
                        self._keep(message)
        waiting = [*self._unclaimed, *self._twins.values()]
        self._unclaimed.clear()
        # Handing back the twin of a job in hand would drop that job's claim; see receive().
        self._twins = {_twin(job): job for job in waiting if job.message_id in held}
        return await self._claim_all([job for job in waiting if job.message_id not in held])

    async def _drop(self) -> None:
        if self._pubsub is not None:
            with contextlib.suppress(Exception):
                await self._pubsub.aclose()
            self._pubsub = None

    async def close(self) -> None:
        """Close the connection."""
        await self._drop()


def _twin(job: Job) -> tuple[str, str | None]:
    """Return the key that copies of a message on the channel share: its id and its batch."""
    return job.message_id, job.request.batch_id if job.request else None


def deliveries_of(session: Session, outcomes: Counter[str]) -> list[Delivery]:
    """Return the deliveries that a worker listens to; they count ignored messages in `outcomes`."""
    deliveries: list[Delivery] = []
    if session.card.delivery != "pubsub":
        deliveries.append(StreamDelivery(session))
    if session.card.delivery != "stream":
        deliveries.append(PubSubDelivery(session, outcomes))
    return deliveries


async def make_group(client: Any, keys: Keys) -> None:
    """Create the job stream and its group, which reads from the start, unless they exist."""
    try:
        await client.xgroup_create(keys.jobs, keys.group, id="0", mkstream=True)
    except ResponseError as error:
        if not str(error).startswith("BUSYGROUP"):
            raise


class _Pending(NamedTuple):
    """The owner of a pending entry, and how often it has been delivered."""

    owner: str
    times: int


class PendingRecovery:
    """Recovery of entries that are pending with dead workers, such as an earlier life of this one.

    Redis counts how often an entry has been delivered. An entry whose worker died twice may be what kills workers. It
    becomes a suspect, and a worker holds only one suspect at a time, so that entries that were merely in hand when a
    worker died get done. After as many lost workers as a job has attempts, it becomes a dead letter.
    """

    def __init__(self, session: Session) -> None:
        self._client, self._keys, self._settings = session.client, session.keys, session.settings
        self._consumer = session.card.name
        self._lives = max(_FEWEST_LIVES, self._settings.max_attempts)
        self._suspect = ""
        self._looked = False
        self.waiting: dict[str, _Pending] = {}

    async def pending(self, count: int = _PENDING_READ, start: str = "-", **which: Any) -> list[dict[str, Any]]:
        """Return the group's pending entries from `start` on; empty if there is no group."""
        try:
            rows: list[dict[str, Any]] = await self._client.xpending_range(
                self._keys.jobs, self._keys.group, start, "+", count, **which
            )
        except ResponseError as error:
            if is_no_group(error):
                return []
            raise
        return rows

    async def look_for_inherited(self) -> None:
        """Look once, at the start, for entries that an earlier life of this worker had in hand."""
        if not self._looked:
            await self._look([self._consumer], _PENDING_READ)
            self._looked = True

    async def look_for_the_dead(self) -> bool:
        """Look for entries that dead workers had in hand; return whether any wait to be taken."""
        await self._look(await dead_workers(self._client, self._keys), _TAKEN_AT_ONCE)
        return bool(self.waiting)

    async def _look(self, names: Sequence[str], most: int) -> None:
        for name in names:
            rows = await self.pending(most, consumername=name)
            self.waiting |= {row["message_id"]: _Pending(name, row["times_delivered"]) for row in rows}

    async def take(self, room: int, held: Collection[str]) -> list[Job]:
        """Take waiting entries, as far as there is room, unless another worker has already taken them."""
        times = {entry_id: found.times for entry_id, found in self.waiting.items() if entry_id not in held}
        chosen = self._choose(times, room, held)
        if not chosen:
            return []
        owners = {entry_id: self.waiting[entry_id].owner for entry_id in chosen}
        taken = await scripts.take_over(self._client, self._keys, owners, consumer=self._consumer)
        for entry_id in chosen:
            del self.waiting[entry_id]
        others = [entry_id for entry_id, _ in taken if owners[entry_id] != self._consumer]
        if others:
            log.info("took over %d jobs of dead workers", len(others))
        return self._jobs(taken, chosen, owners)

    async def expired(self, room: int, held: Collection[str], idle: float) -> list[Job]:
        """Take over entries that have been idle with others for `idle` seconds, as far as there is room.

        A living worker's lease, shown on its card, may be longer than this one's.
        """
        times: dict[str, int] = {}
        owners: dict[str, str] = {}
        start, count = "-", room + len(held) + 1
        while len(times) <= room and (rows := await self.pending(count, start, idle=int(idle * 1000))):
            leases = await self._leases({row["consumer"] for row in rows})
            for row in rows:
                expired = row["time_since_delivered"] >= leases[row["consumer"]] * 1000
                if expired and row["message_id"] not in held:
                    times[row["message_id"]] = row["times_delivered"]
                    owners[row["message_id"]] = row["consumer"]
            start = f"({rows[-1]['message_id']}"
        jobs = await self._claim(self._choose(times, room, held), owners, idle)
        if jobs:
            log.info("took over %d jobs that had been idle for %.1f s", len(jobs), idle)
        return jobs

    async def _leases(self, names: Collection[str]) -> dict[str, float]:
        """Return the lease of each living worker; 0 for a dead one."""
        texts = await self._client.mget([self._keys.worker(name) for name in names])
        cards = [WorkerCard.read(text) if text else None for text in texts]
        return {name: card.lease if card else 0.0 for name, card in zip(names, cards, strict=True)}

    def _choose(self, times: dict[str, int], room: int, held: Collection[str]) -> dict[str, int]:
        """Choose all entries that are not suspects, and one suspect unless one is in hand."""
        chosen = {entry_id: count for entry_id, count in times.items() if count < _SUSPECT_AFTER}
        if self._suspect not in held:
            suspects = [entry_id for entry_id in times if entry_id not in chosen][:1]
            chosen = {entry_id: times[entry_id] for entry_id in suspects} | chosen
            self._suspect = suspects[0] if suspects else ""
        return dict(list(chosen.items())[:room])

    async def _claim(self, chosen: dict[str, int], owners: Mapping[str, str], idle: float) -> list[Job]:
        if not chosen:
            return []
        try:
            entries: Sequence[tuple[str, dict[str, str]]] = await self._client.xclaim(
                self._keys.jobs, self._keys.group, self._consumer, int(idle * 1000), list(chosen)
            )
        except ResponseError as error:
            if is_no_group(error):
                return []
            raise
        return self._jobs(entries, chosen, owners)

    def _jobs(
        self, entries: Sequence[tuple[str, dict[str, str]]], delivered: Mapping[str, int], owners: Mapping[str, str]
    ) -> list[Job]:
        jobs = [self._job(entry_id, fields, delivered[entry_id] + 1) for entry_id, fields in entries if fields]
        return [job._replace(taken_from=owners[job.entry_id]) for job in jobs]

    def _job(self, entry_id: str, fields: dict[str, str], times: int) -> Job:
        job = read_message(fields.get("message", ""), "stream", self._settings, entry_id)
        if times <= self._lives or job.problem:
            return job
        return job._replace(problem=f"WorkerDied: delivered {times - 1} times, and each time the worker fell silent")


async def end_receiving(receivers: Sequence[asyncio.Task[None]], deliveries: Sequence[Delivery]) -> None:
    """Wake the receivers until they have ended, since a read may be on its way to the server."""
    ends_at = time.monotonic() + BLOCK + 1
    while any(not receiver.done() for receiver in receivers) and time.monotonic() < ends_at:
        for delivery in deliveries:
            await within(ends_at - time.monotonic(), delivery.interrupt())
        await asyncio.wait(receivers, timeout=0.02)
    await end(receivers)

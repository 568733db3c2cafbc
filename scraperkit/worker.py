"""The engine: one asyncio loop does all the talking to Redis, plain threads do the scraping."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import redis as redis_py

from scraperkit.config import Settings
from scraperkit.connection import async_client, check_client
from scraperkit.delivery import BLOCK, Delivery, PubSubDelivery, StreamDelivery
from scraperkit.engine.jobs import Job
from scraperkit.engine.outage import AWAY, Patience
from scraperkit.engine.pool import ThreadPool
from scraperkit.engine.registry import Registry
from scraperkit.engine.settle import Settler
from scraperkit.engine.tasks import all_of, first_error
from scraperkit.engine.upkeep import Upkeep
from scraperkit.errors import ConfigError, WorkerError
from scraperkit.keys import Keys
from scraperkit.sources.base import Source

log = logging.getLogger(__name__)
Listen = Literal["both", "stream", "pubsub"]


class Worker:
    """Receives messages, has threads fetch the pages, stores the quotes, acknowledges.

    Most people want a :class:`~scraperkit.Subscriber`, which runs a worker in the background; ``scraperkit work``
    runs one as a process. A worker can also be stepped by hand: ``await worker.step()``.

    Parameters
    ----------
    redis : redis.Redis
        From :func:`scraperkit.connect`; only its parameters are used, the worker opens connections of its own.
    source : Source
        Where prices come from.
    threads : int, optional
        Threads that call ``source.fetch``.
    delivery : {"both", "stream", "pubsub"}
        What to listen to.
    claim : bool
        Pub/Sub only: ``True`` lets one of all workers do a message, ``False`` lets each do it.
    namespace, name, settings
        Defaults are read from the environment; `name` is the consumer's.
    """

    def __init__(
        self,
        redis: redis_py.Redis,
        source: Source,
        *,
        threads: int | None = None,
        delivery: Listen = "both",
        claim: bool = True,
        namespace: str | None = None,
        name: str | None = None,
        settings: Settings | None = None,
    ) -> None:
        if not callable(getattr(source, "fetch", None)):
            raise ConfigError(f"source: {type(source).__name__} has no fetch(request) method")
        if delivery not in ("both", "stream", "pubsub"):
            raise ConfigError(f"delivery: {delivery!r} is not one of 'both', 'stream', 'pubsub'")
        check_client(redis)
        given = {"threads": threads, "namespace": namespace}
        self.settings = Settings.load(**((settings.model_dump() if settings else {}) | _stated(given)))
        self.keys = Keys(self.settings.namespace)
        self.source = source
        self.delivery: Listen = delivery
        self.claim = claim
        self.outcomes: Counter[str] = Counter()
        self._redis = redis
        self._wanted_name = name
        self._patience = Patience()
        self._deadline = self.settings.stop_deadline
        self._stopping = False
        self._started = False

    @property
    def name(self) -> str:
        """The consumer's name, known once the worker has started."""
        return self.card.name if self._started else self._wanted_name or ""

    @property
    def held(self) -> list[Job]:
        """The jobs in hand."""
        return [job for jobs in list(self._held.values()) for job in list(jobs.values())] if self._started else []

    @property
    def busy(self) -> dict[str, Job]:
        """What each thread is at."""
        return dict(self._pool.busy) if self._started else {}

    async def start(self) -> None:
        """Connect and listen: returns once the server has confirmed that messages will arrive here.

        Raises
        ------
        redis.exceptions.ConnectionError
            If Redis is away now; once started, the worker waits for it instead.
        """
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        self._settled = asyncio.Event()
        self._ending = asyncio.Event()
        self._stopping = False
        self._patience = Patience()
        self._client: Any = async_client(self._redis, encoding_errors="surrogateescape")
        try:
            await self._enter()
        except BaseException:
            await self._client.aclose()
            raise
        await self._keep_up()
        log.info("%s listens (%s, %d threads)", self.name, self.delivery, self.settings.threads)

    async def _enter(self) -> None:
        registry = Registry(self._client, self.keys, self.settings.heartbeat, self._wanted_name)
        self.card = await registry.enter(self.settings.threads, self.delivery)
        self._upkeep = Upkeep(self._client, self.keys, self.settings, registry, self.card)
        self._settler = Settler(self._client, self.keys, self.settings, self.card)
        self._deliveries = self._open_deliveries()
        self._held: dict[str, dict[str, Job]] = {delivery.name: {} for delivery in self._deliveries}
        self._cut: set[str] = set()
        for delivery in self._deliveries:
            await delivery.open()
        self._pool = ThreadPool(self.source.fetch, self.settings.threads, self._wake)
        self._taken_over_at = 0.0
        self._started = True

    def _open_deliveries(self) -> list[Delivery]:
        deliveries: list[Delivery] = []
        if self.delivery != "pubsub":
            self._stream = StreamDelivery(self._client, self.keys, self.card.name, self.settings)
            deliveries.append(self._stream)
        if self.delivery != "stream":
            self._pubsub = PubSubDelivery(self._client, self.keys, self.card.instance, self.settings, self.claim)
            deliveries.append(self._pubsub)
        return deliveries

    async def run(self) -> None:
        """Work until :meth:`request_stop`; then finish or hand back what is in hand, and return.

        Raises
        ------
        WorkerError
            If the engine itself failed. What was in hand is handed back first, as far as that can be done.
        """
        if not self._started:
            await self.start()
        failed: BaseException | None = None
        rounds = [self._receiving(delivery) for delivery in self._deliveries]
        async with all_of(*rounds) as receivers, all_of(self._settling(), self._keeping_up()) as keepers:
            ending = asyncio.create_task(self._ending.wait())
            await asyncio.wait([ending, *receivers, *keepers], return_when=asyncio.FIRST_COMPLETED)
            ending.cancel()
            failed = first_error([*receivers, *keepers])
            await self._wind_up(receivers)
            failed = failed or first_error([*receivers, *keepers])
        if failed is not None:
            raise WorkerError(f"the engine of {self.card.name} failed: {type(failed).__name__}: {failed}") from failed

    def request_stop(self, deadline: float | None = None) -> None:
        """Ask :meth:`run` to end; may be called from any thread, any number of times."""
        if deadline is not None:
            self._deadline = deadline
        with contextlib.suppress(RuntimeError):  # the loop has ended already
            self._loop.call_soon_threadsafe(self._ending.set)

    async def step(self, block: float = 0.0) -> Counter[str]:
        """Do one round and return: receive what is there, fetch it, store it, acknowledge it.

        Parameters
        ----------
        block : float
            Seconds to wait for a message where there is none.

        Returns
        -------
        collections.Counter
            How many jobs came to which outcome: done, retry, failed, dead, ignored, superseded.
        """
        if not self._started:
            await self.start()
        before = Counter(self.outcomes)
        await self._keep_up()
        for delivery in self._deliveries:
            await self._receive(delivery, block)
        while self.held:
            await self._woken.wait()
            await self._settle_ready()
        return self.outcomes - before

    async def close(self, deadline: float | None = None) -> None:
        """End a worker that was stepped by hand: hand back what is in hand and close all connections."""
        if deadline is not None:
            self._deadline = deadline
        if self._started:
            await self._wind_up([])

    # ------------------------------------------------------------------ receiving

    async def _receiving(self, delivery: Delivery) -> None:
        while not self._stopping:
            await self._patience.until_answered(partial(self._receive, delivery, BLOCK))

    async def _receive(self, delivery: Delivery, block: float) -> None:
        """One round; after an outage it begins with a new connection."""
        room = self._room(delivery.name)
        if room <= 0:
            self._settled.clear()
            await self._settled.wait()
            return
        if self._stopping:
            return
        try:
            if delivery.name in self._cut:
                await delivery.open()
                self._cut.discard(delivery.name)
            jobs = await delivery.receive(room, self._held[delivery.name].keys(), block)
        except AWAY:
            self._cut.add(delivery.name)
            raise
        self._take(jobs)

    def _room(self, delivery: str) -> int:
        """How many more messages may be held: one for each thread, and the prefetch."""
        return self.settings.threads + self.settings.prefetch - len(self._held[delivery])

    def _take(self, jobs: list[Job]) -> None:
        for job in jobs:
            self._held[job.delivery][job.key] = job
        self._pool.submit(jobs)

    # ------------------------------------------------------------------- settling

    def _wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # a stuck thread may come back after the loop has ended
            self._loop.call_soon_threadsafe(self._woken.set)

    async def _settling(self) -> None:
        while True:
            await self._woken.wait()
            await self._settle_ready()

    async def _settle_ready(self) -> None:
        self._woken.clear()
        results = self._pool.results()
        if not results:
            return
        answers = await self._patience.until_answered(partial(self._settler.settle, results))
        for result, answer in zip(results, answers, strict=True):
            self._held[result.job.delivery].pop(result.job.key, None)
            self.outcomes[answer] += 1
        self._settled.set()

    # --------------------------------------------------------------------- upkeep

    async def _keeping_up(self) -> None:
        pause = min(self.settings.heartbeat, self.settings.lease / 4, 1.0)
        while True:
            await asyncio.sleep(pause)
            await self._patience.until_answered(self._keep_up)

    async def _keep_up(self) -> None:
        """Give a sign of life, renew leases, feed retries that are due, take over what others let lie."""
        subscribed_at = self._pubsub.subscribed_at if self.delivery != "stream" else 0.0
        await self._upkeep.beat(
            subscribed_at=subscribed_at,
            in_hand=len(self.held),
            settled=sum(self.outcomes.values()),
            errors=self._patience.outages,
        )
        await self._upkeep.renew(self.held)
        if self.delivery != "pubsub":
            await self._upkeep.feed_retries()
            await self._take_over()

    async def _take_over(self) -> None:
        room = self._room("stream")
        if room > 0 and not self._stopping and time.monotonic() - self._taken_over_at >= self.settings.lease / 4:
            self._take(await self._stream.take_over(room, self._held["stream"].keys(), self.settings.lease))
            self._taken_over_at = time.monotonic()

    # ------------------------------------------------------------------- stopping

    async def _wind_up(self, receivers: Sequence[asyncio.Task[None]]) -> None:
        """Hand back what is not begun, wait for what is, hand back the rest, sign off."""
        ends_at = time.monotonic() + self._deadline
        self._stopping = True
        self._patience.end(self._deadline)
        self._settled.set()
        await self._end_receiving(receivers)
        with contextlib.suppress(*AWAY):
            await self._hand_back(self._pool.withdraw())
        with contextlib.suppress(TimeoutError, *AWAY):
            async with asyncio.timeout(max(0.0, ends_at - time.monotonic())):
                await self._finish()
        with contextlib.suppress(*AWAY):
            await self._hand_back(self.held)
            await self._upkeep.leave()
        self._pool.close()
        self._pool.join(0.5 if self._pool.busy else 5.0)
        for delivery in self._deliveries:
            await delivery.close()
        await self._client.aclose()
        self._started = False

    async def _end_receiving(self, receivers: Sequence[asyncio.Task[None]]) -> None:
        """Wake the receivers until they have seen that it is over: a read may just be on its way to the server."""
        ends_at = time.monotonic() + BLOCK + 1
        while any(not receiver.done() for receiver in receivers) and time.monotonic() < ends_at:
            for delivery in self._deliveries:
                with contextlib.suppress(*AWAY):
                    await delivery.interrupt()
            await asyncio.wait(receivers, timeout=0.02)
        for receiver in receivers:
            receiver.cancel()

    async def _finish(self) -> None:
        """Wait until what the threads still bring is settled."""
        while self.held:
            self._settled.clear()
            await self._settled.wait()

    async def _hand_back(self, jobs: list[Job]) -> None:
        await self._upkeep.hand_back(jobs)
        for job in jobs:
            self._held[job.delivery].pop(job.key, None)


def _stated(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}

"""The engine: one asyncio loop does all the talking to Redis, plain threads do the scraping."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from typing import Any, Literal

import redis as redis_py

from scraperkit.config import Settings, given_by
from scraperkit.connection import async_client, check_client, sibling
from scraperkit.engine.core import Core
from scraperkit.engine.delivery import Delivery, PubSubDelivery, StreamDelivery
from scraperkit.engine.jobs import Job
from scraperkit.engine.levers import Crashed, Levers
from scraperkit.engine.outage import AWAY, Patience
from scraperkit.engine.registry import NameTaken, Registry, WorkerCard
from scraperkit.engine.settle import Settler
from scraperkit.engine.tasks import FAREWELL
from scraperkit.engine.upkeep import Upkeep
from scraperkit.errors import ConfigError, RedisUnreachable, WorkerError
from scraperkit.keys import Keys
from scraperkit.sources.base import Source, check_source
from scraperkit.sources.politeness import Politeness

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
        Threads that call ``source.fetch``. For each delivery, the worker holds at most one message a thread and
        ``Settings.prefetch`` more.
    delivery : {"both", "stream", "pubsub"}
        What to listen to.
    claim : bool
        Pub/Sub only: ``True`` lets one of all workers do a message, ``False`` lets each do it.
    namespace, name, settings
        Defaults are read from the environment; `name` is the consumer's.

    Attributes
    ----------
    outcomes : collections.Counter
        How many jobs came to which outcome so far: done, retry, failed, dead, ignored, superseded.
    crashed_as : str
        The name under which it died, if :meth:`crash_next` had asked for that; else empty.
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
        check_source(source)
        if delivery not in ("both", "stream", "pubsub"):
            raise ConfigError(f"delivery: {delivery!r} is not one of 'both', 'stream', 'pubsub'")
        check_client(redis)
        base = given_by(settings)
        self.settings = Settings.load(**base | {"threads": threads or base.get("threads", threads)})
        self.keys = Keys(namespace or self.settings.namespace)
        self.source = source
        self.delivery: Listen = delivery
        self.claim = claim
        self.outcomes: Counter[str] = Counter()
        self.card: WorkerCard | None = None
        self.crashed_as = ""
        self._redis = redis
        self._wanted_name = name
        self._client: Any = None
        self._polite: redis_py.Redis | None = None
        self._core: Core | None = None
        self._entering = Patience()
        self._stop_requested = False
        self._levers = Levers()

    @property
    def name(self) -> str:
        """The consumer's name; empty unless the worker works."""
        return self.card.name if self.card is not None else ""

    @property
    def held(self) -> list[Job]:
        """The jobs in hand."""
        return self._core.jobs if self._core is not None else []

    @property
    def busy(self) -> dict[str, Job]:
        """What each thread is at, by the thread's name."""
        return dict(self._core.pool.busy) if self._core is not None else {}

    @property
    def begun_at(self) -> dict[str, float]:
        """When each thread began what it did last, in seconds since 1970, by the thread's name."""
        return dict(self._core.pool.begun_at) if self._core is not None else {}

    async def start(self) -> None:
        """Connect and listen: returns once the server has confirmed that messages will arrive here.

        Raises
        ------
        RedisUnreachable
            If Redis is away now; once started, the worker waits for it instead.
        """
        self._stop_requested = False
        self.crashed_as = ""
        self._entering = Patience()
        self._client = async_client(self._redis, encoding_errors="surrogateescape")
        try:
            await self._enter()
            self._share_politeness()
        except AWAY as error:
            await self._client.aclose()
            raise RedisUnreachable(
                f"the worker could not start, Redis does not answer: {str(error).rstrip('.')}"
            ) from error
        except BaseException:
            await self._client.aclose()
            raise
        log.info("%s listens (%s, %d threads)", self.name, self.delivery, self.settings.threads)

    async def _enter(self) -> Core:
        """Take a name and listen under it; should another take that name meanwhile, take the next."""
        while True:
            try:
                return await self._listen()
            except NameTaken as taken:
                log.warning("%s; it goes on under another name", taken)

    async def _listen(self) -> Core:
        registry = Registry(self._client, self.keys, self.settings.heartbeat, self._wanted_name)
        card = await registry.enter(self.settings.threads, self.delivery)
        deliveries = self._deliveries(card)
        upkeep = Upkeep(self._client, self.keys, self.settings, registry, card, self.outcomes)
        settler = Settler(self._client, self.keys, self.settings, card)
        core = Core(self.source, self.settings, deliveries, upkeep, settler, self.outcomes, self._levers)
        try:
            for delivery in deliveries:
                await delivery.open()
            await core.keep_up()
        except BaseException:
            await core.wind_up()  # or its threads would wait for ever
            raise
        self.card, self._core = card, core
        return core

    def _deliveries(self, card: WorkerCard) -> list[Delivery]:
        deliveries: list[Delivery] = []
        if self.delivery != "pubsub":
            deliveries.append(StreamDelivery(self._client, self.keys, card.name, self.settings))
        if self.delivery != "stream":
            deliveries.append(PubSubDelivery(self._client, self.keys, card.instance, self.settings, self.claim))
        return deliveries

    async def run(self) -> None:
        """Work until :meth:`request_stop`; then finish or hand back what is in hand, and return.

        Raises
        ------
        WorkerError
            If the engine itself failed. What was in hand is handed back first, as far as that can be done.
        """
        core = await self._started()
        name = self.name
        try:
            while isinstance(failed := await core.run(), NameTaken):
                log.warning("%s; it goes on under another name", failed)
                core = await self._entering.until_answered(self._enter)
                name = self.name
                if self._stop_requested:
                    core.request_stop()
            if isinstance(failed, Crashed):
                await self._die(core)
        finally:
            await self._sign_off()
        if failed is not None and not isinstance(failed, Crashed):
            raise WorkerError(f"the engine of {name} failed: {type(failed).__name__}: {failed}") from failed

    def request_stop(self, deadline: float | None = None) -> None:
        """Ask :meth:`run` to end; may be called from any thread, any number of times."""
        self._stop_requested = True
        self._entering.end(0)
        if self._core is not None:
            self._core.request_stop(deadline)

    async def step(self, block: float = 0.0) -> Counter[str]:
        """Do one round and return: receive what is there, fetch it, store it, acknowledge it.

        Parameters
        ----------
        block : float
            Seconds to wait for a message where there is none, for each delivery listened to.

        Returns
        -------
        collections.Counter
            How many jobs came to which outcome in this round.
        """
        core = await self._started()
        before = Counter(self.outcomes)
        try:
            await core.step(block)
        except Crashed:
            await self._die(core)
        return self.outcomes - before

    @property
    def paused(self) -> bool:
        """Whether it rests."""
        return self._levers.paused

    def pause(self) -> None:
        """Receive and begin nothing more; may be called from any thread.

        What threads are at is finished. What else is in hand is kept, its leases are renewed, and the heart beats, so
        nobody takes it over. A round of :meth:`step` receives nothing meanwhile. A stop ends the pause.
        """
        self._levers.paused = True
        if self._core is not None:
            self._core.pause()

    def resume(self) -> None:
        """End a pause; may be called from any thread."""
        self._levers.paused = False
        self._levers.resting.clear()
        if self._core is not None:
            self._core.resume()

    def crash_next(self) -> None:
        """Die of the next job that is received, as a killed process would: for lessons and tests.

        Once its page is fetched, and before anything of it is stored, the worker drops its connections and falls
        silent, with all that it has in hand: nothing is acknowledged or handed back, nobody is told. The process that
        it runs in goes on. :meth:`run` and :meth:`step` return as ever; started again, it is a new worker.
        """
        self._levers.crash_from = time.time()

    def wait_until_resting(self, timeout: float) -> bool:
        """Wait until a pause holds for sure, from another thread than the worker's; tell whether it does."""
        return self._core is None or self._levers.resting.wait(timeout)

    async def _die(self, core: Core) -> None:
        self.crashed_as = self.name
        await core.fall_silent()
        await self._sign_off()
        core.pool.join(self.settings.stop_deadline)

    async def close(self) -> None:
        """End a worker that was stepped by hand: hand back what is in hand and close all connections."""
        if self._core is not None:
            try:
                await self._core.wind_up()
            finally:
                await self._sign_off()

    async def _started(self) -> Core:
        if self._core is None:
            await self.start()
        assert self._core is not None  # noqa: S101
        return self._core

    def _share_politeness(self) -> None:
        """Have the source agree with those of all other workers, through a client that its threads may block."""
        politeness = getattr(self.source, "politeness", None)
        if isinstance(politeness, Politeness):
            self._polite = sibling(self._redis)
            politeness.share(self._polite)

    async def _sign_off(self) -> None:
        self._core = self.card = None
        self._levers = Levers()
        if self._polite is not None:
            self.source.politeness.unshare(self._polite)  # type: ignore[attr-defined]
            self._polite.close()
            self._polite = None
        with contextlib.suppress(*AWAY):
            async with asyncio.timeout(FAREWELL):
                await self._client.aclose()

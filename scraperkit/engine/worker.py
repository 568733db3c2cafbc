"""A worker: one asyncio loop talks to Redis, plain threads scrape."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, get_args

import redis as redis_py

from scraperkit.config import Settings, given_by
from scraperkit.connection import async_client, check_client, sibling
from scraperkit.engine.deliveries import BLOCK, Delivery, StreamDelivery, deliveries_of, end_receiving
from scraperkit.engine.jobs import Committer, Job, Result, hand_back, renew
from scraperkit.engine.levers import Crashed, Levers, Pause
from scraperkit.engine.redis_retry import AWAY, FAREWELL, RedisRetry, all_of, end, first_error, is_away, within
from scraperkit.engine.registry import Housekeeping, NameTaken, Session, WorkerCard, enter
from scraperkit.engine.thread_pool import Prefetch, ThreadPool
from scraperkit.errors import ConfigError, RedisRefused, RedisUnreachable, WorkerError, way_out_of
from scraperkit.failover.roles import Demoted
from scraperkit.keys import Keys, Listen
from scraperkit.sources.base import Source, check_source, stream_of
from scraperkit.sources.politeness import Politeness

log = logging.getLogger(__name__)
# Redis does nothing else while it settles, and a Lua script can unpack only a few thousand words at once.
_SETTLED_AT_ONCE = 500
# One prepares the next settlement while Redis works for the other.
_SETTLERS = 2
# Seconds in which several connections report the same failover.
_TOLD_TOGETHER = 2.0


class Worker:
    """Receive messages, have threads fetch the pages, store the quotes, acknowledge the messages.

    You usually want a :class:`~scraperkit.Subscriber`, which runs a worker in the background; ``scraperkit work``
    runs one as a process. A worker can also be stepped by hand: ``await worker.step()``.

    Parameters
    ----------
    redis : redis.Redis
        From :func:`scraperkit.connect`; only its parameters are used: the worker opens its own connections.
    source : Source
        Where prices come from.
    threads : int, optional
        Threads that call ``source.fetch``. For each delivery, the worker holds at most one message per thread plus
        ``Settings.prefetch``.
    delivery : {"both", "stream", "pubsub"}
        What to listen to.
    claim : bool
        Pub/Sub only: ``True`` has one worker process each message, ``False`` has every worker do so (fan-out).
    namespace, name, settings
        Defaults are read from the environment; `name` is the consumer's.

    Attributes
    ----------
    outcomes : collections.Counter
        Jobs by outcome so far: done, not_offered, retry, failed, dead, superseded, ignored (done or claimed before).
    crashed_as : str
        The name under which it crashed on request; otherwise empty.
    on_crash : callable
        Called when it crashes, so that workers of the same process crash, too.
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
        if delivery not in get_args(Listen):
            raise ConfigError(f"delivery: {delivery!r} is not one of {', '.join(map(repr, get_args(Listen)))}")
        check_client(redis)
        base = given_by(settings)
        self.settings = Settings.load(**base | {"threads": threads or base.get("threads", threads)})
        self.keys = Keys(namespace or self.settings.namespace, stream_of(source))
        self.source = source
        self.delivery: Listen = delivery
        self.claim = claim
        self.outcomes: Counter[str] = Counter()
        self.card: WorkerCard | None = None
        self.crashed_as = ""
        self.on_crash: Callable[[], None] = lambda: None
        self._redis = redis
        self._wanted_name = name
        self._client: Any = None
        self._polite: redis_py.Redis | None = None
        self._loop: WorkerLoop | None = None
        self._entering = RedisRetry()
        self._stop_requested = False
        self._levers = Levers()

    @property
    def name(self) -> str:
        """The consumer's name; empty unless the worker is running."""
        return self.card.name if self.card is not None else ""

    @property
    def held(self) -> list[Job]:
        """The jobs in hand."""
        return self._loop.jobs if self._loop is not None else []

    @property
    def busy(self) -> dict[str, Job]:
        """The job that each busy thread is working on, by the thread's name."""
        return dict(self._loop.pool.busy) if self._loop is not None else {}

    @property
    def begun_at(self) -> dict[str, float]:
        """When each thread began its latest job, in seconds since 1970, by the thread's name."""
        return dict(self._loop.pool.begun_at) if self._loop is not None else {}

    @property
    def outages(self) -> int:
        """Number of outages of Redis during this life of the worker."""
        return self._loop.redis_retry.outages if self._loop is not None else 0

    async def start(self) -> None:
        """Connect and listen; return once the server has confirmed that messages will arrive here.

        Raises
        ------
        RedisUnreachable
            If Redis is unreachable now. Once started, the worker waits for it instead.
        RedisRefused
            If Redis refuses a command that a worker needs, for example because the user lacks rights.
        """
        self._stop_requested = False
        self.crashed_as = ""
        if self._levers.over:
            self._levers = Levers()
        self._entering = RedisRetry()
        self._client = async_client(self._redis, encoding_errors="surrogateescape")
        try:
            await self._enter()
            self._share_politeness()
        except BaseException as error:
            await self._client.aclose()
            if isinstance(error, AWAY) and not isinstance(error, Demoted):
                why = str(error).rstrip(".")
                raise RedisUnreachable(f"the worker could not start because Redis does not respond: {why}") from error
            if isinstance(error, redis_py.RedisError):
                why = f"{str(error).rstrip('.')}{way_out_of(error)}"
                raise RedisRefused(f"the worker could not start: {why}") from error
            raise
        log.info("%s is listening (%s, %d threads)", self.name, self.delivery, self.settings.threads)

    async def _enter(self) -> WorkerLoop:
        """Take a name and listen under it; if another worker takes that name first, take the next."""
        while True:
            try:
                return await self._listen()
            except NameTaken as taken:
                log.warning("%s; taking another name", taken)

    async def _listen(self) -> WorkerLoop:
        card = await enter(self._client, self.keys, self.settings, self.delivery, self._wanted_name)
        session = Session(self._client, self.keys, self.settings, card, self.claim)
        loop = WorkerLoop(session, self.source, self._levers, self.outcomes)
        try:
            await loop.open()
        except BaseException:
            await loop.wind_up()  # otherwise its threads would wait forever
            raise
        self.card, self._loop = card, loop
        return loop

    async def run(self) -> None:
        """Work until :meth:`request_stop`; then finish or hand back the jobs in hand, and return.

        Raises
        ------
        WorkerError
            If the engine itself failed. Jobs in hand are handed back first, as far as possible.
        """
        loop = await self._started()
        name = self.name
        try:
            self._stop_if_requested(loop)  # the request may have come during the start
            while isinstance(failed := await loop.run(), NameTaken):
                log.warning("%s; taking another name", failed)
                loop = await self._entering.until_answered(self._enter)
                name = self.name
                self._stop_if_requested(loop)
            if isinstance(failed, Crashed):
                await self._die(loop)
        except Exception as error:
            if not ((self._stop_requested or self._levers.crashing) and is_away(error)):
                raise
        finally:
            await self._sign_off()
        if failed is not None and not isinstance(failed, Crashed):
            raise WorkerError(f"the engine of {name} failed: {type(failed).__name__}: {failed}") from failed

    def request_stop(self, deadline: float | None = None) -> None:
        """Ask :meth:`run` to end; may be called from any thread, any number of times."""
        self._stop_requested = True
        self._entering.give_up_after(0)
        if self._loop is not None:
            self._loop.request_stop(deadline)

    def _stop_if_requested(self, loop: WorkerLoop) -> None:
        if self._stop_requested:
            loop.request_stop()

    async def step(self, block: float = 0.0) -> Counter[str]:
        """Do one round: receive waiting messages, fetch their pages, store the quotes, acknowledge.

        Parameters
        ----------
        block : float
            Seconds to wait for a message if there is none, for each delivery.

        Returns
        -------
        collections.Counter
            Number of jobs by outcome in this round.
        """
        loop = await self._started()
        before = Counter(self.outcomes)
        try:
            await loop.step(block)
        except Crashed:
            await self._die(loop)
        return self.outcomes - before

    @property
    def paused(self) -> bool:
        """Whether it is paused."""
        return self._levers.paused

    def pause(self) -> None:
        """Stop receiving and starting jobs; may be called from any thread.

        Running jobs are finished. Other jobs in hand are kept; their leases are renewed and heartbeats continue, so no
        other worker takes them over. While paused, :meth:`step` receives nothing. A stop ends the pause. A pause before
        the start holds after it; pausing a worker that has ended has no effect.
        """
        self._levers.pause()

    def resume(self) -> None:
        """End a pause; may be called from any thread."""
        self._levers.resume()

    def wait_until_paused(self, timeout: float) -> bool:
        """Wait until a pause holds, from a thread other than the worker's; return whether it does."""
        return self._levers.wait_until_paused(timeout)

    def crash_next(self) -> None:
        """Crash on the next job that is received, as a killed process would: for lessons and tests.

        After fetching the page, but before storing anything, the worker drops its connections: none of its jobs is
        acknowledged, handed back or reported. Its process continues. :meth:`run` and :meth:`step` return as usual;
        started again, it is a new worker. This does nothing to a worker that has ended.
        """
        self._levers.crash_next()

    def crash(self) -> None:
        """Crash now, as :meth:`crash_next` does on a job; may be called from any thread."""
        self._levers.crash()
        self._entering.give_up_after(0)

    async def _die(self, loop: WorkerLoop) -> None:
        self.crashed_as = self.name
        self.on_crash()
        await loop.fall_silent()
        await self._sign_off()
        loop.pool.join(self.settings.stop_deadline)

    async def close(self) -> None:
        """End a worker that was stepped by hand: hand back the jobs in hand and close all connections."""
        if self._loop is not None:
            try:
                await self._loop.wind_up()
            finally:
                await self._sign_off()

    async def _started(self) -> WorkerLoop:
        if self._loop is None:
            await self.start()
        assert self._loop is not None  # noqa: S101
        return self._loop

    def _share_politeness(self) -> None:
        """Share the site's rate limit with all other workers, through a client that threads may block on."""
        politeness = getattr(self.source, "politeness", None)
        if isinstance(politeness, Politeness):
            self._polite = sibling(self._redis)
            politeness.share(self._polite)

    async def _sign_off(self) -> None:
        self._loop = self.card = None
        self._levers.end()
        if self._polite is not None:
            self.source.politeness.unshare(self._polite)  # type: ignore[attr-defined]
            self._polite.close()
            self._polite = None
        with contextlib.suppress(*AWAY):
            async with asyncio.timeout(FAREWELL):
                await self._client.aclose()


class WorkerLoop:
    """One life of a worker, from its first message to its last: receive, settle, keep house, and wind up.

    Attributes
    ----------
    held : dict
        The jobs in hand by key, for each delivery.
    """

    def __init__(self, session: Session, source: Source, levers: Levers, outcomes: Counter[str]) -> None:
        settings = session.settings
        # A full Redis refuses heartbeats, but each attempt extends the last one's life.
        self.redis_retry = RedisRetry(self._leave_replica, settings.heartbeat)
        self._session = session
        self._left_replica_at = -_TOLD_TOGETHER
        self._settings = settings
        self._levers = levers
        self._outcomes = outcomes
        self._deliveries = deliveries_of(session, outcomes)
        self._stream = next((each for each in self._deliveries if isinstance(each, StreamDelivery)), None)
        self._housekeeping = Housekeeping(session, outcomes)
        self._committer = Committer(session, source)
        self._prefetch = Prefetch(settings)
        self._pause = Pause(levers, self._deliveries)
        self._asyncio_loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        self._moved = asyncio.Event()
        self._ending = asyncio.Event()
        self._stopping = False
        self._deadline = settings.stop_deadline
        self._cut: set[str] = set()
        self._taken_over_at = 0.0
        self._unsettled: list[list[Result]] = []
        self.held: dict[str, dict[str, Job]] = {delivery.name: {} for delivery in self._deliveries}
        self.pool = ThreadPool(source, settings.threads, self._wake, session.clock.at)

    async def open(self) -> None:
        """Listen, and send the first heartbeat."""
        for begin in (*(delivery.open for delivery in self._deliveries), self._committer.open):
            await begin()
        await self.keep_house()
        self._levers.connect(partial(self._soon, self._apply_levers))

    @property
    def jobs(self) -> list[Job]:
        """The jobs in hand: to be fetched, and to be settled."""
        fetching = [job for held in self.held.values() for job in list(held.values())]
        return fetching + [result.job for results in self._unsettled for result in results]

    async def run(self) -> BaseException | None:
        """Work until :meth:`request_stop` or an error of the engine; wind up, and return the error."""
        receiving = [self._receiving(delivery) for delivery in self._deliveries]
        settling = [self._settling() for _ in range(_SETTLERS)]
        keeping = [self._keeping_house(), *([self._feeding_retries()] if self._stream else [])]
        async with all_of(*receiving) as receivers, all_of(*settling, *keeping) as keepers:
            tasks = [*receivers, *keepers]
            ending = asyncio.create_task(self._ending.wait())
            await asyncio.wait([ending, *tasks], return_when=asyncio.FIRST_COMPLETED)
            ending.cancel()
            failed = first_error(tasks)
            if isinstance(failed, Crashed) or self._levers.crashing:
                return Crashed()
            await self.wind_up(receivers, keepers)
            failed = failed or first_error(tasks)
            # A task that gave up waiting for Redis ended as requested.
            return None if is_away(failed) else failed

    def request_stop(self, deadline: float | None = None) -> None:
        """Ask :meth:`run` to end; may be called from any thread."""
        if deadline is not None:
            self._deadline = deadline
        self._soon(self._ending.set)

    async def step(self, block: float) -> None:
        """Do one round, and wait until the threads have finished it."""
        await self.keep_house()
        if self._stream is not None:
            await self._housekeeping.feed_retries()
        for delivery in self._deliveries:
            await self._receive(delivery, block)
        while len(self.jobs) > len(self._pause.set_aside):
            await self._woken.wait()
            await self._settle_ready()

    def _soon(self, call: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and a stuck thread has returned
            self._asyncio_loop.call_soon_threadsafe(call)

    # ------------------------------------------------------------------ receiving

    async def _receiving(self, delivery: Delivery) -> None:
        while not self._stopping:
            if self._room(delivery.name) > 0:
                await self.redis_retry.until_answered(partial(self._receive, delivery, BLOCK))
            else:
                self._moved.clear()
                await self._moved.wait()

    async def _receive(self, delivery: Delivery, block: float) -> bool:
        """Receive once, on a new connection after an outage; return whether anything came."""
        if self._stopping:
            return False
        try:
            if delivery.name in self._cut:
                await delivery.open()
                self._cut.discard(delivery.name)
            with self._pause.reading(delivery.name):
                # A takeover may have filled the room meanwhile.
                room = min(self._room(delivery.name), self._prefetch.read_at_once)
                jobs = await delivery.receive(room, partial(self._in_hand, delivery.name), block) if room > 0 else []
        except AWAY:
            self._cut.add(delivery.name)
            raise
        self._take(jobs)
        return bool(jobs)

    def _room(self, delivery: str) -> int:
        """How many more messages may be held."""
        return 0 if self._levers.paused else self._prefetch.hold - len(self.held[delivery])

    def _in_hand(self, delivery: str) -> set[str]:
        """Return the keys of the jobs in hand: to be fetched, and to be settled."""
        unsettled = {result.job.key for results in self._unsettled for result in results}
        return unsettled | self.held[delivery].keys()

    def _take(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self.held[job.delivery][job.key] = job
        if self._levers.paused:
            self._pause.set_aside += jobs
        else:
            self._begin(jobs)

    def _begin(self, jobs: Sequence[Job]) -> None:
        self.pool.submit(jobs, self._prefetch.handful)

    # ------------------------------------------------------------------- settling

    def _wake(self) -> None:
        self._soon(self._woken.set)

    async def _settling(self) -> None:
        while True:
            await self._woken.wait()
            # Pages that arrive in quick succession share the cost of one settlement.
            if self.pool.has_waiting:
                await asyncio.sleep(self._prefetch.still_gathering)
            await self._settle_ready()

    async def _settle_ready(self) -> None:
        self._woken.clear()
        results = self.pool.results(_SETTLED_AT_ONCE)
        if not results:
            return
        if self._levers.triggers_crash(result.job for result in results):
            raise Crashed
        self._prefetch.watch(results)
        for result in results:
            self._let_go(result.job)
        self._unsettled.append(results)
        self._moved.set()
        if len(results) == _SETTLED_AT_ONCE:
            self._woken.set()
        # The next read goes ahead of this commit, so that threads have work while Redis settles.
        await asyncio.sleep(0)
        outcomes = await self.redis_retry.until_answered(partial(self._committer.commit, results))
        self._outcomes.update(outcomes)
        if "retry" in outcomes:
            self._housekeeping.retry_scheduled.set()
        self._unsettled = [others for others in self._unsettled if others is not results]
        self._moved.set()

    def _let_go(self, job: Job) -> None:
        self.held[job.delivery].pop(job.key, None)

    # --------------------------------------------------------------------- levers

    def _apply_levers(self) -> None:
        if self._levers.crashing:
            self._ending.set()
        elif self._levers.paused:
            self._pause.begin(self.pool.withdraw())
            self._woken.set()
        else:
            self._begin(self._pause.end())
            self._moved.set()

    async def fall_silent(self) -> None:
        """End as a killed process does: drop the connections without handing anything back."""
        self._stopping = True
        self.pool.withdraw()
        self.pool.close()
        for delivery in self._deliveries:
            with contextlib.suppress(*AWAY):
                await delivery.close()

    # --------------------------------------------------------------- housekeeping

    async def _keeping_house(self) -> None:
        while True:
            await asyncio.sleep(self._housekeeping.pace)
            await self.redis_retry.until_answered(self.keep_house)

    async def _leave_replica(self) -> None:
        """Reconnect everywhere: even connections that only listen, and never see an error, lead to that replica."""
        if time.monotonic() - self._left_replica_at > _TOLD_TOGETHER:
            self._left_replica_at = time.monotonic()
            self._cut |= self.held.keys()
            await self._session.client.connection_pool.disconnect()

    async def _feeding_retries(self) -> None:
        while True:
            due_in = await self.redis_retry.until_answered(self._housekeeping.feed_retries)
            await self._housekeeping.wait_for_retry(due_in)

    async def keep_house(self) -> None:
        """Send a heartbeat, renew leases, take over the pending jobs of dead workers."""
        await self._housekeeping.beat(
            subscribed_at=max(delivery.subscribed_at for delivery in self._deliveries),
            in_hand=len(self.jobs),
            errors=self.redis_retry.outages,
        )
        self._housekeeping.log_outcomes()
        await renew(self._session, self.jobs)
        if self._stream is not None and not self._stopping:
            await self._take_over(self._stream)

    async def _take_over(self, stream: StreamDelivery) -> None:
        """Take over from workers whose heartbeat has stopped, and from living ones whose lease has expired."""
        if self._housekeeping.is_steady:
            await stream.look_for_the_dead()
        room = self._room(stream.name)
        if room > 0 and time.monotonic() - self._taken_over_at >= self._settings.lease / 4:
            self._take(await stream.take_expired(room, partial(self._in_hand, stream.name), self._settings.lease))
            await self._housekeeping.forget_the_dead()
            self._taken_over_at = time.monotonic()

    # ------------------------------------------------------------------ winding up

    async def wind_up(
        self, receivers: Sequence[asyncio.Task[None]] = (), keepers: Sequence[asyncio.Task[None]] = ()
    ) -> None:
        """Hand back jobs not started, wait for running ones, hand back the rest, sign off.

        If Redis is away or hangs, this takes until a few seconds after the deadline.
        """
        ends_at = time.monotonic() + self._deadline
        self._stopping = True
        self.redis_retry.give_up_after(self._deadline)
        self._moved.set()
        try:
            await end_receiving(receivers, self._deliveries)
            over_at = max(ends_at, time.monotonic()) + FAREWELL
            await within(FAREWELL, self._hand_back_all(self.pool.withdraw() + self._pause.end()))
            await within(ends_at - time.monotonic(), self._finish())
            # A heartbeat after signing off would make this worker seem alive.
            await end(keepers)
            await within(over_at - time.monotonic(), self._sign_off())
        finally:
            self.pool.close()
            self.pool.leave()
            for delivery in self._deliveries:
                await within(FAREWELL, delivery.close())

    async def _finish(self) -> None:
        """Wait until all jobs in hand are settled."""
        while self.jobs:
            self._moved.clear()
            await self._moved.wait()

    async def _sign_off(self) -> None:
        await self._hand_back_all(self.jobs)
        self._housekeeping.log_outcomes()
        await self._housekeeping.leave()

    async def _hand_back_all(self, jobs: Sequence[Job]) -> None:
        """Hand back jobs, and messages that arrived unread."""
        await self._hand_back(jobs)
        for delivery in self._deliveries:
            await self._hand_back(await delivery.leftovers(self._in_hand(delivery.name)))

    async def _hand_back(self, jobs: Sequence[Job]) -> None:
        await hand_back(self._session, jobs)
        for job in jobs:
            self._let_go(job)

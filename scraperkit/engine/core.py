"""The loop's rounds: receive, settle, keep up, wind up."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from scraperkit.config import Settings
from scraperkit.engine.delivery import BLOCK, Delivery, StreamDelivery
from scraperkit.engine.jobs import Job, Result
from scraperkit.engine.levers import Crashed, Levers, Rest
from scraperkit.engine.outage import AWAY, Patience
from scraperkit.engine.pace import Pace
from scraperkit.engine.pool import ThreadPool
from scraperkit.engine.settle import Settler
from scraperkit.engine.tasks import FAREWELL, all_of, end, first_error
from scraperkit.engine.upkeep import Upkeep
from scraperkit.sources.base import Source

# Redis does nothing else while it settles, and a Lua script hands on no more than some thousand words at once.
_SETTLED_AT_ONCE = 500
# One to make ready what is to be settled next while Redis is at work for the other.
_SETTLERS = 2


class Core:
    """One life of a worker, from its first message to its last.

    Attributes
    ----------
    held : dict
        For each delivery the jobs in hand, by their key.
    """

    def __init__(
        self,
        source: Source,
        settings: Settings,
        deliveries: Sequence[Delivery],
        upkeep: Upkeep,
        settler: Settler,
        outcomes: Counter[str],
        levers: Levers,
    ) -> None:
        self.held: dict[str, dict[str, Job]] = {delivery.name: {} for delivery in deliveries}
        self.patience = Patience()
        self.outcomes = outcomes
        self._levers = levers
        self._settings = settings
        self._deliveries = deliveries
        self._upkeep = upkeep
        self._settler = settler
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        self._moved = asyncio.Event()
        self._ending = asyncio.Event()
        self._stopping = False
        self._deadline = settings.stop_deadline
        self._cut: set[str] = set()
        self._taken_over_at = 0.0
        self._pace = Pace(settings)
        self._unsettled: list[list[Result]] = []
        self._rest = Rest(levers, deliveries)
        self.pool = ThreadPool(source.fetch, settings.threads, self._wake)

    @property
    def jobs(self) -> list[Job]:
        """The jobs in hand: to be fetched, and to be settled."""
        fetching = [job for held in self.held.values() for job in list(held.values())]
        return fetching + [result.job for results in self._unsettled for result in results]

    async def run(self) -> BaseException | None:
        """Work until :meth:`request_stop` or an error of the engine; wind up, and return the error."""
        receiving = [self._receiving(delivery) for delivery in self._deliveries]
        settling = [self._settling() for _ in range(_SETTLERS)]
        async with all_of(*receiving) as receivers, all_of(*settling, self._keeping_up()) as keepers:
            tasks = [*receivers, *keepers]
            ending = asyncio.create_task(self._ending.wait())
            await asyncio.wait([ending, *tasks], return_when=asyncio.FIRST_COMPLETED)
            ending.cancel()
            failed = first_error(tasks)
            if isinstance(failed, Crashed):
                return failed
            await self.wind_up(receivers, keepers)
            return failed or first_error(tasks)

    def request_stop(self, deadline: float | None = None) -> None:
        """Ask :meth:`run` to end; from any thread."""
        if deadline is not None:
            self._deadline = deadline
        self._soon(self._ending.set)

    async def step(self, block: float) -> None:
        """Do one round, and wait for the threads to be done with it."""
        await self.keep_up()
        for delivery in self._deliveries:
            await self._receive(delivery, block)
        while len(self.jobs) > len(self._rest.set_aside):
            await self._woken.wait()
            await self._settle_ready()

    def _soon(self, call: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended; a stuck thread may come back even then
            self._loop.call_soon_threadsafe(call)

    # ------------------------------------------------------------------ receiving

    async def _receiving(self, delivery: Delivery) -> None:
        while not self._stopping:
            if self._room(delivery.name) > 0:
                await self.patience.until_answered(partial(self._receive, delivery, BLOCK))
            else:
                self._moved.clear()
                await self._moved.wait()

    async def _receive(self, delivery: Delivery, block: float) -> None:
        """One round; after an outage it begins with a new connection."""
        if self._stopping:
            return
        try:
            if delivery.name in self._cut:
                await delivery.open()
                self._cut.discard(delivery.name)
            with self._rest.reading(delivery.name):
                # A takeover may have filled the hand meanwhile.
                room = min(self._room(delivery.name), self._pace.read_at_once)
                jobs = await delivery.receive(room, self._keys(delivery.name), block) if room > 0 else []
        except AWAY:
            self._cut.add(delivery.name)
            raise
        self._take(jobs)

    def _room(self, delivery: str) -> int:
        """How many more messages may be held."""
        return 0 if self._levers.paused else self._pace.hold - len(self.held[delivery])

    def _keys(self, delivery: str) -> set[str]:
        unsettled = {result.job.key for results in self._unsettled for result in results}
        return unsettled | self.held[delivery].keys()

    def _take(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self.held[job.delivery][job.key] = job
        if self._levers.paused:
            self._rest.set_aside += jobs
        else:
            self._begin(jobs)

    def _begin(self, jobs: Sequence[Job]) -> None:
        self.pool.submit(jobs, self._pace.handful)

    # ------------------------------------------------------------------- settling

    def _wake(self) -> None:
        self._soon(self._woken.set)

    async def _settling(self) -> None:
        while True:
            await self._woken.wait()
            await self._settle_ready()

    async def _settle_ready(self) -> None:
        self._woken.clear()
        results = self.pool.results(_SETTLED_AT_ONCE)
        if not results:
            return
        if self._levers.strike(result.job for result in results):
            raise Crashed
        self._pace.watch(results)
        for result in results:
            self._let_go(result.job)
        self._unsettled.append(results)
        self._moved.set()
        if len(results) == _SETTLED_AT_ONCE:
            self._woken.set()
        # What is received next goes ahead of what is settled now: threads have work while Redis settles.
        await asyncio.sleep(0)
        answers = await self.patience.until_answered(partial(self._settler.settle, results))
        self.outcomes.update(answers)
        self._unsettled = [others for others in self._unsettled if others is not results]
        self._moved.set()

    def _let_go(self, job: Job) -> None:
        self.held[job.delivery].pop(job.key, None)

    # --------------------------------------------------------------------- levers

    def pause(self) -> None:
        """Have the pause hold that the lever asks for; from any thread."""
        self._soon(self._start_resting)

    def resume(self) -> None:
        """Go on; from any thread."""
        self._soon(self._go_on)

    def _start_resting(self) -> None:
        self._rest.begin(self.pool.withdraw())
        self._woken.set()

    def _go_on(self) -> None:
        self._begin(self._rest.end())
        self._moved.set()

    async def fall_silent(self) -> None:
        """End as a killed process does: nobody is told, nothing is handed back, connections are dropped."""
        self._stopping = True
        self.pool.withdraw()
        self.pool.close()
        for delivery in self._deliveries:
            with contextlib.suppress(*AWAY):
                await delivery.close()

    # --------------------------------------------------------------------- upkeep

    async def _keeping_up(self) -> None:
        pause = min(self._settings.heartbeat, self._settings.lease / 4, 1.0)
        while True:
            await asyncio.sleep(pause)
            await self.patience.until_answered(self.keep_up)

    async def keep_up(self) -> None:
        """Give a sign of life, renew leases, feed retries that are due, take over what others let lie."""
        await self._upkeep.beat(
            subscribed_at=max(delivery.subscribed_at for delivery in self._deliveries),
            in_hand=len(self.jobs),
            errors=self.patience.outages,
        )
        self._upkeep.tell()
        await self._upkeep.renew(self.jobs)
        for delivery in self._deliveries:
            if isinstance(delivery, StreamDelivery):
                await self._upkeep.feed_retries()
                await self._take_over(delivery)

    async def _take_over(self, stream: StreamDelivery) -> None:
        room = self._room(stream.name)
        if room > 0 and not self._stopping and time.monotonic() - self._taken_over_at >= self._settings.lease / 4:
            self._take(await stream.take_over(room, self._keys(stream.name), self._settings.lease))
            await self._upkeep.forget_the_dead()
            self._taken_over_at = time.monotonic()

    # ------------------------------------------------------------------ winding up

    async def wind_up(
        self, receivers: Sequence[asyncio.Task[None]] = (), keepers: Sequence[asyncio.Task[None]] = ()
    ) -> None:
        """Hand back what is not begun, wait for what is, hand back the rest, sign off."""
        ends_at = time.monotonic() + self._deadline
        self._stopping = True
        self.patience.end(self._deadline)
        self._moved.set()
        await self._end_receiving(receivers)
        with contextlib.suppress(*AWAY):
            await self._hand_back(self.pool.withdraw() + self._rest.end())
            for delivery in self._deliveries:
                await self._hand_back(await delivery.leftovers())
        with contextlib.suppress(TimeoutError, *AWAY):
            async with asyncio.timeout(max(0.0, ends_at - time.monotonic())):
                await self._finish()
        # A sign of life after the farewell would make a ghost of this worker.
        await end(keepers)
        with contextlib.suppress(*AWAY):
            async with asyncio.timeout(FAREWELL):
                await self._hand_back(self.jobs)
                self._upkeep.tell()
                await self._upkeep.leave()
        self.pool.close()
        self.pool.join(0.5 if self.pool.busy else 5.0)
        for delivery in self._deliveries:
            with contextlib.suppress(*AWAY):
                async with asyncio.timeout(FAREWELL):
                    await delivery.close()

    async def _end_receiving(self, receivers: Sequence[asyncio.Task[None]]) -> None:
        """Wake the receivers until they have seen that it is over: a read may just be on its way to the server."""
        ends_at = time.monotonic() + BLOCK + 1
        while any(not receiver.done() for receiver in receivers) and time.monotonic() < ends_at:
            for delivery in self._deliveries:
                with contextlib.suppress(*AWAY):
                    await delivery.interrupt()
            await asyncio.wait(receivers, timeout=0.02)
        await end(receivers)

    async def _finish(self) -> None:
        """Wait until what the threads still bring is settled."""
        while self.jobs:
            self._moved.clear()
            await self._moved.wait()

    async def _hand_back(self, jobs: Sequence[Job]) -> None:
        await self._upkeep.hand_back(jobs)
        for job in jobs:
            self._let_go(job)

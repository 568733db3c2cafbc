"""Random faults from a seed."""

from __future__ import annotations

import contextlib
import heapq
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import redis as redis_py
from chaos.oracle import OPEN_DATA, PAGES
from chaos.servers import Pair
from chaos.world import World

# Percentage of replies of each kind that are lost.
LOST = {
    "publish": 30,
    "commit": 5,
    "XREADGROUP": 2,
    "XCLAIM": 10,
    "XADD": 20,
    "replace_months": 3,
    "hand_back": 20,
}
# Minimum number of each fault, and percentages of further faults among random draws, two per second.
ALWAYS = {
    "kill worker": 2,
    "freeze worker": 1,
    "kill redis": 1,
    "fill redis": 1,
    "destroy group": 1,
    "kill downloader": 1,
    "site outage": 1,
    "site errors": 1,
    "site drips": 1,
    "expire sessions": 1,
    "restate pages": 4,
    "rewrite open data": 2,
}
BESIDES = {
    "kill worker": 8,
    "freeze worker": 5,
    "kill publisher": 2,
    "kill redis": 2,
    "fill redis": 1,
    "cut all": 2,
    "destroy group": 1,
    "kill downloader": 1,
    "site outage": 1,
    "site errors": 2,
    "site drips": 2,
    "expire sessions": 4,
    "restate pages": 20,
    "rewrite open data": 10,
}
# Additional faults with sentinels.
FAILOVERS_ALWAYS = {"fail over": 1}
FAILOVERS = {"fail over": 1, "cut off with clients": 0.5, "cut off": 0.5}
# Each of these waits until the previous one has ended.
AT_REDIS = {"kill redis", "fill redis", "destroy group", *FAILOVERS}
PAUSE = 0.5


@dataclass(order=True)
class _Event:
    at: float
    order: int
    name: str = field(compare=False)
    action: Callable[[], None] = field(compare=False)


class Storm:
    """The faults of a world and their times, all from the world's seed.

    The same seed produces the same faults at the same times; their effects differ from run to run, like the timing of
    the processes.

    Attributes
    ----------
    history : list of str
        The faults so far, with their times.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._chance = random.Random(world.scale.seed)
        self._events: list[_Event] = []
        self._count = 0
        self._began = time.monotonic()
        self.history: list[str] = []
        seconds = world.scale.seconds
        guarded = world.servers.can_fail_over
        always = Counter(ALWAYS | (FAILOVERS_ALWAYS if guarded else {}))
        weights = BESIDES | (FAILOVERS if guarded else {})
        draws = max(0, int(seconds / PAUSE) - always.total())
        shares = [*weights.values(), max(0, 100 - sum(weights.values()))]
        names = [*always.elements(), *self._chance.choices([*weights, ""], shares, k=draws)]
        self._chance.shuffle(names)
        for name in filter(None, names):
            # No fault begins in the last seconds, so that earlier ones can end.
            self._plan(self._chance.uniform(0.5, max(1.0, seconds - 2)), name, self._action(name))
        world.servers.lose({kind: share / 100 for kind, share in LOST.items()})

    def step(self) -> None:
        """Trigger the faults that are due."""
        while self._events and self._events[0].at <= self.age:
            event = heapq.heappop(self._events)
            if event.name in AT_REDIS and not self._is_whole:
                if self.age < self._world.scale.seconds:
                    self._plan(self.age + 1.0, event.name, event.action)
                continue
            if event.name:
                self.history.append(f"{self.age:6.1f} s  {event.name}")
                self._world.counts[event.name] += 1
            event.action()

    @property
    def age(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._began

    def _plan(self, at: float, name: str, action: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, _Event(at, self._count, name, action))

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        self._plan(self.age + seconds, "", action)

    def _action(self, name: str) -> Callable[[], None]:
        """Draw all random numbers now, so that they do not depend on the order of the faults."""
        world, which, seconds = self._world, self._chance.random(), self._chance.uniform(0.5, 3.0)
        number = self._chance.randrange(1_000_000)
        actions: dict[str, Callable[[], None]] = {
            "kill worker": lambda: self._kill_worker(which),
            "freeze worker": lambda: self._freeze_worker(which, 2 * seconds),
            "kill publisher": lambda: self._kill_publisher(which),
            "kill downloader": self._kill_downloader,
            "kill redis": lambda: self._kill_redis(seconds),
            "fill redis": lambda: self._fill_redis(seconds),
            "fail over": self._fail_over,
            "cut off": lambda: self._cut_off(seconds, with_clients=False),
            "cut off with clients": lambda: self._cut_off(seconds, with_clients=True),
            "cut all": world.servers.cut_all,
            "destroy group": self._destroy_group,
            "site outage": lambda: world.order("outage", seconds),
            "site errors": lambda: self._site_errors(0.1 + 0.4 * which, seconds),
            "site drips": lambda: world.order("drip", seconds),
            "expire sessions": lambda: world.order("expire", 0),
            "restate pages": lambda: world.order("restate", number),
            "rewrite open data": lambda: world.order("rewrite", number),
        }
        return actions[name]

    def _kill_worker(self, which: float) -> None:
        workers = self._world.workers
        worker = workers.pop(int(which * len(workers)))
        worker.kill()
        self._world.start_worker(self._world.source_of[worker])

    def _freeze_worker(self, which: float, seconds: float) -> None:
        worker = self._world.workers[int(which * len(self._world.workers))]
        worker.pause()
        self._after(seconds, worker.resume)

    def _kill_publisher(self, which: float) -> None:
        number = int(which * len(self._world.publishers))
        if self._world.publishers[number].code is None:
            self._world.publishers[number].kill()
            self._world.start_publisher(number)

    def _kill_downloader(self) -> None:
        self._world.market.kill()
        self._world.start_market()

    def _kill_redis(self, seconds: float) -> None:
        self._world.servers.kill()
        self._after(seconds, self._world.servers.start)

    def _fill_redis(self, seconds: float) -> None:
        self._world.servers.fill()
        self._after(seconds, lambda: self._if_available(self._world.servers.empty))

    def _destroy_group(self) -> None:
        for source in (PAGES, OPEN_DATA):
            keys = self._world.keys.of(source)
            self._world.redis.xgroup_destroy(keys.jobs, keys.group)

    def _fail_over(self) -> None:
        self._world.servers.kill()
        self._once_failed_over(0.0)

    def _cut_off(self, seconds: float, *, with_clients: bool) -> None:
        servers = self._world.servers
        if isinstance(servers, Pair):
            servers.cut_off(with_clients=with_clients)
            self._once_failed_over(2 * seconds)

    def _once_failed_over(self, seconds: float) -> None:
        """Reconnect the old primary `seconds` after another server has become the primary."""
        servers = self._world.servers
        if isinstance(servers, Pair) and not servers.has_failed_over:
            self._after(0.2, lambda: self._once_failed_over(seconds))
        else:
            self._after(seconds, servers.start)

    @property
    def _is_whole(self) -> bool:
        """Whether Redis is intact; otherwise, a further fault would lose its data."""
        servers = self._world.servers
        with contextlib.suppress(redis_py.RedisError):
            return bool(
                servers.is_whole and servers.redis.ping() and (not isinstance(servers, Pair) or servers.is_replicated)
            )
        return False

    def _if_available(self, action: Callable[[], object]) -> None:
        with contextlib.suppress(redis_py.RedisError):
            action()

    def _site_errors(self, share: float, seconds: float) -> None:
        self._world.order("error_rate", share)
        self._after(seconds, lambda: self._world.order("error_rate", 0))

"""Random faults from a seed."""

from __future__ import annotations

import heapq
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from chaos.world import World

# Of a hundred replies of such a kind, so many are lost.
LOST = {
    "publish": 30,
    "commit": 5,
    "XREADGROUP": 2,
    "XCLAIM": 10,
    "XADD": 20,
    "replace_months": 3,
    "hand_back": 20,
}
# What happens at least, and what happens besides, with its weight.
ALWAYS = ["kill worker", "kill worker", "kill redis", "destroy group", "site outage", "site errors"]
BESIDES = {
    "kill worker": 10,
    "freeze worker": 3,
    "kill publisher": 3,
    "kill redis": 2,
    "cut all": 3,
    "destroy group": 2,
    "site outage": 2,
    "site errors": 2,
}
PAUSE = 1.5


@dataclass(order=True)
class _Event:
    at: float
    order: int
    name: str = field(compare=False)
    action: Callable[[], None] = field(compare=False)


class Storm:
    """What happens to a world, and when: all from the world's seed.

    The same seed makes the same faults at the same times; what they meet differs from run to run, as the processes'
    own timing does.

    Attributes
    ----------
    told : list of str
        What happened so far.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._chance = random.Random(world.scale.seed)
        self._events: list[_Event] = []
        self._count = 0
        self._began = time.monotonic()
        self.told: list[str] = []
        seconds = world.scale.seconds
        names = [*ALWAYS, *self._chance.choices([*BESIDES], [*BESIDES.values()], k=max(0, int(seconds / PAUSE) - 6))]
        self._chance.shuffle(names)
        for name in names:
            # The last second is for what began before it to end.
            self._plan(self._chance.uniform(0.5, max(1.0, seconds - 2)), name, self._action(name))
        world.proxy.chances = {kind: share / 100 for kind, share in LOST.items()}

    def step(self) -> None:
        """Do what is due."""
        while self._events and self._events[0].at <= self.age:
            event = heapq.heappop(self._events)
            if event.name:
                self.told.append(f"{self.age:6.1f} s  {event.name}")
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
        """Draw now whatever there is to draw, so that it does not depend on the order in which things happen."""
        world, which, seconds = self._world, self._chance.random(), self._chance.uniform(0.5, 3.0)
        actions: dict[str, Callable[[], None]] = {
            "kill worker": lambda: self._kill_worker(which),
            "freeze worker": lambda: self._freeze_worker(which, 2 * seconds),
            "kill publisher": lambda: self._kill_publisher(which),
            "kill redis": lambda: self._kill_redis(seconds),
            "cut all": lambda: _nothing(world.proxy.cut_all()),
            "destroy group": self._destroy_group,
            "site outage": lambda: world.order("outage", seconds),
            "site errors": lambda: self._site_errors(0.1 + 0.4 * which, seconds),
        }
        return actions[name]

    def _kill_worker(self, which: float) -> None:
        workers = self._world.workers
        worker = workers.pop(int(which * len(workers)))
        worker.kill()
        self._world.start_worker()

    def _freeze_worker(self, which: float, seconds: float) -> None:
        worker = self._world.workers[int(which * len(self._world.workers))]
        worker.pause()
        self._after(seconds, worker.resume)

    def _kill_publisher(self, which: float) -> None:
        number = int(which * len(self._world.publishers))
        if self._world.publishers[number].code is None:
            self._world.publishers[number].kill()
            self._world.start_publisher(number)

    def _kill_redis(self, seconds: float) -> None:
        if self._world.server.running:
            self._world.kill_redis()
            self._after(seconds, self._world.start_redis)

    def _destroy_group(self) -> None:
        if self._world.server.running:
            self._world.redis.xgroup_destroy(self._world.keys.jobs, self._world.keys.group)

    def _site_errors(self, share: float, seconds: float) -> None:
        self._world.order("error_rate", share)
        self._after(seconds, lambda: self._world.order("error_rate", 0))


def _nothing(_: object) -> None:
    """Forget what an action returns."""

"""A world to be unkind to: a Redis, a proxy before it, the offline site, workers and publishers as processes.

Why the server runs with ``appendfsync always``: Redis writes its log to the kernel before it replies, so that a SIGKILL
(not a loss of power) loses nothing that was acknowledged, but for one case. With ``everysec``, which the embedded
server has, that write is put off for up to two seconds while the fsync of the second before is still under way, and
replies go out meanwhile; on a busy disk a SIGKILL then loses what was acknowledged in that time. That is a bargain
of the setting, not a fault of the kit, and it must not make this test fail by chance.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import redis as redis_py
from chaos.processes import FOLDER, WORK, Child, environment
from chaos.proxy import Proxy
from redis.exceptions import ResponseError

from scraperkit.batch import Batch
from scraperkit.connection import connect, sibling
from scraperkit.embedded.server import EmbeddedServer
from scraperkit.engine.registry import live_workers
from scraperkit.keys import Keys

NAMESPACE = "chaos"
# Quick to notice and quick to try again; outages alone never use up the attempts.
SETTINGS = {
    "lease": 3,
    "heartbeat": 0.5,
    "backoff": 0.1,
    "backoff_limit": 1,
    "max_attempts": 100,
    "threads": 4,
    "http_retries": 0,
    "read_timeout": 3,
    "breaker_pause": 0.5,
    "breaker_limit": 2,
    "events_kept": 1_000_000,
}


@dataclass(frozen=True)
class Scale:
    """How large it is."""

    workers: int = 6
    publishers: int = 5
    jobs: int = 5_000
    seconds: float = 120.0
    seed: int = 0

    @property
    def publishing(self) -> float:
        """Seconds over which the jobs are published."""
        return self.seconds * 0.6


class World:
    """Starts everything and ends everything.

    Attributes
    ----------
    counts : collections.Counter
        What happened: kills, restarts, and so on.
    problems : list of str
        What must not happen, and did.
    """

    def __init__(self, folder: Path, scale: Scale) -> None:
        self.folder, self.scale = folder, scale
        self.keys = Keys(NAMESPACE)
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self.workers: list[Child] = []
        self.publishers: list[Child] = []
        self._stack = contextlib.ExitStack()
        self._children = 0

    def __enter__(self) -> Self:
        with self._stack:
            self.server = self._stack.enter_context(EmbeddedServer(self.folder / "redis"))
            self.proxy = self._stack.enter_context(Proxy(self.server.url, seed=self.scale.seed))
            client = self._stack.enter_context(connect(self.server.url))
            #: A client of one's own, past the proxy.
            self.redis: Any = self._stack.enter_context(sibling(client, socket_timeout=30))
            self.sync_always()
            self._start_site()
            for _ in range(self.scale.workers):
                self.start_worker()
            for worker in self.workers:
                worker.ready()
            for number in range(self.scale.publishers):
                self.publishers.append(self._start_publisher(number))
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # --------------------------------------------------------------------------------- starting

    def _start_site(self) -> None:
        reading, writing = os.pipe()
        self._orders = self._stack.enter_context(os.fdopen(writing, "w", buffering=1))
        with os.fdopen(reading) as orders:
            self.site = self._child((sys.executable, str(FOLDER / "offline_site.py")), "site", stdin=orders)
        self.site.ready()

    def order(self, what: str, number: float) -> None:
        """Order a fault of the site."""
        self._orders.write(f"{what} {number}\n")

    def start_worker(self) -> None:
        """Start one more worker."""
        self.workers.append(self._child((*WORK, "--url", self._site_url), "worker"))

    def start_publisher(self, number: int) -> None:
        """Start a publisher anew."""
        self.publishers[number] = self._start_publisher(number)

    def _start_publisher(self, number: int) -> Child:
        scale, share = self.scale, self.scale.jobs // self.scale.publishers
        words = {
            "--number": number,
            "--jobs": share + (scale.jobs - share * scale.publishers if number == 0 else 0),
            "--seed": scale.seed,
            "--seconds": scale.publishing,
        }
        journal = str(self.folder / f"{number}.journal")
        options = [str(word) for pair in words.items() for word in pair]
        return self._child((sys.executable, str(FOLDER / "publishing.py"), journal, *options), "publisher")

    def _child(self, command: tuple[str, ...], what: str, **options: Any) -> Child:
        self._children += 1
        log = self.folder / f"{what}-{self._children}.log"
        given = environment(self.proxy.url, NAMESPACE, **SETTINGS)
        return self._stack.enter_context(Child(command, given, log, **options))

    @property
    def _site_url(self) -> str:
        return self.site.output.split()[1]

    def sync_always(self) -> None:
        """Have Redis write to the disk before it replies; see above."""
        self.redis.config_set("appendfsync", "always")

    # ----------------------------------------------------------------------------------- faults

    def kill_redis(self) -> None:
        """SIGKILL."""
        self.proxy.shut()
        self.server.kill()

    def start_redis(self) -> None:
        """Start it with its data; nobody gets through to it before it is set up."""
        self.server.start()
        self.proxy.lead_to(self.server.url)
        self.sync_always()
        self.proxy.open()

    def reap(self) -> None:
        """Start anew what has ended by itself; note why a worker did."""
        for worker in [worker for worker in self.workers if worker.code is not None]:
            self.workers.remove(worker)
            self.counts["starts while redis was away"] += 1
            # Such a start is refused, and whoever starts workers tries again; one that works must outlast anything.
            if "READY" in worker.output:
                self.problems.append(f"a worker ended with {worker.code}: {worker.last_words} ({worker.log})")
            self.start_worker()
        for number, publisher in enumerate(self.publishers):
            if publisher.code not in (None, 0):
                self.problems.append(f"a publisher ended with {publisher.code}: {publisher.last_words}")
                self.start_publisher(number)

    def calm(self) -> None:
        """End all faults."""
        self.proxy.calm()
        if not self.server.running:
            self.start_redis()
        self.order("outage", 0)
        self.order("error_rate", 0)
        for worker in self.workers:
            worker.resume()

    # ------------------------------------------------------------------------------------- ends

    @property
    def published(self) -> bool:
        """Whether all publishers are done."""
        return all(publisher.code == 0 for publisher in self.publishers)

    def settled(self, batches: list[str]) -> bool:
        """Whether nothing is left to do, and the living workers are all that is known."""
        keys = self.keys
        if self.redis.xlen(keys.jobs) or self.redis.exists(keys.retries):
            return False
        alive = {worker.name for worker in live_workers(self.redis, keys)}
        try:
            known = {entry["name"] for entry in self.redis.xinfo_consumers(keys.jobs, keys.group)}
        except ResponseError:  # the group was destroyed just now
            return False
        known |= set(self.redis.zrange(keys.workers, 0, -1))
        if known != alive or len(alive) != self.scale.workers:
            return False
        return all(Batch(self.redis, batch, namespace=NAMESPACE).status().finished for batch in batches)

    def stop_workers(self, seconds: float = 90.0) -> None:
        """SIGTERM to all at once; each must end with 0."""
        for worker in self.workers:
            worker.ask_to_stop()
        deadline = time.monotonic() + seconds
        for worker in self.workers:
            while worker.code is None and time.monotonic() < deadline:
                time.sleep(0.02)
            if worker.code != 0:
                self.problems.append(
                    f"a worker ended with {worker.code} on SIGTERM: {worker.last_words} ({worker.log})"
                )
        self.workers.clear()

    def events(self, after: str) -> tuple[str, Counter[str]]:
        """Return outcomes since an event, and the id of the last one; nothing while Redis is away."""
        outcomes: Counter[str] = Counter()
        with contextlib.suppress(redis_py.RedisError):
            while entries := self.redis.xrange(self.keys.events, f"({after}", count=2_000):
                after = entries[-1][0]
                outcomes.update(fields["outcome"] for _, fields in entries)
        return after, outcomes

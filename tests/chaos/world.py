"""A world for faults: Redis behind proxies, the offline site, and workers, publishers and a downloader as processes."""

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
from chaos.oracle import DOWNLOADS, OPEN_DATA, PAGES, RECORD
from chaos.processes import FOLDER, WORK, Child, environment
from chaos.servers import Alone, Pair, Servers

from scraperkit.batch import Batch
from scraperkit.engine.registry import live_workers
from scraperkit.keys import Keys

NAMESPACE = "chaos"
# One in this many workers reads the open data; at least one does.
_OF_OPEN_DATA = 4
# Quick to detect and to retry; outages alone never use up the attempts.
SETTINGS = {
    "lease": 3,
    "heartbeat": 0.5,
    "backoff": 0.1,
    "backoff_limit": 1,
    "max_attempts": 100,
    "threads": 4,
    "http_retries": 0,
    "read_timeout": 3,
    "page_timeout": 4,
    "breaker_pause": 0.5,
    "breaker_limit": 2,
    "events_kept": 1_000_000,
}


@dataclass(frozen=True)
class Scale:
    """Size of a run; `guarded` has sentinels and a replica, which must confirm all results and publications."""

    workers: int = 6
    publishers: int = 5
    jobs: int = 5_000
    seconds: float = 120.0
    seed: int = 0
    guarded: bool = False

    @property
    def sources(self) -> list[str]:
        """The source of each worker."""
        of_open_data = max(1, self.workers // _OF_OPEN_DATA)
        return [OPEN_DATA] * of_open_data + [PAGES] * (self.workers - of_open_data)

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
        Violations found.
    """

    def __init__(self, folder: Path, scale: Scale) -> None:
        self.folder, self.scale = folder, scale
        self.keys = Keys(NAMESPACE)
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self.workers: list[Child] = []
        self.source_of: dict[Child, str] = {}
        self.publishers: list[Child] = []
        self._stack = contextlib.ExitStack()
        self._children = 0

    def __enter__(self) -> Self:
        with self._stack:
            # A separate stack, so that servers started later end with the rest, too.
            theirs = self._stack.enter_context(contextlib.ExitStack())
            make = Pair if self.scale.guarded else Alone
            self.servers: Servers = make(self.folder, theirs, self.scale.seed)
            self._start_site()
            self.start_market()
            self.market.ready()
            for source in self.scale.sources:
                self.start_worker(source)
            for worker in self.workers:
                worker.ready()
            for number in range(self.scale.publishers):
                self.publishers.append(self._start_publisher(number))
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def redis(self) -> Any:
        """A client of the primary that bypasses the proxies."""
        return self.servers.redis

    # --------------------------------------------------------------------------------- starting

    def _start_site(self) -> None:
        reading, writing = os.pipe()
        self._orders = self._stack.enter_context(os.fdopen(writing, "w", buffering=1))
        with os.fdopen(reading) as orders:
            command = (sys.executable, str(FOLDER / "offline_site.py"), str(self.folder / RECORD))
            self.site = self._child(command, "site", stdin=orders)
        self.site.ready()

    def order(self, what: str, number: float) -> None:
        """Order a fault of the site."""
        self._orders.write(f"{what} {number}\n")

    def start_worker(self, source: str) -> None:
        """Start one more worker."""
        worker = self._child((*WORK, "--source", source), "worker")
        self.workers.append(worker)
        self.source_of[worker] = source

    def start_market(self) -> None:
        """Start the downloader of the open data."""
        self.market = self._child((sys.executable, str(FOLDER / "market.py"), str(self.folder / DOWNLOADS)), "market")

    def start_publisher(self, number: int) -> None:
        """Restart a publisher."""
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
        site, open_data = self.site.output.split()[1:3] if what != "site" else ("", "")
        given = environment(self.servers.url, NAMESPACE, **SETTINGS, archive=self.folder / "archive")
        given |= {"SCRAPERKIT_CVM_URL": site, "SCRAPERKIT_OPEN_DATA_URL": open_data}
        given |= {"SCRAPERKIT_CONFIRMATIONS": str(int(self.scale.guarded)), "SCRAPERKIT_CONFIRMATION_TIMEOUT": "1"}
        return self._stack.enter_context(Child(command, given, log, **options))

    # ----------------------------------------------------------------------------------- faults

    def reap(self) -> None:
        """Restart processes that ended by themselves; note why a worker did."""
        for worker in [worker for worker in self.workers if worker.code is not None]:
            self.workers.remove(worker)
            self.counts["starts while redis was down"] += 1
            # A start while Redis is down fails and is repeated; a worker that was ready must survive every fault.
            if "READY" in worker.output:
                self.problems.append(f"a worker ended with {worker.code}: {worker.last_words} ({worker.log})")
            self.start_worker(self.source_of[worker])
        if self.market.code is not None:
            self.problems.append(f"the downloader ended with {self.market.code}: {self.market.last_words}")
            self.start_market()
        for number, publisher in enumerate(self.publishers):
            if publisher.code not in (None, 0):
                self.problems.append(f"a publisher ended with {publisher.code}: {publisher.last_words}")
                self.start_publisher(number)

    def calm(self) -> None:
        """End all faults."""
        self.servers.calm()
        for what in ("outage", "error_rate", "drip"):
            self.order(what, 0)
        for worker in self.workers:
            worker.resume()

    # ------------------------------------------------------------------------------------- ends

    @property
    def published(self) -> bool:
        """Whether all publishers are done."""
        return all(publisher.code == 0 for publisher in self.publishers)

    def settled(self, batches: list[str]) -> bool:
        """Return whether no job is left, and all registered workers are alive."""
        with contextlib.suppress(redis_py.RedisError):  # a server is down, or a group has just been destroyed
            return all(self._is_idle(self.keys.of(source)) for source in (PAGES, OPEN_DATA)) and all(
                Batch(self.redis, batch, namespace=NAMESPACE).status().finished for batch in batches
            )
        return False

    def _is_idle(self, keys: Keys) -> bool:
        redis = self.redis
        if redis.xlen(keys.jobs) or redis.exists(keys.retries):
            return False
        alive = {worker.name for worker in live_workers(redis, keys)}
        known = {entry["name"] for entry in redis.xinfo_consumers(keys.jobs, keys.group)}
        known |= set(redis.zrange(keys.workers, 0, -1))
        return known == alive and len(alive) == self.scale.sources.count(keys.source)

    def stop_workers(self, seconds: float = 90.0) -> None:
        """Send SIGTERM to all at once; each must end with 0."""
        self.market.kill()
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
        """Return the id of the last event, and the outcomes since `after`; none while Redis is down."""
        outcomes: Counter[str] = Counter()
        with contextlib.suppress(redis_py.RedisError):
            while entries := self.redis.xrange(self.keys.events, f"({after}", count=2_000):
                after = entries[-1][0]
                outcomes.update(fields["outcome"] for _, fields in entries)
        return after, outcomes

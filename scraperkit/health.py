"""Health of a namespace: workers, queue, failures."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import redis as redis_py

from scraperkit.config import Settings
from scraperkit.connection import check_client, is_no_group, redis_needed
from scraperkit.engine.registry import WorkerCard, each_source, live_workers
from scraperkit.keys import DEFAULT_SOURCE, Keys
from scraperkit.view import NotebookRepr, Table, View, duration


@dataclass(frozen=True, slots=True)
class Health(NotebookRepr):
    """Snapshot of a namespace's workers and jobs.

    Attributes
    ----------
    workers : tuple of WorkerCard
        Workers that send heartbeats.
    stale : tuple of str
        Names of workers whose heartbeat stopped before they left; other workers take over their jobs.
    lag : int
        Stream messages that no worker has received yet.
    pending : int
        Stream messages held by workers.
    oldest : float or None
        Age of the oldest open job of the stream in seconds; ``None`` if there is none.
    retries : int
        Jobs waiting for their next attempt.
    dead : int
        Dead letters.
    open_circuits : dict
        Sites whose circuit is open, and the seconds until the next attempt.
    lags : dict
        `lag` by source: the stream messages that wait for the workers of each.
    memory, memory_limit : int or None
        Bytes that Redis uses, and bytes that it may use; 0 without a limit. ``None`` if this user may not see them.
    """

    workers: tuple[WorkerCard, ...]
    stale: tuple[str, ...]
    lag: int
    pending: int
    oldest: float | None
    retries: int
    dead: int
    open_circuits: Mapping[str, float]
    lags: Mapping[str, int]
    memory: int | None = None
    memory_limit: int | None = None

    @classmethod
    @redis_needed()
    def read(cls, redis: redis_py.Redis, *, namespace: str | None = None) -> Self:
        """Read the health of a namespace, from any process.

        Examples
        --------
        >>> print(Health.read(redis, namespace=namespace))
        workers: none; waiting: 0; in hand: 0; retries: 0; dead: 0
        """
        keys = Keys(namespace or Settings.load().namespace)
        client: Any = check_client(redis)
        sources = each_source(client, keys)
        found = [_of_source(client, each) for each in sources]
        memory, memory_limit = _memory(client)
        return cls(
            workers=tuple(worker for each in found for worker in each.workers),
            stale=tuple(sorted(name for each in found for name in each.stale)),
            lag=sum(each.lag for each in found),
            pending=sum(each.pending for each in found),
            oldest=max((each.oldest for each in found if each.oldest is not None), default=None),
            retries=sum(each.retries for each in found),
            dead=client.xlen(keys.dead),
            open_circuits=_open_circuits(client),
            lags={each.source: of_source.lag for each, of_source in zip(sources, found, strict=True)},
            memory=memory,
            memory_limit=memory_limit,
        )

    @property
    def alive(self) -> bool:
        """Whether any worker is alive."""
        return bool(self.workers)

    @property
    def in_hand(self) -> int:
        """Messages held by living workers, from stream and Pub/Sub."""
        return sum(worker.in_hand for worker in self.workers)

    @property
    def last_heartbeat(self) -> float | None:
        """Time of the latest heartbeat, in seconds since 1970; ``None`` if no worker is alive."""
        return max((worker.beat_at for worker in self.workers), default=None)

    def __str__(self) -> str:
        names = ", ".join(map(_shown, self.workers))
        parts = [f"workers: {names or 'none'}", f"waiting: {self.lag}", f"in hand: {self.in_hand}"]
        parts += [f"stale: {', '.join(self.stale)}"] if self.stale else []
        parts += [f"oldest: {self.oldest:.0f} s"] if self.oldest is not None else []
        parts += [f"{site} circuit open for {seconds:.0f} s" for site, seconds in self.open_circuits.items()]
        return "; ".join([*parts, f"retries: {self.retries}", f"dead: {self.dead}"])

    def _view(self) -> View:
        facts = [
            ("waiting", self.lag),
            ("in hand", self.in_hand),
            ("retries", self.retries),
            ("dead letters", self.dead),
        ]
        told = [(label, str(count)) for label, count in facts]
        told += [("oldest job", duration(self.oldest))] if self.oldest is not None else []
        told += [("stale", ", ".join(self.stale))] if self.stale else []
        told += [("circuit open", f"{site}, {duration(seconds)}") for site, seconds in self.open_circuits.items()]
        rows = [
            (
                card.name,
                card.source,
                str(card.threads),
                card.delivery,
                str(card.in_hand),
                str(card.settled),
                str(card.errors),
            )
            for card in self.workers
        ]
        workers = Table(("worker", "source", "threads", "listens to", "in hand", "settled", "outages"), rows)
        alive = {0: "no worker is alive", 1: "1 worker is alive"}.get(len(rows), f"{len(rows)} workers are alive")
        return View("Health", alive, tuple(told), tables=(workers,) if rows else ())


def _shown(worker: WorkerCard) -> str:
    source = "" if worker.source == DEFAULT_SOURCE else f", {worker.source}"
    return f"{worker.name} ({worker.threads} threads{source})"


class _OfSource(NamedTuple):
    """The workers and counts of one source."""

    workers: Sequence[WorkerCard]
    stale: Collection[str]
    lag: int
    pending: int
    oldest: float | None
    retries: int


def _of_source(client: Any, keys: Keys) -> _OfSource:
    workers = live_workers(client, keys)
    known = {*client.zrange(keys.workers, 0, -1), *_consumers(client, keys)}
    pending = _pending(client, keys)
    # Only the id is needed, and a message typed by hand may not be text.
    first = client.execute_command("XRANGE", keys.jobs, "-", "+", "COUNT", 1, NEVER_DECODE=True)
    return _OfSource(
        workers,
        known - {worker.name for worker in workers},
        # The two counts are read a moment apart, so their difference may be negative.
        max(0, client.xlen(keys.jobs) - pending),
        pending,
        max(0.0, time.time() - int(first[0][0].split(b"-")[0]) / 1000) if first else None,
        client.zcard(keys.retries),
    )


def _open_circuits(client: Any) -> dict[str, float]:
    seconds, microseconds = client.time()
    now = seconds * 1000 + microseconds / 1000
    return {
        site: (until - now) / 1000 for site, until in client.zrangebyscore(Keys.sites(), now, "+inf", withscores=True)
    }


def _memory(client: Any) -> tuple[int | None, int | None]:
    try:
        told = client.info("memory")
    except redis_py.exceptions.NoPermissionError:
        return None, None
    return int(told["used_memory"]), int(told["maxmemory"])


def _pending(client: Any, keys: Keys) -> int:
    try:
        return int(client.xpending(keys.jobs, keys.group)["pending"])
    except redis_py.ResponseError as error:
        if is_no_group(error):
            return 0
        raise


def _consumers(client: Any, keys: Keys) -> list[str]:
    try:
        return [entry["name"] for entry in client.xinfo_consumers(keys.jobs, keys.group)]
    except redis_py.ResponseError as error:
        if is_no_group(error):
            return []
        raise

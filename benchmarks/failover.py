"""Measure how long a failover takes, and what it loses: a primary under load, with a replica and three sentinels.

    python benchmarks/failover.py [--quick] [--runs 10]

All on one machine: the sentinels declare a server down after 3 s of silence. *To promotion* is the time from the
failure until another server is the primary; *to a result* is the time from there until the next result is settled.
*Lost* are publications that Redis had acknowledged and that the new primary does not have, and settled results that are
settled again. In the first row, the primary gets SIGKILL, and its machine still sends what the server had written. In
the others, data reach the replica after 50 ms, as in another data centre, and the primary's machine falls silent; the
data in transit are lost. In the third, results and publications count once the replica has them
(``SCRAPERKIT_CONFIRMATIONS=1``), so none do until the old primary is back as a replica: it is restarted as soon as the
other is the primary.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import common

sys.path.insert(0, str(common.ROOT / "tests"))
from support.fakes import FakeSite, months
from support.sentinels import guarded_redis

from scraperkit import Publisher, Subscriber, connect
from scraperkit.config import Settings
from scraperkit.errors import ScraperKitError
from scraperkit.keys import Keys

SLACK = 3.0
AT_ONCE = 12
KEYS = Keys()
HEADER = [
    *("failure", "runs", "results/s", "to promotion, s", "to a result, s", "longest, s"),
    *("publications lost", "results lost"),
]


class Found(NamedTuple):
    """One failover: times in seconds, what was acknowledged before it, and how much of that is lost."""

    rate: float
    sentinels: float
    then: float
    published: int
    publications_lost: int
    settled: int
    results_lost: int


class Load:
    """Publishes without a pause, and records what Redis acknowledged."""

    def __init__(self, url: str, settings: Settings) -> None:
        self._url, self._settings = url, settings
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._publish)
        self.acknowledged: list[tuple[float, str]] = []

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _publish(self) -> None:
        with connect(self._url) as client:
            publisher = Publisher(client, settings=self._settings)
            while not self._over.wait(0.01):
                with contextlib.suppress(ScraperKitError):
                    batch = publisher.publish(months(AT_ONCE), force=True)
                    self.acknowledged.append((time.time(), batch.id))


def main() -> None:
    options = common.arguments(__doc__, add_options)
    runs = 2 if options.quick else options.runs
    rows = {"SIGKILL": (0.0, 0), "silence, replica 50 ms away": (0.05, 0), "the same, must confirm": (0.05, 1)}
    found = {name: [measure(*row) for _ in range(runs)] for name, row in rows.items()}
    print("A primary under load is killed.\n")
    print(common.table(HEADER, [row(name, each) for name, each in found.items()]))
    longest = max(each.then for name, (_, replicas) in rows.items() if not replicas for each in found[name])
    print()
    print(
        common.goal(f"the next result within {SLACK:g} s of the sentinels' own time: {longest:.1f} s", longest < SLACK)
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=int, default=10, help="failovers for each row")


def row(name: str, found: list[Found]) -> list[str]:
    """Return a row of the table."""
    middle = len(found) // 2
    rates, sentinels, then = (sorted(values) for values in zip(*(each[:3] for each in found), strict=True))
    return [
        *(name, str(len(found)), f"{rates[middle]:,.0f}", f"{sentinels[middle]:.1f}", f"{then[middle]:.1f}"),
        f"{then[-1]:.1f}",
        f"{sum(each.publications_lost for each in found)} of {sum(each.published for each in found):,}",
        f"{sum(each.results_lost for each in found)} of {sum(each.settled for each in found):,}",
    ]


def measure(delay: float, replicas: int) -> Found:
    """Kill a primary once, whose replica is `delay` seconds away; `replicas` replicas must confirm."""
    settings = Settings.load(confirmations=replicas)
    with (
        tempfile.TemporaryDirectory(prefix="scraperkit-bench-") as folder,
        guarded_redis(Path(folder), is_proxied=delay > 0) as guarded,
        connect(guarded.url) as client,
        Subscriber(client, FakeSite(), threads=2, delivery="stream", settings=settings) as worker,
        Load(guarded.url, settings) as load,
    ):
        for proxy in guarded.proxies.values():
            proxy.replication_delay = delay
        common.wait_for(lambda: worker.outcomes["done"] > AT_ONCE * 10, 60, "nothing is settled")
        started, before = time.monotonic(), worker.outcomes["done"]
        time.sleep(2.0)
        rate = (worker.outcomes["done"] - before) / (time.monotonic() - started)
        old = guarded.primary
        killed_at = time.time()
        for proxy in filter(None, [guarded.proxies.get(old)]):
            proxy.mute_all()  # the loss of a machine closes no connection
        guarded.kill(old)
        told = worker.outcomes["done"]
        new = guarded.wait_for_another(old)
        promoted_at = time.time()
        if replicas:
            guarded.start_again(old)
        with guarded.client(new) as server:
            kept = sum(1 for at, outcome in events(server) if at < killed_at and outcome == "done")
            next_at = common.wait_for(lambda: first_after(server, killed_at), 120, "nothing more is settled")
            acknowledged = [batch for at, batch in load.acknowledged if at <= killed_at]
            gone = sum(not server.exists(KEYS.batch(batch)) for batch in acknowledged)
            return Found(
                rate,
                promoted_at - killed_at,
                max(0.0, next_at - promoted_at),
                len(acknowledged),
                gone,
                told,
                max(0, told - kept),
            )


def events(server: Any, after: str = "-") -> Iterator[tuple[float, str]]:
    """Yield time and outcome of each event."""
    for entry, fields in server.xrange(KEYS.events, after):
        yield int(entry.partition("-")[0]) / 1000, fields["outcome"]


def first_after(server: Any, moment: float) -> float:
    """Return when the first result after this moment was settled; 0 if there is none."""
    return min((at for at, outcome in events(server, f"{int(moment * 1000) + 1}") if outcome == "done"), default=0.0)


if __name__ == "__main__":
    common.main(main)

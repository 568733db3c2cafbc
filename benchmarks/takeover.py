"""Measure how long the jobs of a killed worker wait for another, with default settings.

    python benchmarks/takeover.py [--quick] [--runs 20]

Two worker processes; the first holds 16 jobs of a second each when it gets SIGKILL. The time until another worker has
claimed all of them is measured. In the second row, the killed worker is restarted at once.
"""

from __future__ import annotations

import argparse
import threading
import time

import common
import redis as redis_py

from scraperkit import Fund, Publisher, Replica
from scraperkit.config import Settings
from scraperkit.engine.hosting import WorkerProcess
from scraperkit.keys import Keys

JOBS = 16
GOAL = 5.0
FUND = Fund("18993924000100", "132922")
HEADER = ["", "runs", "median s", "longest s"]


def main() -> None:
    options = common.arguments(__doc__, add_options)
    runs = 2 if options.quick else options.runs
    rows = {"killed": False, "killed, and started again at once": True}
    figures = {name: [measure(again) for _ in range(runs)] for name, again in rows.items()}
    table = [
        [name, str(runs), f"{sorted(found)[runs // 2]:.1f}", f"{max(found):.1f}"] for name, found in figures.items()
    ]
    print(f"{JOBS} jobs held by a killed worker, until another holds them all.\n")
    print(common.table(HEADER, table))
    longest = max(max(found) for found in figures.values())
    print()
    print(common.goal(f"each run below {GOAL:g} s: {longest:.1f} s", longest < GOAL))


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=int, default=20, help="runs for each row")


def measure(again: bool) -> float:
    """Return the seconds from SIGKILL until the killed worker holds no job."""
    settings = Settings.load(threads=JOBS)
    with common.private_redis() as (url, client), Replica.start(latency=60.0) as site:

        def worker(name: str) -> WorkerProcess:
            return WorkerProcess(url, site.url, name=name, settings=settings)

        with worker("first") as first:
            Publisher(client).publish(FUND.months("2021-01", "2022-04"))
            common.wait_for(lambda: first_lives(client) == JOBS, 30, "the first worker does not take all jobs")
            site.latency = 1.0
            with worker("other"):
                first.kill()
                began = time.monotonic()
                starting = threading.Thread(target=first.start if again else bool)
                starting.start()
                common.wait_for(lambda: first_lives(client) == 0, 120, "nobody takes over")
                seconds = time.monotonic() - began
                starting.join()
                return seconds


def first_lives(client: redis_py.Redis) -> int:
    """Return how many jobs their first consumer still holds."""
    keys = Keys()
    rows = client.xpending_range(keys.jobs, keys.group, "-", "+", 1000) if client.exists(keys.jobs) else []
    return sum(row["times_delivered"] == 1 for row in rows)


if __name__ == "__main__":
    common.main(main)

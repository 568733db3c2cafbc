"""Measure the memory of publishing, and whether the memory of a worker or of Redis grows with the jobs done.

    python benchmarks/memory.py [--quick] [--jobs 5000] [--messages 300000]

First, a new process for each line publishes messages, all at once. Its memory is sampled every few milliseconds; the
memory before the first request is subtracted.

Then ten rounds do the same jobs, each with about 22 days of three figures: the same days are written again, so the
series do not grow. A worker's memory is measured after a garbage collection, without jobs in progress; that of Redis
once the batches have expired, as they do after a week. Events are capped at the jobs of one round, so the cap is
reached before the first measurement; all other settings are the defaults.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import common
import redis as redis_py
from read_prices import made_up_cnpj

from scraperkit import Fund, Publisher
from scraperkit.keys import Keys

MONTHS = ("1975-01", "2024-12")
MONTHS_OF_A_FUND = 600
ROUNDS = 10
GOAL = 0.05
GOAL_PUBLISHED = 100.0  # MB for 300,000 messages, in proportion for another number
PUBLISHERS = {
    "requests from a generator": "generator",
    "requests in a list (included)": "list",
    "force=True": "force",
    "published twice, all still pending": "again",
}
SETTLING = 3.0  # seconds, in which heartbeats continue and Redis frees what a batch left behind
MB = 1e6


@dataclass(frozen=True)
class Look:
    """Bytes at one moment: of the worker, of Redis, and the number and size of each kind of key."""

    worker: int
    redis: int
    keys: Mapping[str, tuple[int, int]]


def main() -> None:
    options = common.arguments(__doc__, add_options)
    jobs, messages = (500, 3_000) if options.quick else (options.jobs, options.messages)
    publishing(messages)
    first, last = measure(jobs)
    columns = [f"{count:,} jobs" for count in (jobs, jobs * ROUNDS)]
    print("Without jobs in progress, and with the batches expired.\n")
    rows = [("worker, resident", first.worker, last.worker), ("Redis, used_memory", first.redis, last.redis)]
    print(common.table(["MB", *columns, "growth"], [grown(*row) for row in rows]))
    print("\nWhat Redis then holds:\n")
    kinds = sorted({*first.keys, *last.keys})
    print(common.table(["", *columns], [[kind, held(first, kind), held(last, kind)] for kind in kinds]))
    growth = last.worker / first.worker - 1
    print("\n" + common.goal(f"a worker grows by no more than {GOAL:.0%}: {growth:+.1%}", growth <= GOAL))


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--jobs", type=int, default=5_000, help="jobs of one round; ten rounds are made")
    parser.add_argument("--messages", type=int, default=300_000, help="messages that a publisher publishes at once")


def publishing(messages: int) -> None:
    """Print how much the process of a publisher grows."""
    found = {name: published(kind, messages) for name, kind in PUBLISHERS.items()}
    header = [f"{messages:,} messages", "MB at most", "bytes a message"]
    rows = [[name, f"{grown / MB:.0f}", f"{grown / messages:,.0f}"] for name, grown in found.items()]
    print(common.table(header, rows) + "\n")
    most, goal = max(found.values()) / MB, GOAL_PUBLISHED * messages / 300_000
    print(common.goal(f"a publisher grows by no more than {goal:.0f} MB: {most:.0f}", most <= goal) + "\n")


def published(kind: str, messages: int) -> int:
    """Publish to a separate Redis from a separate process; return the peak growth of that process in bytes."""
    with common.private_redis() as (url, _):
        command = [sys.executable, "publishers.py", kind, str(messages)]
        with common.process(command, {"REDIS_URL": url}, stdout=subprocess.PIPE) as publisher:
            return int(common.first_line(publisher, "GROWN"))


def measure(jobs: int) -> tuple[Look, Look]:
    """Measure after the first round and after the last."""
    looks = []
    with common.private_redis() as (url, client), tempfile.TemporaryDirectory(prefix="scraperkit-bench-") as folder:
        path = Path(folder, "rss")
        environment = {"REDIS_URL": url, "SCRAPERKIT_EVENTS_KEPT": str(jobs)}
        command = [sys.executable, "workers.py", "memory", path]
        with common.process(command, environment, stdout=subprocess.PIPE) as worker:
            common.first_line(worker, "READY")
            for number in range(ROUNDS):
                one_round(client, jobs)
                if number in (0, ROUNDS - 1):
                    looks.append(look(worker, client, path))
    return looks[0], looks[1]


def one_round(client: redis_py.Redis, jobs: int) -> None:
    """Do all jobs, then delete the batch."""
    funds = [Fund(made_up_cnpj(number), str(number + 1)) for number in range(jobs // MONTHS_OF_A_FUND + 1)]
    requests = [request for fund in funds for request in fund.months(*MONTHS)][:jobs]
    batch = Publisher(client).publish(requests, force=True)
    status = batch.wait(600, progress=False)
    if status.done != jobs:
        raise common.BenchmarkError(f"not everything was done: {status}")
    client.delete(Keys().batch(batch.id))


def look(worker: subprocess.Popen[str], client: redis_py.Redis, path: Path) -> Look:
    time.sleep(SETTLING)
    worker.send_signal(signal.SIGUSR1)
    common.wait_for(path.exists, 10, "the worker does not report its memory")
    weight = json.loads(path.read_text(encoding="utf-8"))
    path.unlink()
    keys: dict[str, tuple[int, int]] = {}
    for key in client.scan_iter(count=1_000):
        kind = re.sub(r"\{\w+\}", "{cnpj}", key.removeprefix("scraperkit:"))
        kind = re.sub(r"^(batch|claim|worker):.*", r"\1:…", kind)
        number, size = keys.get(kind, (0, 0))
        keys[kind] = number + 1, size + (client.memory_usage(key, samples=0) or 0)
    return Look(weight, client.info("memory")["used_memory"], keys)


def grown(name: str, first: float, last: float) -> list[str]:
    return [name, f"{first / MB:.2f}", f"{last / MB:.2f}", f"{last / first - 1:+.1%}"]


def held(look: Look, kind: str) -> str:
    number, size = look.keys.get(kind, (0, 0))
    return f"{number} of {size / 1000:,.1f} KB" if number else "none"


if __name__ == "__main__":
    common.main(main)

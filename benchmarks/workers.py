"""Worker processes with sources made for measuring; for latency.py and memory.py.

    python benchmarks/workers.py latency|memory FILE

Prints READY once it is subscribed, and works with default settings until SIGTERM, as ``scraperkit work`` does.
"""

from __future__ import annotations

import asyncio
import calendar
import datetime as dt
import gc
import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from scraperkit import DailyQuote, ScrapeRequest, connect
from scraperkit.engine.worker import Worker
from scraperkit.sources.base import Source


class StopWatch:
    """Source that records the latency of each message, and writes all to a file at the end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seconds: list[float] = []

    def fetch(self, request: ScrapeRequest) -> list[DailyQuote]:
        now = time.time()
        self.seconds.append(now - (request.published_at or now))
        return []

    def close(self) -> None:
        write(self.path, self.seconds)


class MadeUpQuotes:
    """Source of the same three figures for every weekday; on SIGUSR1, writes the process's memory to a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fetch(self, request: ScrapeRequest) -> list[DailyQuote]:
        days = calendar.monthrange(request.year, request.month)[1]
        dates = [dt.date(request.year, request.month, day + 1) for day in range(days)]
        return [
            DailyQuote(request.document, date, quota=1 + date.day / 100, net_worth=1e6 + date.day, holders=date.day)
            for date in dates
            if date.weekday() < 5
        ]

    def weigh(self) -> None:
        gc.collect()
        write(self.path, psutil.Process().memory_info().rss)

    def close(self) -> None:
        """Do nothing."""


KINDS: dict[str, Callable[[Path], StopWatch | MadeUpQuotes]] = {"latency": StopWatch, "memory": MadeUpQuotes}


def write(path: Path, found: object) -> None:
    """Write a result atomically."""
    path.with_suffix(".new").write_text(json.dumps(found), encoding="utf-8")
    path.with_suffix(".new").replace(path)


async def work(source: Source) -> None:
    with connect() as redis:
        worker = Worker(redis, source)
        await worker.start()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, worker.request_stop)
        if isinstance(source, MadeUpQuotes):
            loop.add_signal_handler(signal.SIGUSR1, source.weigh)
        print("READY", worker.name, flush=True)
        await worker.run()


if __name__ == "__main__":
    chosen = KINDS[sys.argv[1]](Path(sys.argv[2]))
    asyncio.run(work(chosen))
    chosen.close()

"""scraperkit: a worker in its default settings, as ``scraperkit work`` runs it, but for the source."""

from __future__ import annotations

import asyncio
import time

from counting import THREADS, URL, job_done, payloads

from scraperkit import DailyQuote, Publisher, ScrapeRequest, connect
from scraperkit.cli.work import run_worker
from scraperkit.engine.worker import Worker


class Nothing:
    """A source without pages."""

    def fetch(self, request: ScrapeRequest) -> list[DailyQuote]:
        job_done(request)
        return []


def publish() -> float:
    requests = [ScrapeRequest(document=cnpj, fund_pk=pk, month_year=month) for cnpj, pk, month in payloads()]
    with connect(URL) as redis:
        began = time.perf_counter()
        Publisher(redis).publish(requests)
        return time.perf_counter() - began


def work() -> None:
    with connect(URL) as redis:
        asyncio.run(run_worker(Worker(redis, Nothing(), threads=THREADS)))


if __name__ == "__main__":
    work()

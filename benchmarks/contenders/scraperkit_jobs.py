"""scraperkit: a worker with default settings, as in ``scraperkit work``, but with its own source."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import time

from counting import THREADS, URL, job_done, payloads

from scraperkit import DailyQuote, Publisher, ScrapeRequest, connect
from scraperkit.cli.work import run_worker
from scraperkit.engine.worker import Worker
from scraperkit.models import Month


class Pages:
    """Source with its pages in memory: each month has 22 days of 6 metrics."""

    def __init__(self) -> None:
        self._months = {(cnpj, month): month_of_quotes(cnpj, month) for cnpj, _, month in payloads()}

    def fetch(self, request: ScrapeRequest) -> list[DailyQuote]:
        job_done(request)
        return self._months[request.document, request.month_year]


def month_of_quotes(cnpj: str, month: str) -> list[DailyQuote]:
    first = Month.parse(month).first_day
    return [
        DailyQuote(
            cnpj, first + dt.timedelta(days=day), 1.23456789 + day, 1e7 + day / 100, 900 + day, 0.5, 0.25, 9e6 + day
        )
        for day in range(22)
    ]


class Nothing:
    """Source without pages."""

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
    source = Pages() if os.environ.get("BENCH_QUOTES") else Nothing()
    with connect(URL) as redis:
        asyncio.run(run_worker(Worker(redis, source, threads=THREADS)))


if __name__ == "__main__":
    work()

"""Measure TimeSeriesReader.prices against the minimum: a bare TS.MRANGE.

    python benchmarks/read_prices.py [--url redis://...] [--funds 200] [--days 2520] [--runs 7]

Writes to a new namespace, and deletes it. Both reads take turns in one run; medians are compared.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import platform
import random
import statistics
import time
import uuid
from collections.abc import Callable, Iterator
from typing import TypeVar

import redis as redis_py
from stdnum.br import cnpj as stdnum_cnpj

from scraperkit.keys import Keys
from scraperkit.models import DailyQuote
from scraperkit.timeseries.reader import TimeSeriesReader
from scraperkit.timeseries.store import SeriesStore

T = TypeVar("T")


def main() -> None:
    """Write, read, compare, clean up."""
    options = arguments()
    redis = client(options.url)
    keys = Keys(f"bench-{uuid.uuid4().hex[:8]}")
    store, reader = SeriesStore(redis, keys.namespace), TimeSeriesReader(redis, keys.namespace)
    cnpjs = [made_up_cnpj(number) for number in range(options.funds)]
    quotes = list(made_up_quotes(cnpjs, options.days))
    raw = redis_py.Redis(connection_pool=redis.connection_pool)
    try:
        wrote, samples = timed(lambda: store.write(quotes))
        command = ("TS.MRANGE", "-", "+", "FILTER", f"kit={keys.namespace}", "metric=quota")
        ours, bare = [], []
        for _ in range(options.runs):
            seconds, frame = timed(lambda: reader.prices(cnpjs))
            ours.append(seconds)
            assert frame.shape == (options.days, options.funds)
            bare.append(timed(lambda: raw.execute_command(*command))[0])
        tidy, _ = timed(reader.quotes)
    finally:
        store.delete(cnpjs)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"machine: {machine}; Redis {redis.info('server')['redis_version']}; {options.runs} runs, medians")
    print(f"samples: {options.funds} funds x {options.days} days = {samples:,}")
    ours_s, bare_s = statistics.median(ours), statistics.median(bare)
    print(f"write:   {wrote:.3f} s, {samples / wrote:,.0f} samples/s")
    print(f"prices:  {ours_s:.3f} s, {samples / ours_s:,.0f} samples/s")
    print(f"raw:     {bare_s:.3f} s, {samples / bare_s:,.0f} samples/s")
    print(f"quotes:  {tidy:.3f} s (one run)")
    print(f"ratio:   {ours_s / bare_s:.2f} (prices / raw)")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", help="address of a Redis; default: as scraperkit.connect()")
    parser.add_argument("--funds", type=int, default=200)
    parser.add_argument("--days", type=int, default=2_520)
    parser.add_argument("--runs", type=int, default=7)
    return parser.parse_args()


def client(url: str | None) -> redis_py.Redis:
    if url:
        return redis_py.Redis.from_url(url, protocol=3, decode_responses=True, socket_timeout=60)
    from scraperkit.connection import connect

    return connect()


def made_up_cnpj(number: int) -> str:
    stem = f"{number:08d}0001"
    return stem + stdnum_cnpj.calc_check_digits(stem)


def made_up_quotes(cnpjs: list[str], days: int) -> Iterator[DailyQuote]:
    for cnpj in cnpjs:
        quota = 1.0
        for day in range(days):
            quota *= 1 + random.gauss(0.0004, 0.01)
            yield DailyQuote(cnpj, dt.date(2015, 1, 2) + dt.timedelta(days=day), quota=round(quota, 8))


def timed(work: Callable[[], T]) -> tuple[float, T]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


if __name__ == "__main__":
    main()

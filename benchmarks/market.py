"""Measure a whole market: writing a month of 26,000 funds, and typical reads.

    python benchmarks/market.py [--quick] [--funds 26000] [--rounds 3]

Writes to a private Redis.
"""

from __future__ import annotations

import argparse
import datetime as dt
import statistics
import time
from collections.abc import Callable
from typing import Any

import common
from series import made_up_frame

from scraperkit.models import METRICS, Fund
from scraperkit.timeseries.reader import TimeSeriesReader
from scraperkit.timeseries.store import SeriesStore

DAYS = 22
NAME, STATUS = "FUNDO DE INVESTIMENTO MULTIMERCADO DE LONGO PRAZO", "EM FUNCIONAMENTO NORMAL"
STARTED_ON = dt.date(2005, 1, 3)
GOALS = {"write_frame, with TS.CREATE": 6.0, "last()": 1.0, "funds()": 1.0}


def main() -> None:
    options = common.arguments(__doc__, add_options)
    funds, rounds = (500, 1) if options.quick else (options.funds, options.rounds)
    frame = made_up_frame(funds, DAYS)
    samples = funds * DAYS * len(METRICS)
    newest = frame["date"].max().date()
    since = newest - dt.timedelta(days=30)
    seconds: dict[str, list[float]] = {}
    with common.private_redis() as (_, client):
        store, reader = SeriesStore(client, "market"), TimeSeriesReader(client, "market")
        cnpjs = frame["cnpj"].unique().tolist()
        questions: dict[str, Callable[[], Any]] = {
            "last()": reader.last,
            "funds()": reader.funds,
            "prices() of 30 days": lambda: reader.prices(start=since),
            "quotes()": reader.quotes,
        }
        for _ in range(rounds):
            timed(seconds, "write_frame, with TS.CREATE", lambda: store.write_frame(frame))
            store.save_funds(Fund(cnpj, str(number), NAME, STATUS, STARTED_ON) for number, cnpj in enumerate(cnpjs))
            for name, ask in questions.items():
                assert len(timed(seconds, name, ask)) in (DAYS, funds, len(frame))
            memory = client.info("memory")["used_memory"] / 2**20
            store.delete(cnpjs)
    rows = [[name, f"{statistics.median(took):.2f}", f"{max(took):.2f}"] for name, took in seconds.items()]
    print(f"{funds:,} funds, {funds * len(METRICS):,} series, {samples:,} samples, {memory:,.0f} MB in Redis;", end=" ")
    print(f"{rounds} rounds, medians.\n")
    print(common.table(["", "seconds", "max"], rows) + "\n")
    for name, goal in GOALS.items() if not options.quick else ():
        took = statistics.median(seconds[name])
        print(common.goal(f"{name} within {goal:g} s: {took:.2f} s", took <= goal))


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--funds", type=int, default=26_000)
    parser.add_argument("--rounds", type=int, default=3)


def timed(into: dict[str, list[float]], name: str, work: Callable[[], Any]) -> Any:
    began = time.perf_counter()
    result = work()
    into.setdefault(name, []).append(time.perf_counter() - began)
    return result


if __name__ == "__main__":
    common.main(main)

"""Measure 26,000 series on one Redis, and divided among three, as in docs/scaling.md.

    python benchmarks/servers.py [--quick] [--funds 4333] [--days 252]

One process for each server writes its funds with write_frame and reads them with quotes(), all at the same time. The
table has elapsed seconds, and CPU seconds of the busiest server and of all servers: with fewer cores than processes,
elapsed time only shows how they share the cores.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import common
from series import made_up_frame

from scraperkit.connection import connect
from scraperkit.models import METRICS
from scraperkit.timeseries.reader import TimeSeriesReader
from scraperkit.timeseries.store import SeriesStore

MB = 1e6
HEADER = ["servers", "write, s", "busiest server, s", "all servers, s", "read, s", "busiest server, s", "MB each"]


def main() -> None:
    options = common.arguments(__doc__, add_options)
    if options.child:
        child(options.child, options.funds, options.days)
        return
    funds, days = (60, 22) if options.quick else (options.funds, options.days)
    series = funds * len(METRICS)
    print(f"{series:,} series x {days:,} days: {series * days:,} samples; {os.cpu_count()} cores.\n")
    print(common.table(HEADER, [measure(count, funds, days) for count in (1, 3)]))


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--funds", type=int, default=4_333)
    parser.add_argument("--days", type=int, default=252)
    parser.add_argument("--child", help=argparse.SUPPRESS)


def measure(count: int, funds: int, days: int) -> list[str]:
    """Return a row of the table."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(common.private_redis()) for _ in range(count)]
        children = [stack.enter_context(writer_and_reader(url, -(-funds // count), days)) for url, _ in servers]
        clients = [client for _, client in servers]
        before = [client.info("memory")["used_memory"] for client in clients]
        write, writing = all_at_once(children, clients)
        memory = max(client.info("memory")["used_memory"] - held for client, held in zip(clients, before, strict=True))
        read, reading = all_at_once(children, clients)
    figures = [write, max(writing), sum(writing), read, max(reading), memory / MB]
    return [str(count), *(f"{figure:.1f}" for figure in figures)]


def writer_and_reader(url: str, funds: int, days: int) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "--child", url, "--funds", str(funds), "--days", str(days)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=common.child_environment())


def all_at_once(children: Sequence[subprocess.Popen[str]], clients: Sequence[Any]) -> tuple[float, list[float]]:
    """Run the next step in all children; return the elapsed seconds, and the CPU seconds of each server."""
    for each in children:
        common.first_line(each, "READY")
    computed, began = [cpu(client) for client in clients], time.perf_counter()
    for each in children:
        start_step(each)
    for each in children:
        common.first_line(each, "DONE")
    took = time.perf_counter() - began
    return took, [cpu(client) - before for client, before in zip(clients, computed, strict=True)]


def start_step(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def cpu(client: Any) -> float:
    info = client.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


def child(url: str, funds: int, days: int) -> None:
    frame = made_up_frame(funds, days)
    with connect(url) as redis:
        store, reader = SeriesStore(redis), TimeSeriesReader(redis)
        for work in (lambda: store.write_frame(frame), reader.quotes):
            print("READY")
            sys.stdin.readline()
            done = work()
            print("DONE", json.dumps(len(done) if hasattr(done, "__len__") else done))


if __name__ == "__main__":
    common.main(main)

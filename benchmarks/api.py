"""Measure the REST pricer with 200 clients at once: half read a year of prices, half publish a year of months.

    python benchmarks/api.py [--quick] [--clients 200] [--seconds 10]

The pricer, a worker and the offline site are separate processes with default settings. All clients share one process
(asyncio and httpx, a connection each), and each sends its next request as soon as it has its response. Requests are
drawn from ten funds, so most look-ups and batches are known already. Memory is the pricer's resident set after the
first quarter of the time and at its end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import common
import httpx
import psutil

from scraperkit import Replica
from scraperkit.batch import Batch

FUNDS = 10
ORDER = {"from_date": "2022-01", "to_date": "2022-12"}
P99_GOAL = 2.0  # seconds, with 200 clients waiting for each other
GROWTH_GOAL = 0.10
MB = 1e6


@dataclass
class Kind:
    """The durations of one kind of request, in seconds, and how often it failed."""

    name: str
    took: list[float] = field(default_factory=list)
    failures: dict[str, int] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        return sum(self.failures.values())

    def row(self, seconds: float) -> list[str]:
        cuts = statistics.quantiles(self.took, n=100)
        ms = [f"{1000 * value:.0f}" for value in (cuts[49], cuts[98], max(self.took))]
        return [self.name, f"{len(self.took):,}", f"{len(self.took) / seconds:,.0f}", *ms, str(self.failed)]


def main() -> None:
    options = common.arguments(__doc__, add_options)
    clients, seconds = (20, 2.0) if options.quick else (options.clients, options.seconds)
    with common.private_redis() as (url, redis):
        environment = {"REDIS_URL": url}
        scraperkit = Path(sys.executable).parent / "scraperkit"
        replica = [scraperkit, "replica", "--port", "0"]
        with common.process(replica, environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as site:
            environment["SCRAPERKIT_CVM_URL"] = common.first_line(site, "READY")
            api, work = [scraperkit, "api", "--port", "0"], [scraperkit, "work"]
            quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
            with (
                common.process(work, environment, **quiet) as worker,
                common.process(api, environment, **quiet) as pricer,
            ):
                common.first_line(worker, "READY")
                base = common.first_line(pricer, "READY")
                prepare(base, redis)
                kinds, memory = asyncio.run(crowd(base, clients, seconds, psutil.Process(pricer.pid)))
    report(kinds, memory, clients, seconds)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=10.0)


def documents() -> list[str]:
    """CNPJs that the offline site knows, each once."""
    with Replica.start() as site:
        return list(dict.fromkeys(fund.cnpj for fund in site.funds if fund.active))[:FUNDS]


def prepare(base: str, redis: object) -> None:
    """Scrape everything that will be read."""
    response = httpx.post(f"{base}/v1/funds", json={"documents": documents(), **ORDER}, timeout=60)
    if response.status_code != 202:
        raise common.BenchmarkError(f"the pricer returns {response.status_code}: {response.text[:200]}")
    for result in response.json()["results"]:
        Batch(redis, result["published"]["batch_id"]).wait(60, progress=False)


async def crowd(base: str, clients: int, seconds: float, pricer: psutil.Process) -> tuple[list[Kind], list[int]]:
    """Run all clients for this many seconds; return the durations, and the memory at two moments."""
    read, publish = Kind("GET prices"), Kind("POST funds")
    wanted = documents()
    memory = []
    # A pool of 200 connections costs httpx more time than the pricer takes; 200 pools of one do not.
    tls = httpx.create_ssl_context()
    async with contextlib.AsyncExitStack() as stack:
        crowd = [
            await stack.enter_async_context(httpx.AsyncClient(base_url=base, timeout=30, verify=tls, trust_env=False))
            for _ in range(clients)
        ]
        until = time.perf_counter() + seconds
        group = [
            asyncio.create_task(one(client, (read, publish)[number % 2], wanted[number // 2 % len(wanted)], until))
            for number, client in enumerate(crowd)
        ]
        for share in (0.25, 0.75):
            await asyncio.sleep(seconds * share)
            memory.append(pricer.memory_info().rss)
        await asyncio.gather(*group)
    return [read, publish], memory


async def one(client: httpx.AsyncClient, kind: Kind, document: str, until: float) -> None:
    """Send the same request repeatedly."""
    while (began := time.perf_counter()) < until:
        try:
            if kind.name.startswith("GET"):
                response = await client.get(f"/v1/funds/{document}/prices?start=2022-01&end=2022-12")
            else:
                response = await client.post("/v1/funds", json={"document": document, **ORDER})
            outcome = "" if response.is_success else str(response.status_code)
        except httpx.HTTPError as error:
            outcome = type(error).__name__
        kind.took.append(time.perf_counter() - began)
        if outcome:
            kind.failures[outcome] = kind.failures.get(outcome, 0) + 1


def report(kinds: list[Kind], memory: list[int], clients: int, seconds: float) -> None:
    print(f"{clients} clients for {seconds:g} s, as fast as they get responses.\n")
    header = ["", "responses", "a second", "median ms", "p99 ms", "worst ms", "failed"]
    print(common.table(header, [kind.row(seconds) for kind in kinds]))
    early, late = memory
    print(f"\nThe pricer's memory: {early / MB:.1f} MB after a quarter of the time, {late / MB:.1f} MB at the end.\n")
    failed = {name: count for kind in kinds for name, count in kind.failures.items()}
    print(common.goal(f"none fails: {failed or 'none'}", not failed))
    worst = max(statistics.quantiles(kind.took, n=100)[98] for kind in kinds)
    print(common.goal(f"99 of 100 responses come within {P99_GOAL:g} s: {worst:.2f} s", worst <= P99_GOAL))
    growth = late / early - 1
    print(common.goal(f"memory grows by no more than {GROWTH_GOAL:.0%}: {growth:+.1%}", growth <= GROWTH_GOAL))


if __name__ == "__main__":
    common.main(main)

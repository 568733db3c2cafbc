"""Measure how many pages per second a worker fetches, parses and stores, from a site that responds after 200 ms.

    python benchmarks/scraping.py [--quick] [--seconds 20] [--threads 16]

Three processes, as a user would run them: ``scraperkit replica --latency 0.2``, ``scraperkit work --threads 16``, and
this one, which publishes. Threads that never pause would fetch threads / 0.2 s pages a second. A fund's first page
takes an extra request, so one month of each fund is fetched beforehand; from then on, a message is a page. The measured
window begins 1 s after the first page and ends while there are still messages for all threads. A page counts when its
prices are stored and its message is acknowledged. Times are those of the worker's events.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import common
import pandas as pd

from scraperkit import Fund, Publisher
from scraperkit.batch import Batch
from scraperkit.models import ScrapeRequest
from scraperkit.replica.site import default_site

LATENCY = 0.2
MONTHS = ("2022-01", "2023-12")
WARM_UP = 1.0
MARGIN = 2.0
GOAL = 0.95
COMMAND = Path(sys.executable).with_name("scraperkit")
HEADER = ["", "pages", "seconds", "pages/s", "share of the ideal"]


def main() -> None:
    options = common.arguments(__doc__, add_options)
    seconds = 3.0 if options.quick else options.seconds
    ideal = options.threads / LATENCY
    pages = measure(options.threads, seconds, int(ideal * (WARM_UP + seconds + MARGIN)))
    share = pages / seconds / ideal
    name = f"{options.threads} threads, {LATENCY * 1000:.0f} ms a page"
    print(common.table(HEADER, [[name, f"{pages:,}", f"{seconds:g}", f"{pages / seconds:.1f}", f"{share:.1%}"]]))
    print("\n" + common.goal(f"{GOAL:.0%} of the ideal {ideal:g} pages/s: {share:.1%}", share >= GOAL))


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the window")
    parser.add_argument("--threads", type=int, default=16, help="the worker's threads")


def measure(threads: int, seconds: float, jobs: int) -> int:
    """Return how many pages were stored within the window."""
    with common.private_redis() as (url, client):
        replica = [COMMAND, "replica", "--port", "0", "--latency", str(LATENCY)]
        with common.process(replica, {}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as site:
            address = common.first_line(site, "READY")
            worker = [COMMAND, "work", "--threads", str(threads), "--url", address]
            quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
            with common.process(worker, {"REDIS_URL": url}, **quiet) as working:
                common.first_line(working, "READY")
                publisher, requests = Publisher(client), requests_of_ten_funds()
                done(publisher.publish(list({request.document: request for request in requests}.values())))
                batches = [publisher.publish(requests, force=True) for _ in range(-(-jobs // len(requests)))]
                for batch in batches:
                    done(batch)
        events = pd.concat([batch.events() for batch in batches])
        begin = events["fetched_at"].min() + pd.Timedelta(seconds=WARM_UP)
        end = begin + pd.Timedelta(seconds=seconds)
        if (events["started_at"] > end).sum() < threads:
            raise common.BenchmarkError("too few messages; the worker was faster than its threads can be")
        return int(events["stored_at"].between(begin, end, inclusive="left").sum())


def requests_of_ten_funds() -> list[ScrapeRequest]:
    """Return the months of funds of the replica that have prices in all of them."""
    whole = [fund for fund in default_site().sample.funds if fund.active and f"{fund.started_on:%Y-%m}" <= MONTHS[0]]
    funds = [Fund(fund.cnpj, fund.pk, fund.name) for fund in whole if fund.ended_on is None][:10]
    return [request for fund in funds for request in fund.months(*MONTHS)]


def done(batch: Batch) -> None:
    """Wait for a batch, all of which must be done."""
    status = batch.wait(300, progress=False)
    if status.done != status.published:
        raise common.BenchmarkError(f"not everything was done: {status}")


if __name__ == "__main__":
    common.main(main)

"""Measure the CPU cost of a page: the site answers at once, so nothing waits for it.

    python benchmarks/fast_site.py [--quick] [--pages 1200] [--rounds 3] [--against FOLDER]

Four processes, as a user would run them: ``scraperkit replica``, Redis, ``scraperkit work --threads 8``, and this one,
which publishes. For comparison, threads run only ``source.fetch``, or only requests and lxml, which is the minimum. All
take turns in each round; medians are shown. CPU is that of the fetching process, without the site and Redis, which
share the cores. `--against` adds another clone of the project to the rounds, with its own ``.venv`` and its own site.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urljoin

import common
import lxml.html
import psutil
import redis as redis_py
import requests
from scraping import COMMAND, done, requests_of_ten_funds

from scraperkit import CvmPages, Publisher
from scraperkit.models import ScrapeRequest
from scraperkit.sources.cvm_pages import DAILY_PAGE

THREADS = 8
MOST_ADDED = 0.7
LEAST_GAIN = 2.5
HEADER = ["", "pages/s", "lowest to highest", "CPU ms a page", "lowest to highest"]


class Found(NamedTuple):
    """Result of one round of one kind."""

    pages_per_second: float
    cpu_ms: float


def main() -> None:
    options = common.arguments(__doc__, add_options)
    if options.alone:
        print(json.dumps(alone(options.alone, options.url, options.threads, options.pages)))
        return
    pages, rounds = (240, 1) if options.quick else (options.pages, options.rounds)
    found: dict[str, list[Found]] = {}
    other = options.against and options.against / ".venv" / "bin" / COMMAND.name
    with common.private_redis() as (url, client), contextlib.ExitStack() as sites:
        site = sites.enter_context(replica(COMMAND))
        kinds = contenders(url, client, site, pages)
        if other:
            kinds |= workers(other, url, client, sites.enter_context(replica(other)), pages)
        for _ in range(rounds):
            for name, measure in kinds.items():
                found.setdefault(name, []).append(measure())
    print(f"{pages:,} pages a round; medians; interleaved rounds: {rounds}.\n")
    print(common.table(HEADER, [row(name, each) for name, each in found.items()]))
    print("\n" + "\n".join(goals(found)))


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pages", type=int, default=1200, help="pages of each kind in a round")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; each kind runs once in each")
    parser.add_argument("--against", type=Path, help="another clone of the project")
    parser.add_argument("--alone", choices=ALONE, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=THREADS, help=argparse.SUPPRESS)


def contenders(url: str, client: redis_py.Redis, site: str, pages: int) -> dict[str, Callable[[], Found]]:
    """Return the measurements by their names in the table."""

    def few(kind: str, threads: int) -> Callable[[], Found]:
        words = [sys.executable, Path(__file__), "--alone", kind, "--url", site]
        command = [*words, "--threads", str(threads), "--pages", str(pages)]
        return lambda: Found(*json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))

    def work(threads: int, processes: int = 1) -> Callable[[], Found]:
        words = [COMMAND, "work", "--threads", str(threads), "--url", site]
        return lambda: worked([*words, *(["--processes", str(processes)] if processes > 1 else [])], url, client, pages)

    return {
        "requests and lxml, 1 thread": few("requests", 1),
        "source.fetch, 1 thread": few("fetch", 1),
        f"source.fetch, {THREADS} threads": few("fetch", THREADS),
        "worker, 1 thread": work(1),
        f"worker, {THREADS} threads": work(THREADS),
        f"2 worker processes, {THREADS} threads each": work(THREADS, 2),
    }


def workers(command: Path, url: str, client: redis_py.Redis, site: str, pages: int) -> dict[str, Callable[[], Found]]:
    """Return the measurements of another clone."""

    def work(threads: int) -> Callable[[], Found]:
        return lambda: worked([command, "work", "--threads", str(threads), "--url", site], url, client, pages)

    return {"other clone, 1 thread": work(1), f"other clone, {THREADS} threads": work(THREADS)}


@contextlib.contextmanager
def replica(command: Path) -> Iterator[str]:
    """Run the site of a clone as a process; yield its address."""
    with common.process(
        [command, "replica", "--port", "0"], {}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as site:
        yield common.first_line(site, "READY")


def worked(command: list[str | Path], url: str, client: redis_py.Redis, pages: int) -> Found:
    """Measure a worker; the first page of each fund does not count."""
    publisher, months = Publisher(client), requests_of_ten_funds()
    with common.process(command, {"REDIS_URL": url}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as worker:
        common.first_line(worker, "READY")
        done(publisher.publish(months, force=True))
        cpu, began = cpu_seconds(worker.pid), time.perf_counter()
        batches = [publisher.publish(months, force=True) for _ in range(-(-pages // len(months)))]
        for batch in batches:
            done(batch)
        count = len(batches) * len(months)
        return Found(count / (time.perf_counter() - began), (cpu_seconds(worker.pid) - cpu) / count * 1000)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process and its children have taken so far."""
    process = psutil.Process(pid)
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return sum(time.user + time.system for time in times)


def alone(kind: str, url: str, threads: int, pages: int) -> Found:
    """Measure threads of this process."""
    months = requests_of_ten_funds()
    fetch = ALONE[kind](url)
    todo = (months * (pages // len(months) + 1))[:pages]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(fetch, months))
        cpu, began = time.process_time(), time.perf_counter()
        list(pool.map(fetch, todo))
        return Found(pages / (time.perf_counter() - began), (time.process_time() - cpu) / pages * 1000)


def bare(url: str) -> Callable[[ScrapeRequest], object]:
    """Return a function that requests a page without a form, and only parses its HTML."""
    mine = threading.local()

    def fetch(request: ScrapeRequest) -> object:
        if not hasattr(mine, "session"):
            mine.session = requests.Session()
        page = mine.session.get(f"{urljoin(url, DAILY_PAGE)}?PK_PARTIC={request.fund_pk}&SemFrame=", timeout=10)
        return lxml.html.fromstring(page.content)

    return fetch


ALONE: dict[str, Callable[[str], Callable[[ScrapeRequest], object]]] = {
    "requests": bare,
    "fetch": lambda url: CvmPages(url).fetch,
}


def row(name: str, found: list[Found]) -> list[str]:
    speeds, costs = sorted(each.pages_per_second for each in found), sorted(each.cpu_ms for each in found)
    return [
        name,
        f"{statistics.median(speeds):.0f}",
        f"{speeds[0]:.0f} to {speeds[-1]:.0f}",
        f"{statistics.median(costs):.2f}",
        f"{costs[0]:.2f} to {costs[-1]:.2f}",
    ]


def goals(found: Mapping[str, list[Found]]) -> list[str]:
    """Compare within each round, so that other load on the machine affects both sides."""
    many = f"{THREADS} threads"

    def compared(one: str, other: str, how: Callable[[Found, Found], float]) -> float:
        return statistics.median(map(how, found[one], found[other]))

    def speed(one: Found, other: Found) -> float:
        return one.pages_per_second / other.pages_per_second

    said = []
    for threads in ("1 thread", many):
        added = compared(f"worker, {threads}", f"source.fetch, {threads}", lambda one, other: one.cpu_ms - other.cpu_ms)
        text = f"{threads}: the engine adds at most {MOST_ADDED} ms of CPU to a page: {added:.2f}"
        said.append(common.goal(text, added <= MOST_ADDED))
    ratio = compared(f"worker, {many}", "worker, 1 thread", speed)
    said.append(common.goal(f"{many} are no slower than 1: {ratio:.2f} times as fast", ratio >= 1))
    if (other := f"other clone, {many}") in found:
        gain = compared(f"worker, {many}", other, speed)
        text = f"{many}: {LEAST_GAIN} times as fast as the other clone: {gain:.2f}"
        said.append(common.goal(text, gain >= LEAST_GAIN))
    second = compared(f"2 worker processes, {many} each", f"worker, {many}", speed)
    said.append(f"- a second process makes it {second:.2f} times as fast")
    return said


if __name__ == "__main__":
    common.main(main)

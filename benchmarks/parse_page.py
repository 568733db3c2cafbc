"""Measure the CPU of parsing one daily page, against the minimum: lxml's own parse of the same bytes.

    python benchmarks/parse_page.py [--months 220] [--viewstate 10000] [--pages 200]

The page has 31 days; options set the number of months and the length of the view state. The parsers take turns in one
run, so that other load on the machine affects all; medians are compared. Then one thread and several threads parse the
same pages in turn: several share the GIL, but should take no more CPU for a page.
"""

from __future__ import annotations

import argparse
import calendar
import datetime as dt
import platform
import random
import re
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import bs4
import lxml.etree
import lxml.html

from scraperkit.models import DailyQuote
from scraperkit.replica.pages import render_daily
from scraperkit.replica.sample import SampleFund
from scraperkit.sources.cvm_parser import parse_daily, parse_first_daily

THREADS = 8
CNPJ, MONTH = "18993924000100", "12/2022"
FUND = SampleFund(CNPJ, "1", "Fundo Exemplo", "Adm", "99100001000175", "EM FUNCIONAMENTO NORMAL", dt.date(2000, 1, 1))


def main() -> None:
    """Parse and compare."""
    options = arguments()
    content = page(options.months, options.viewstate)
    assert len(parse_daily(content, cnpj=CNPJ, month=MONTH).quotes or ()) == 31
    kinds: dict[str, Callable[[], object]] = {
        "lxml.html alone": lambda: lxml.html.fromstring(content),
        "parse_daily": lambda: parse_daily(content, cnpj=CNPJ, month=MONTH),
        "parse_first_daily, no quotes": lambda: parse_first_daily(content, cnpj=CNPJ),
    }
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for turn in range(options.pages + 10):
        for name, parse in kinds.items():
            began = time.process_time()
            parse()
            if turn >= 10:
                times[name].append(time.process_time() - began)
    print(f"Python {platform.python_version()}, lxml {lxml.etree.__version__}, Beautiful Soup {bs4.__version__}")
    print(f"{len(content):,} bytes, {options.months} months, 31 days, {options.pages} pages each")
    floor = statistics.median(times["lxml.html alone"])
    for name, taken in times.items():
        median = statistics.median(taken)
        print(
            f"{name:30} {median * 1e3:6.2f} ms CPU a page (best {min(taken) * 1e3:.2f}), {median / floor:4.1f} x lxml"
        )
    alone, together = in_threads(kinds["parse_daily"], options.pages)
    print(
        f"{f'parse_daily, {THREADS} threads':30} {together.cpu * 1e3:6.2f} ms CPU a page, "
        f"{together.cpu / alone.cpu:.2f} x that of one; {alone.seconds / together.seconds:.2f} x as fast"
    )


class Pace(NamedTuple):
    """Seconds for each page: CPU time, and elapsed time."""

    cpu: float
    seconds: float


def in_threads(parse: Callable[[], object], pages: int) -> list[Pace]:
    """Parse in one thread and in several, in turn; return the median of each."""
    paces: dict[int, list[Pace]] = {1: [], THREADS: []}
    for _ in range(5):
        for threads, found in paces.items():
            with ThreadPoolExecutor(threads) as pool:
                cpu, began = time.process_time(), time.perf_counter()
                list(pool.map(lambda _: parse(), range(pages)))
                found.append(Pace((time.process_time() - cpu) / pages, (time.perf_counter() - began) / pages))
    return [Pace(*map(statistics.median, zip(*found, strict=True))) for found in paces.values()]


def page(months: int, viewstate: int) -> bytes:
    """Render a page of 31 days, with a view state of `viewstate` characters."""
    rng = random.Random(1)
    quotes = [
        DailyQuote(CNPJ, dt.date(2022, 12, day), 1953.90872 + day / 1e8, 1.5e8, 1982, 12.5, 1e6 / day, 1.6e8)
        for day in range(1, calendar.monthrange(2022, 12)[1] + 1)
    ]
    offered = [f"{n % 12 + 1:02d}/{n // 12}" for n in range(2022 * 12 + 11, 2022 * 12 + 11 - months, -1)]
    state = "".join(rng.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", k=viewstate))
    content = render_daily(FUND, quotes, MONTH, offered)
    return re.sub(rb'(name="__VIEWSTATE"[^>]* value=")[^"]*', rb"\1" + state.encode(), content)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--months", type=int, default=220, help="entries in the list of months")
    parser.add_argument("--viewstate", type=int, default=10_000, help="length of the view state in characters")
    parser.add_argument("--pages", type=int, default=200, help="number of times each is parsed")
    return parser.parse_args()


if __name__ == "__main__":
    main()

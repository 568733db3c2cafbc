"""The offline site as a process that takes orders and keeps a record: ``python offline_site.py RECORD``.

Orders are lines on stdin: a word and a number.

==============  ======================================================================
``outage``      return 503 for this many seconds
``error_rate``  return an error for this share of requests
``drip``        send pages a few bytes at a time for this many seconds
``expire``      forget all sessions
``restate``     change months on the pages, drawn by this number
``rewrite``     change a month of the open data, drawn by this number, and its file
==============  ======================================================================

The record has each version of a month with its figures, written once it is in effect, and each version served.
"""

from __future__ import annotations

import contextlib
import random
import re
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from chaos.oracle import METRICS, OPEN_MONTHS, Journal

from scraperkit.models import DailyQuote
from scraperkit.replica import Replica, pages, server
from scraperkit.replica.sample import SampleFund
from scraperkit.replica.site import Site, default_site

_RESTATED_AT_ONCE = 250
_PIECE, _PAUSE = 64, 0.02


class RestatedPages:
    """The daily pages of a site, which are restated while workers fetch them."""

    def __init__(self, site: Site, record: Journal) -> None:
        self._site, self._record = site, record
        self._lock = threading.Lock()
        self._versions: dict[tuple[str, str], int] = {}
        self._rendered: dict[tuple[str, str, int], bytes] = {}
        funds = {fund.cnpj for fund in site.sample.funds}
        self._months = sorted(
            (cnpj, f"{day:%m/%Y}")
            for cnpj, day in {(quote.cnpj, quote.date.replace(day=1)) for quote in _quotes(site)}
            if cnpj in funds
        )
        site._daily_page = self.page

    def page(self, fund: SampleFund, month: str) -> bytes:
        """Return the current version of a page, and record that it is served."""
        with self._lock:
            version = self._versions.get((fund.cnpj, month), 0)
        key = (fund.pk, month, version)
        if key not in self._rendered:
            quotes = restated(self._site.sample.month(fund.cnpj, month), version)
            self._rendered[key] = pages.render_daily(fund, quotes, month, self._site.sample.offered(fund.pk))
        self._record.note(served=[fund.cnpj, month, version])
        return self._rendered[key]

    def restate(self, seed: int) -> None:
        """Change the quotas and holders of some months; every other version also lacks the last day."""
        for cnpj, month in random.Random(seed).sample(self._months, _RESTATED_AT_ONCE):
            with self._lock:
                version = self._versions[cnpj, month] = self._versions.get((cnpj, month), 0) + 1
            quotes = restated(self._site.sample.month(cnpj, month), version)
            rows = [[str(quote.date), {name: getattr(quote, name) for name in METRICS}] for quote in quotes]
            self._record.note(restated=[cnpj, month, version], rows=rows, at=time.time())


def _quotes(site: Site) -> list[DailyQuote]:
    return [quote for days in site.sample._months.values() for quote in days]


def restated(quotes: Any, version: int) -> list[DailyQuote]:
    """Return a version of a month; no two versions have a quota in common."""
    changed = [
        replace(
            quote,
            quota=None if quote.quota is None else round(quote.quota * (1 + version / 1000), 8),
            holders=None if quote.holders is None else quote.holders + version,
        )
        for quote in quotes
    ]
    return changed[:-1] if version % 2 and len(changed) > 1 else changed


def rewrite(site: Replica, record: Journal, seed: int | None = None, months: tuple[str, ...] = OPEN_MONTHS) -> None:
    """Change some figures of a month on the portal, and its file; without a seed, only record all months."""
    if seed is not None:
        months = (random.Random(seed).choice(OPEN_MONTHS),)
        site.portal.restate(months[0], share=0.1, seed=seed)
    for month in months:
        rows = [
            [re.sub("[./-]", "", row.cnpj), row.subclass, row.date, {name: getattr(row, name) for name in METRICS}]
            for row in site.portal.rows(month)
        ]
        record.note(rewritten=month, rows=rows, at=time.time() if seed is not None else 0.0)


class Dripping:
    """Sends every response a few bytes at a time, until a given time."""

    def __init__(self) -> None:
        self.until = 0.0
        dripping, setup = self, server._Handler.setup

        def set_up(handler: Any) -> None:
            setup(handler)
            write = handler.wfile.write
            handler.wfile.write = lambda data: dripping.write(write, data)

        server._Handler.setup = set_up

    def write(self, write: Any, data: bytes) -> None:
        """Send a response."""
        with contextlib.suppress(OSError):
            while data and time.monotonic() < self.until:
                write(data[:_PIECE])
                data = data[_PIECE:]
                time.sleep(_PAUSE)
            if data:
                write(data)


def main() -> None:
    """Serve until stdin ends."""
    record = Journal(Path(sys.argv[1]))
    dripping, restating = Dripping(), RestatedPages(default_site(), record)
    with Replica.start() as site:
        site.portal.crawl_delay = 0
        rewrite(site, record)
        print("READY", site.url, site.open_data_url, flush=True)
        for line in sys.stdin:
            what, number = line.split()
            if what == "outage":
                site.outage(float(number))
            elif what == "error_rate":
                site.error_rate = float(number)
            elif what == "drip":
                dripping.until = time.monotonic() + float(number)
            elif what == "expire":
                site.expire_sessions()
            elif what == "restate":
                restating.restate(int(number))
            elif what == "rewrite":
                rewrite(site, record, int(number))


if __name__ == "__main__":
    main()

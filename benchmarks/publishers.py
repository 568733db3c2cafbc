"""Publish many messages at once, and print the peak growth of the process in bytes; for memory.py.

python benchmarks/publishers.py generator|list|force|again MESSAGES
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Iterable, Iterator

import psutil
from read_prices import made_up_cnpj

from scraperkit import Fund, Publisher, ScrapeRequest, connect

MONTHS = ("1975-01", "2024-12")
LOOK_EVERY = 0.003


class Scale:
    """Peak memory of this process during a ``with`` block."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)
        gc.collect()
        self._before = self._most = self._process.memory_info().rss

    def _look(self) -> None:
        while not self._ended.wait(LOOK_EVERY):
            self._most = max(self._most, self._process.memory_info().rss)

    @property
    def grown(self) -> int:
        return self._most - self._before

    def __enter__(self) -> Scale:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def requests(count: int) -> Iterator[ScrapeRequest]:
    """Make requests for funds of 600 months each."""
    number = 0
    while count > 0:
        number += 1
        for request in Fund(made_up_cnpj(number), str(number), f"Fundo {number}").months(*MONTHS)[:count]:
            count -= 1
            yield request


def main(kind: str, count: int) -> None:
    with connect() as redis:
        publisher = Publisher(redis)
        publisher.publish(requests(10), force=True)  # imports and fills caches, which must not be measured
        with Scale() as scale:
            made: Iterable[ScrapeRequest] = list(requests(count)) if kind == "list" else requests(count)
            publisher.publish(made, force=kind == "force")
            if kind == "again":
                publisher.publish(requests(count))
    print("GROWN", scale.grown, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

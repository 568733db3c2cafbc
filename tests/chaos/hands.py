"""A worker process with a source that a test controls: ``python hands.py FOLDER [options]``.

The controls are files in FOLDER:

==========  ========================================================================
``asked``   written here: a line for each fetch as it begins, with month and process
``shut``    while it exists, no fetch ends
``deadly``  months, one per line; fetching one of them kills the process at once
``fails``   process ids; a fetch in one of these processes ends with an error
``quota``   the quota that a fetch returns if the file exists when the fetch begins
==========  ========================================================================
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NoReturn

sys.path.insert(0, str(Path(__file__).parent.parent))

from support.fakes import one_quote

from scraperkit.connection import connect
from scraperkit.engine.worker import Worker
from scraperkit.models import DailyQuote, ScrapeRequest

DIED = 77


class ControlledSource:
    """The source."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def fetch(self, request: ScrapeRequest) -> list[DailyQuote]:
        with (self._folder / "asked").open("a") as file:
            file.write(f"{request.month_year} {os.getpid()}\n")
        given = self._folder / "quota"
        quotes = [
            replace(quote, quota=float(given.read_text())) if given.exists() else quote for quote in one_quote(request)
        ]
        deadly = self._folder / "deadly"
        if deadly.exists() and request.month_year in deadly.read_text().split():
            os._exit(DIED)
        time.sleep(0.002)  # one thread would take several shorter fetches at once
        while (self._folder / "shut").exists():
            time.sleep(0.01)
        fails = self._folder / "fails"
        if fails.exists() and str(os.getpid()) in fails.read_text().split():
            raise OSError("reset")
        return quotes


async def work(options: argparse.Namespace) -> None:
    """Work until SIGTERM."""
    with connect() as redis:
        worker = Worker(redis, ControlledSource(options.folder), delivery=options.delivery, name=options.name)
        await worker.start()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.request_stop)
        print("READY", worker.name)
        await worker.run()


def supervise(options: argparse.Namespace) -> int:
    """Run a worker up to `lives` times, restarting it when a message kills it; return its exit code."""
    for life in range(1, options.lives + 1):
        child = os.fork()
        if child == 0:
            _live(options)
        signal.signal(signal.SIGTERM, partial(_pass_on, child))
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        if code != DIED:
            return code
        print("DIED", life)
    return DIED


def _pass_on(child: int, number: int, _: object) -> None:
    os.kill(child, number)


def _live(options: argparse.Namespace) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    code = 1
    try:
        asyncio.run(work(options))
        code = 0
    except Exception:
        logging.exception("the worker failed")
    finally:
        os._exit(code)


def main() -> int:
    """Read the command line, and work."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--delivery", default="both")
    parser.add_argument("--name")
    parser.add_argument("--lives", type=int, default=0)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    if options.lives:
        return supervise(options)
    asyncio.run(work(options))
    return 0


if __name__ == "__main__":
    sys.exit(main())

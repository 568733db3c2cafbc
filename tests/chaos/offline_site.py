"""The offline site as a process that takes orders: lines such as ``outage 2`` and ``error_rate 0.1`` on its input."""

from __future__ import annotations

import sys

from scraperkit.replica import Replica


def main() -> None:
    """Serve until the input ends."""
    with Replica.start() as site:
        print("READY", site.url, flush=True)
        for line in sys.stdin:
            what, number = line.split()
            if what == "outage":
                site.outage(float(number))
            elif what == "error_rate":
                site.error_rate = float(number)


if __name__ == "__main__":
    main()

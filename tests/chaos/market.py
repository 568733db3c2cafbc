"""A process that downloads the open data repeatedly until SIGTERM: ``python market.py JOURNAL``."""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from chaos.oracle import OPEN_MONTHS, Journal

from scraperkit.errors import ScraperKitError
from scraperkit.sources.open_data import OpenData

PAUSE = 0.5


def main() -> None:
    """Download until killed; after a download, the archive has all changes made before it began."""
    journal = Journal(Path(sys.argv[1]))
    with OpenData() as market:
        while True:
            began = time.time()
            try:
                report = market.download(OPEN_MONTHS[0], OPEN_MONTHS[-1], progress=False)
            except ScraperKitError as error:
                print("retrying:", error, flush=True)
            else:
                if set(report["outcome"]) <= {"new", "changed", "unchanged"}:
                    journal.note(downloaded_since=began, ended=time.time())
                    print("READY", flush=True)
            time.sleep(PAUSE)


if __name__ == "__main__":
    main()

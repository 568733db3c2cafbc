"""A downloading process that is killed at its n-th step on the disk, or not at all.

    python -m support.market_process URL ARCHIVE START END

It reads numbers from stdin; for each number n, it forks a child that downloads and kills itself before it opens,
renames, creates or deletes a file of the archive for the n-th time; with 0, never. It prints the child's exit status.
"""

from __future__ import annotations

import os
import signal
import sys

import scraperkit as sk
from scraperkit.sources.open_data import downloads, importing  # noqa: F401 - imported before the first fork

_STEPS = frozenset({"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"})


def die_at(step: int, archive: str) -> None:
    """Kill this process at a step."""
    left = [step]

    def look(event: str, args: tuple[object, ...]) -> None:
        if event in _STEPS and str(args[0]).startswith(archive):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(look)


def main() -> None:
    """Fork a child for each number on stdin."""
    url, archive, start, end = sys.argv[1:]
    for number in sys.stdin:
        child = os.fork()
        if not child:
            die_at(int(number), archive)
            with sk.OpenData(url, archive=archive) as market:
                report = market.download(start, end)
            sys.stderr.write(report.to_csv())
            os._exit(0)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{'killed' if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

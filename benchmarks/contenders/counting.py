"""Shared by all contenders: the content of the jobs, and a cheap count of the jobs done.

The count is in the worker's memory. With the last job, the worker writes the time since the first to a file.
``queues.py`` sets BENCH_URL, BENCH_JOBS and BENCH_RESULT.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

URL = os.environ["BENCH_URL"]
JOBS = int(os.environ["BENCH_JOBS"])
THREADS = 8
_MONTHS = [f"{month:02d}/{year}" for year in range(1970, 2045) for month in range(1, 13)]
_next_number = itertools.count(1).__next__
_first = (0.0, 0.0)


def payloads() -> Iterator[tuple[str, str, str]]:
    """Yield the content of each job: a fund, its number at the regulator, and a month; all different."""
    for number in range(JOBS):
        fund, month = divmod(number, len(_MONTHS))
        yield cnpj(fund), str(100_000 + fund), _MONTHS[month]


@cache
def cnpj(number: int) -> str:
    """Make up a CNPJ with the right check digits."""
    digits = [*map(int, f"{number:08d}0001")]
    for _ in range(2):
        # From the right, the weights are 2 to 9, repeated.
        rest = sum(digit * (place % 8 + 2) for place, digit in enumerate(reversed(digits))) % 11
        digits.append(0 if rest < 2 else 11 - rest)
    return "".join(map(str, digits))


def job_done(*_content: object) -> None:
    """Count one job; the last one writes the result. Thread-safe, since the counter is C code."""
    global _first
    number = _next_number()
    if number == 1:
        _first = time.monotonic(), time.process_time()
    elif number == JOBS:
        write_result({"seconds": time.monotonic() - _first[0], "cpu": time.process_time() - _first[1]})


def write_result(result: dict[str, float]) -> None:
    """Write a result for ``queues.py`` atomically."""
    path = Path(os.environ["BENCH_RESULT"])
    path.with_suffix(".new").write_text(json.dumps(result), encoding="utf-8")
    path.with_suffix(".new").replace(path)

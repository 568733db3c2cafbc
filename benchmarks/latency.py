"""Measure the latency from publishing a message to a thread's fetch, at 200 messages a second.

    python benchmarks/latency.py [--quick] [--seconds 20]

Sender and worker are two processes on one machine and share its clock. Each message carries its time of publication;
the worker, with default settings, records the time at which ``fetch`` is called. The first second does not count.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import common

from scraperkit import connect
from scraperkit.keys import Keys

RATE = 200
GOALS = {"median": 2.0, "p99": 10.0}
HEADER = ["", "messages", "median ms", "p99 ms", "max ms"]
WARM_UP = 1.0


def main() -> None:
    options = common.arguments(__doc__, add_options)
    if options.send:
        send(options.send, options.seconds)
        return
    seconds = 3.0 if options.quick else options.seconds
    figures = {kind: measure(kind, seconds) for kind in ("PUBLISH", "XADD")}
    print(f"{RATE} messages a second for {seconds:g} s, after {WARM_UP:g} s of warm-up.\n")
    print(common.table(HEADER, [row(kind, found) for kind, found in figures.items()]))
    print()
    for name, most in GOALS.items():
        found = percentile(figures["PUBLISH"], 0.5 if name == "median" else 0.99)
        print(common.goal(f"{name} from PUBLISH to fetch below {most:g} ms: {found:.2f} ms", found < most))


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=20.0, help="seconds for each of PUBLISH and XADD")
    parser.add_argument("--send", choices=["PUBLISH", "XADD"], help=argparse.SUPPRESS)


def measure(kind: str, seconds: float) -> list[float]:
    """Return the latency of each message in milliseconds."""
    sent = int(RATE * (seconds + WARM_UP))
    with common.private_redis() as (url, client), tempfile.TemporaryDirectory(prefix="scraperkit-bench-") as folder:
        path = Path(folder, "result")
        environment = {"REDIS_URL": url}
        command = [sys.executable, "workers.py", "latency", path]
        with common.process(command, environment, stdout=subprocess.PIPE) as worker:
            common.first_line(worker, "READY")
            sender_command = [sys.executable, "latency.py", "--send", kind, "--seconds", str(seconds)]
            with common.process(sender_command, environment) as sender:
                common.wait_for(lambda: sender.poll() is not None, seconds + 60, "the sender is still running")
            common.wait_for(lambda: client.xlen(Keys().events) >= sent, 10, "not every message was processed")
        found = json.loads(path.read_text(encoding="utf-8"))
    return [second * 1000 for second in found[int(RATE * WARM_UP) :]]


def send(kind: str, seconds: float) -> None:
    """Send messages at a steady pace; a late message does not delay the next."""
    keys = Keys()
    with connect() as redis:
        began = time.monotonic()
        for number in range(int(RATE * (seconds + WARM_UP))):
            time.sleep(max(0.0, began + number / RATE - time.monotonic()))
            message = (
                f'{{"document":"18993924000100","fund_pk":"132922","month_year":"12/2022",'
                f'"message_id":"{uuid.uuid4()}","published_at":{time.time():.6f}}}'
            )
            if kind == "PUBLISH":
                redis.publish(keys.channel, message)
            else:
                redis.xadd(keys.jobs, {"message": message})


def row(kind: str, found: list[float]) -> list[str]:
    numbers = percentile(found, 0.5), percentile(found, 0.99), max(found)
    return [kind, f"{len(found):,}", *(f"{number:.2f}" for number in numbers)]


def percentile(found: list[float], share: float) -> float:
    return sorted(found)[min(len(found) - 1, int(share * len(found)))]


if __name__ == "__main__":
    common.main(main)

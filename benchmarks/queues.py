"""Measure how many empty jobs per second one worker process completes: scraperkit and other job queues.

    python benchmarks/queues.py [--quick] [--rounds 3] [--only scraperkit,dramatiq]

All use one separate Redis, the same client library, eight threads and jobs of the same content. Jobs are published
first; then a worker is started, and the time from its first to its last job counts. Afterwards the queue must be empty
and nothing unacknowledged. The contenders take turns; the medians are compared. Their settings are in
``benchmarks/contenders`` and below.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import Any

import common
import redis as redis_py
import rivals

JOBS_MODULES = common.HERE / "contenders"
OURS = "scraperkit"
GOAL_TIMES, GOAL_PUBLISHED = 8.0, 20_000


def stream_backlog(stream: str, group: str) -> Callable[[redis_py.Redis], int]:
    def left(client: redis_py.Redis) -> int:
        found = [entry for entry in client.xinfo_groups(stream) if entry["name"] == group]
        return sum(int(entry["pending"]) + int(entry["lag"] or 0) for entry in found)

    return left


def dramatiq_backlog(client: redis_py.Redis) -> int:
    taken = sum(client.scard(key) for key in client.scan_iter("dramatiq:__acks__*"))
    return client.llen("dramatiq:default") + taken


@dataclass(frozen=True)
class Contender:
    """One job queue, how to start its worker, and how to see that it is done."""

    package: str
    jobs: int
    acknowledges: str
    worker: str
    left: Callable[[redis_py.Redis], int]
    environment: Mapping[str, str] = field(default_factory=dict)
    variant: str = ""

    @property
    def module(self) -> str:
        return f"{self.package}_jobs"

    @property
    def name(self) -> str:
        return f"{self.package}, {self.variant}" if self.variant else self.package

    @property
    def python(self) -> Path | str:
        return sys.executable if self.package == OURS else rivals.PYTHON

    @property
    def title(self) -> str:
        version = rivals.version(self.package, self.python)
        return self.name.replace(self.package, f"{self.package} {version}", 1)


THREADED = [
    Contender(OURS, 60_000, "yes", "scraperkit_jobs.py", lambda client: client.xlen("scraperkit:jobs")),
    Contender(
        "dramatiq",
        12_000,
        "yes",
        "-m dramatiq dramatiq_jobs --processes 1 --threads 8",
        dramatiq_backlog,
        {"dramatiq_queue_prefetch": "1000"},
    ),
    Contender(
        "taskiq",
        6_000,
        "yes",
        "-m taskiq worker taskiq_jobs:broker --workers 1 --max-threadpool-threads 8 --max-async-tasks 100 "
        "--max-prefetch 1000 --ack-type when_executed --no-parse --log-level WARNING",
        stream_backlog("taskiq", "taskiq"),
    ),
    Contender(
        "faststream",
        6_000,
        "yes",
        "-m faststream run faststream_jobs:app --log-level warning",
        stream_backlog("jobs", "workers"),
    ),
    Contender(
        "celery",
        2_500,
        "yes",
        "-m celery --app celery_jobs worker --pool threads --concurrency 8 --loglevel ERROR "
        "--without-gossip --without-mingle --without-heartbeat",
        lambda client: client.llen("celery") + client.hlen("unacked"),
    ),
    Contender(
        "rq",
        1_000,
        "partly (1)",
        "-m rq.cli worker --worker-class rq.SimpleWorker --quiet --disable-job-desc-logging default",
        lambda client: client.llen("rq:queue:default") + client.zcard("rq:wip:default"),
    ),
    Contender(
        "huey",
        12_000,
        "no (2)",
        "-m huey.bin.huey_consumer huey_jobs.huey --workers 8 --worker-type thread --no-periodic --quiet",
        lambda client: client.llen("huey.redis.bench"),
    ),
]
_named = {contender.package: contender for contender in THREADED}
CONTENDERS = [
    *THREADED,
    # The baseline for limits on the engine's speed: jobs with figures to store.
    replace(_named[OURS], jobs=6_000, environment={"BENCH_QUOTES": "1"}, variant="months of 22 days × 6 metrics"),
    replace(_named["dramatiq"], environment={}, variant="prefetch as it comes"),
    replace(_named["taskiq"], acknowledges="yes (3)", environment={"BENCH_ASYNC": "1"}, variant="async job"),
    replace(_named["faststream"], acknowledges="yes (3)", environment={"BENCH_ASYNC": "1"}, variant="async job"),
]
HEADER = [
    "",
    "acknowledges",
    "jobs/s",
    "lowest to highest",
    "scraperkit / it",
    "worker CPU µs/job",
    "Redis CPU µs/job",
    "published/s",
]
NOTES = """\
(1) RQ has no threads, and a job whose worker died is found only after its timeout; it then counts as failed.
(2) huey takes a job off its list before it runs: a worker that dies loses it.
(3) The job runs on the event loop, not in a thread: a blocking fetch, such as ours, would stall all others."""


@dataclass(frozen=True)
class Figures:
    """The result of one round: jobs a second, and processor time a job in microseconds."""

    published: float
    done: float
    worker_cpu: float
    redis_cpu: float


def main() -> None:
    options = common.arguments(__doc__, add_options)
    packages = {contender.package for contender in CONTENDERS}
    wanted = set(options.only.split(",")) if options.only else packages
    if unknown := wanted - packages:
        raise common.BenchmarkError(f"unknown: {', '.join(sorted(unknown))}")
    contenders = [contender for contender in CONTENDERS if contender.package in wanted]
    if wanted != {OURS}:
        rivals.install()
    figures: dict[str, list[Figures]] = {contender.name: [] for contender in contenders}
    share, rounds = (0.1, 1) if options.quick else (1.0, options.rounds)
    for number in range(rounds):
        # No contender always follows the same one.
        for contender in contenders[number:] + contenders[:number]:
            found = one_round(contender, int(contender.jobs * share))
            figures[contender.name].append(found)
            say(f"round {number + 1}: {contender.name}: {found.published:,.0f} published/s, {found.done:,.0f} done/s")
    report(contenders, figures, rounds)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each contender")
    parser.add_argument("--only", help="names, with commas between")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def one_round(contender: Contender, jobs: int) -> Figures:
    """Publish, then work."""
    with common.private_redis() as (url, client), tempfile.TemporaryDirectory(prefix="scraperkit-bench-") as folder:
        environment = {
            "BENCH_URL": url,
            "RQ_REDIS_URL": url,
            "BENCH_JOBS": str(jobs),
            "BENCH_RESULT": str(Path(folder, "result")),
            "PYTHONPATH": str(JOBS_MODULES),
            **contender.environment,
        }
        with run(contender, ["publish.py", contender.module], environment) as published:
            pass
        used_before = redis_cpu(client)
        with run(contender, contender.worker.split(), environment) as done:
            problem = f"{contender.name} has not acknowledged everything"
            common.wait_for(lambda: contender.left(client) == 0, 10, problem)
            redis_used = redis_cpu(client) - used_before
    return Figures(
        published=jobs / published["seconds"],
        done=jobs / done["seconds"],
        worker_cpu=done["cpu"] / jobs * 1e6,
        redis_cpu=redis_used / jobs * 1e6,
    )


@contextlib.contextmanager
def run(
    contender: Contender, arguments: Sequence[str], environment: Mapping[str, str]
) -> Iterator[Mapping[str, float]]:
    """Run a process of a contender until the block ends; yield its result."""
    result = Path(environment["BENCH_RESULT"])
    log = result.with_name("log")
    with log.open("w") as sink:
        options: dict[str, Any] = {"stdout": sink, "stderr": subprocess.STDOUT}
        with common.process([contender.python, *arguments], environment, JOBS_MODULES, **options) as running:
            common.wait_for(lambda: result.exists() or running.poll() is not None, 300, "no result")
            if not result.exists():
                raise common.BenchmarkError(f"{contender.name} ended early: {log.read_text()[-2_000:]}")
            found = json.loads(result.read_text())
            result.unlink()
            yield found


def redis_cpu(client: redis_py.Redis) -> float:
    """Return the seconds of processor time that Redis has used."""
    used = client.info("cpu")
    return float(used["used_cpu_user"] + used["used_cpu_sys"])


def report(contenders: Sequence[Contender], figures: Mapping[str, Sequence[Figures]], rounds: int) -> None:
    middle = {name: median(each) for name, each in figures.items()}
    ours = middle.get(OURS)
    rows = []
    for contender in sorted(contenders, key=lambda contender: -middle[contender.name].done):
        found = middle[contender.name]
        done = sorted(each.done for each in figures[contender.name])
        rows.append(
            [
                contender.title,
                contender.acknowledges,
                f"{found.done:,.0f}",
                f"{done[0]:,.0f} to {done[-1]:,.0f}",
                f"{ours.done / found.done:.1f}" if ours else "",
                f"{found.worker_cpu:,.0f}",
                f"{found.redis_cpu:,.0f}",
                f"{found.published:,.0f}",
            ]
        )
    print(f"One worker process, 8 threads, empty jobs unless stated otherwise; medians, rounds in turn: {rounds}.\n")
    print(common.table(HEADER, rows))
    print(f"\n{NOTES}\n" if any("(" in contender.acknowledges for contender in contenders) else "")
    theirs = [middle[each.name].done for each in contenders if "yes" in each.acknowledges and each.package != OURS]
    if ours and theirs:
        times = ours.done / max(theirs)
        text = f"{GOAL_TIMES:g} times as fast as the fastest other that acknowledges: {times:.1f} times"
        print(common.goal(text, times >= GOAL_TIMES))
    if ours:
        text = f"{GOAL_PUBLISHED:,} messages/s into the stream: {ours.published:,.0f}"
        print(common.goal(text, ours.published >= GOAL_PUBLISHED))


def median(rounds: Sequence[Figures]) -> Figures:
    return Figures(*(statistics.median(column) for column in zip(*map(astuple, rounds), strict=True)))


if __name__ == "__main__":
    common.main(main)

"""How many empty jobs a second one worker process does and acknowledges: scraperkit against other job queues.

    python benchmarks/queues.py [--quick] [--rounds 3] [--only scraperkit,dramatiq]

All use one Redis of the benchmark's own, the same client library, eight threads and a job of the same content. Jobs
are published first; then a worker is started, and the time from its first to its last job counts. Afterwards the
queue must be empty and nothing unacknowledged. The contenders take turns; the medians are compared. What they are set
to is in ``benchmarks/contenders`` and below.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
    """One job queue, how its worker is started, and how to see that it is done."""

    name: str
    module: str
    jobs: int
    acknowledges: str
    worker: str
    left: Callable[[redis_py.Redis], int]
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def python(self) -> Path | str:
        return sys.executable if self.name == OURS else rivals.PYTHON

    @property
    def version(self) -> str:
        return rivals.version(self.name, self.python)


CONTENDERS = [
    Contender(
        OURS, "scraperkit_jobs", 60_000, "yes", "scraperkit_jobs.py", lambda client: client.xlen("scraperkit:jobs")
    ),
    Contender(
        "dramatiq",
        "dramatiq_jobs",
        8_000,
        "yes",
        "-m dramatiq dramatiq_jobs --processes 1 --threads 8",
        dramatiq_backlog,
        {"dramatiq_queue_prefetch": "1000"},
    ),
    Contender(
        "taskiq",
        "taskiq_jobs",
        6_000,
        "yes",
        "-m taskiq worker taskiq_jobs:broker --workers 1 --max-threadpool-threads 8 --max-async-tasks 100 "
        "--max-prefetch 1000 --ack-type when_executed --no-parse --log-level WARNING",
        stream_backlog("taskiq", "taskiq"),
    ),
    Contender(
        "faststream",
        "faststream_jobs",
        6_000,
        "yes",
        "-m faststream run faststream_jobs:app --log-level warning",
        stream_backlog("jobs", "workers"),
    ),
    Contender(
        "celery",
        "celery_jobs",
        4_000,
        "yes",
        "-m celery --app celery_jobs worker --pool threads --concurrency 8 --loglevel ERROR "
        "--without-gossip --without-mingle --without-heartbeat",
        lambda client: client.llen("celery") + client.hlen("unacked"),
    ),
    Contender(
        "rq",
        "rq_jobs",
        2_500,
        "partly (1)",
        "-m rq.cli worker --worker-class rq.SimpleWorker --quiet --disable-job-desc-logging default",
        lambda client: client.llen("rq:queue:default") + client.zcard("rq:wip:default"),
    ),
    Contender(
        "huey",
        "huey_jobs",
        12_000,
        "no (2)",
        "-m huey.bin.huey_consumer huey_jobs.huey --workers 8 --worker-type thread --no-periodic --quiet",
        lambda client: client.llen("huey.redis.bench"),
    ),
]
NOTES = """\
(1) RQ has no threads, and a job whose worker died is only found when its time-out has passed; it then counts as failed.
(2) huey takes a job off its list before it runs: a worker that dies loses it."""


@dataclass
class Figures:
    """Jobs a second of each round."""

    published: list[float] = field(default_factory=list)
    done: list[float] = field(default_factory=list)


def main() -> None:
    options = common.arguments(__doc__, add_options)
    wanted = options.only.split(",") if options.only else [contender.name for contender in CONTENDERS]
    contenders = [contender for contender in CONTENDERS if contender.name in wanted]
    if any(contender.name != OURS for contender in contenders):
        rivals.install()
    figures = {contender.name: Figures() for contender in contenders}
    share, rounds = (0.1, 1) if options.quick else (1.0, options.rounds)
    for number in range(rounds):
        # Nobody always comes after the same one.
        for contender in contenders[number:] + contenders[:number]:
            published, done = one_round(contender, int(contender.jobs * share))
            figures[contender.name].published.append(published)
            figures[contender.name].done.append(done)
            say(f"round {number + 1}: {contender.name}: {published:,.0f} published/s, {done:,.0f} done/s")
    report(contenders, figures, rounds)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=3, help="how often each takes its turn")
    parser.add_argument("--only", help="names, with commas between")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def one_round(contender: Contender, jobs: int) -> tuple[float, float]:
    """Publish, then work; return how many jobs a second each did."""
    with common.private_redis() as (url, client), tempfile.TemporaryDirectory(prefix="scraperkit-bench-") as folder:
        result, log = Path(folder, "result"), Path(folder, "log")
        environment = {
            "BENCH_URL": url,
            "RQ_REDIS_URL": url,
            "BENCH_JOBS": str(jobs),
            "BENCH_RESULT": str(result),
            "PYTHONPATH": str(JOBS_MODULES),
            **contender.environment,
        }

        def run(*arguments: str) -> float:
            command = [contender.python, *arguments]
            with log.open("w") as sink:
                options: dict[str, Any] = {"stdout": sink, "stderr": subprocess.STDOUT}
                with common.process(command, environment, JOBS_MODULES, **options) as running:
                    seconds = result_of(running, result, log)
                    if "publish.py" not in arguments:
                        problem = f"{contender.name} has not acknowledged everything"
                        common.wait_for(lambda: contender.left(client) == 0, 10, problem)
            result.unlink()
            return jobs / seconds

        return run("publish.py", contender.module), run(*contender.worker.split())


def result_of(running: subprocess.Popen[str], result: Path, log: Path) -> float:
    """Wait for the file with the result, and return the seconds in it."""
    common.wait_for(lambda: result.exists() or running.poll() is not None, 300, "no result")
    if not result.exists():
        raise common.BenchmarkError(f"{running.args} ended early: {log.read_text()[-2_000:]}")
    return float(json.loads(result.read_text())["seconds"])


def report(contenders: list[Contender], figures: Mapping[str, Figures], rounds: int) -> None:
    done = {name: statistics.median(each.done) for name, each in figures.items()}
    published = {name: statistics.median(each.published) for name, each in figures.items()}
    ours = done.get(OURS)
    rows = [
        [
            f"{contender.name} {contender.version}",
            contender.acknowledges,
            f"{done[contender.name]:,.0f}",
            f"{min(figures[contender.name].done):,.0f} to {max(figures[contender.name].done):,.0f}",
            f"{ours / done[contender.name]:.1f}" if ours else "",
            f"{published[contender.name]:,.0f}",
        ]
        for contender in sorted(contenders, key=lambda contender: -done[contender.name])
    ]
    header = ["", "acknowledges", "jobs/s", "lowest to highest", "scraperkit / it", "published/s"]
    print(f"One worker process, 8 threads, empty jobs, {rounds} rounds in turn, medians.\n")
    print(common.table(header, rows))
    print(f"\n{NOTES}\n")
    rivals_done = [done[each.name] for each in contenders if each.acknowledges == "yes" and each.name != OURS]
    if ours and rivals_done:
        times = ours / max(rivals_done)
        print(
            common.goal(f"{GOAL_TIMES:g} times the fastest that acknowledges: {times:.1f} times", times >= GOAL_TIMES)
        )
    if ours:
        text = f"{GOAL_PUBLISHED:,} messages/s into the stream: {published[OURS]:,.0f}"
        print(common.goal(text, published[OURS] >= GOAL_PUBLISHED))


if __name__ == "__main__":
    common.main(main)

"""Run all benchmarks, show their output, and write it to ``results.md``.
    python benchmarks/run.py [--quick] [--only queues,latency] [--out benchmarks/results.md]

A quick or partial run writes to no file unless `--out` is given. A partial run replaces only its own sections of
existing results; each section says when it was measured.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.metadata
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import common
import psutil

RESULTS = common.HERE / "results.md"
CHART = Path("benchmarks", "growth.svg")
PACKAGES = ("scraperkit", "redis", "hiredis", "pydantic", "requests", "lxml", "beautifulsoup4", "pandas", "numpy")


@dataclass(frozen=True)
class Benchmark:
    """One script, its title and arguments, and those of a quick run."""

    name: str
    title: str
    quick: tuple[str, ...] = ("--quick",)
    script: str = ""
    options: tuple[str, ...] = ()

    def command(self, quick: bool) -> list[str]:
        return [f"benchmarks/{self.script or self.name}.py", *self.options, *(self.quick if quick else ())]


BENCHMARKS = [
    Benchmark("queues", "Empty jobs, compared with other job queues"),
    Benchmark("stored", "Jobs that store figures", script="queues", options=("--only", "scraperkit")),
    Benchmark("scraping", "Pages of a slow site"),
    Benchmark("fast_site", "Cost of a page"),
    Benchmark("takeover", "When a worker is killed"),
    Benchmark("failover", "When the primary is killed"),
    Benchmark("latency", "Latency from publishing to fetching"),
    Benchmark("memory", "Memory over many jobs"),
    Benchmark("read_prices", "Reading prices", ("--funds", "20", "--days", "250", "--runs", "3")),
    Benchmark("series", "Series in bulk"),
    Benchmark("market", "A month of the whole market"),
    Benchmark("archive", "The whole market on disk"),
    Benchmark("growth", "Growing series", options=("--chart", str(CHART))),
    Benchmark("servers", "Series on several servers"),
    Benchmark("parse_page", "Parsing a page", ("--pages", "20")),
    Benchmark("api", "The REST pricer with 200 clients at once"),
]


def main() -> None:
    options = common.arguments(__doc__, add_options)
    wanted = options.only.split(",") if options.only else [benchmark.name for benchmark in BENCHMARKS]
    if unknown := set(wanted) - {benchmark.name for benchmark in BENCHMARKS}:
        raise common.BenchmarkError(f"unknown benchmark: {', '.join(sorted(unknown))}")
    out = options.out or (None if options.quick or options.only else RESULTS)
    # If only some are wanted, the sections of the others stay.
    sections = read_sections(out) if out is not None and options.only and out.exists() else {}
    sections.setdefault("", heading())
    failed = []
    for benchmark in BENCHMARKS:
        if benchmark.name in wanted:
            command = benchmark.command(options.quick)
            print(f"\n== {benchmark.title}: python {' '.join(command)}\n", flush=True)
            moment = measured_at()
            output = run(command)
            if output is None:
                failed.append(benchmark.name)
            sections[benchmark.title] = section(benchmark, command, moment, output)
    if out is not None:
        titles = ["", *(benchmark.title for benchmark in BENCHMARKS)]
        out.write_text("\n".join(sections[title] for title in titles if title in sections), encoding="utf-8")
        print(f"\nwritten to {out}")
    if failed:
        raise common.BenchmarkError(f"failed: {', '.join(failed)}")


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", help="names, with commas between")
    parser.add_argument("--out", type=Path, help="where to write the results")


def run(command: Sequence[str]) -> str | None:
    """Run a script, show its output, and return it; None if it failed."""
    lines = []
    # Scripts find an embedded server of this run alone.
    with tempfile.TemporaryDirectory(prefix="scraperkit-bench-") as folder:
        environment = {"SCRAPERKIT_DATA": folder}
        whole = [sys.executable, *command]
        with common.process(whole, environment, common.ROOT, stdout=subprocess.PIPE) as running:
            assert running.stdout is not None
            for line in running.stdout:
                print(line, end="", flush=True)
                lines.append(line)
            code = running.wait()
    return None if code else "".join(lines)


def heading() -> str:
    """Return the machine and the versions."""
    with common.private_redis() as (_, client):
        server = client.info("server")["redis_version"]
        modules = {module["name"]: module["ver"] for module in client.module_list()}
    packages = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    memory = psutil.virtual_memory().total / 2**30
    return f"""\
# How fast it is

Written by `make bench`; each script also runs alone, and its docstring says what it measures and how.

- Date: {dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC
- Machine: {cpu()}, {os.cpu_count()} cores, {memory:.0f} GB of memory, {platform.system()} {platform.release()}
- Python {platform.python_version()}; {packages}
- Redis {server}, TimeSeries {modules.get("timeseries", "?")}, embedded, on the same machine
"""


def cpu() -> str:
    """Return the processor's name, if the system reports one."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def read_sections(results: Path) -> dict[str, str]:
    """Return the text below each title; before the first, the title is empty."""
    first, *others = results.read_text(encoding="utf-8").split("\n## ")
    return {"": first} | {text.partition("\n")[0]: f"## {text}" for text in others}


def measured_at() -> str:
    """Return the time, the commit, and the load average."""
    git = ["git", "-C", str(common.ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    found = subprocess.run(git, capture_output=True, text=True)
    commit = f"commit {found.stdout.strip()}, " if found.returncode == 0 else ""
    return f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC, {commit}load average before: {os.getloadavg()[0]:.1f}"


def section(benchmark: Benchmark, command: Sequence[str], moment: str, output: str | None) -> str:
    if output is None:
        found = "This benchmark failed in this run."
    elif "|" in output:
        found = output.strip()
    else:
        found = f"```text\n{output.strip()}\n```"
    return f"## {benchmark.title}\n\n    .venv/bin/python {' '.join(command)}\n\nMeasured {moment}.\n\n{found}\n"


if __name__ == "__main__":
    common.main(main)

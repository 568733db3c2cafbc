"""Measure speed and memory, in Redis and in the process, as a market grows; and the choice of the chunk size.

    python benchmarks/growth.py [--quick] [--chart benchmarks/growth.svg] [--most 70000000]

Writes six metrics a day with write_frame and reads all with quotes() and prices(), each in its own process and with its
own Redis for each size. The memory of a process is what it adds to what it held before: without the frame when writing,
with the frame when reading.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
import numpy as np
import pandas as pd
from read_prices import made_up_cnpj
from series import exchange

from scraperkit.connection import connect
from scraperkit.keys import Keys
from scraperkit.models import METRICS
from scraperkit.timeseries.commands import CHUNK_SIZE, pack
from scraperkit.timeseries.frame_writes import frame_chunks
from scraperkit.timeseries.reader import TimeSeriesReader
from scraperkit.timeseries.store import SeriesStore

SERIES, QUICK_SERIES = (100, 1_000, 10_000, 26_000), (20, 100)
LENGTHS, QUICK_LENGTHS = {"1 month": 22, "1 year": 252, "10 years": 2_520}, {"1 month": 22, "1 year": 252}
ROWS_AT_ONCE = 500_000  # of the frame that is written; more would exceed this machine's memory
FIRST_DAY = np.datetime64("2015-01-02", "ms")
GOAL_PEAK, SMALLEST_FRAME, GOAL_NEWEST = 2.5, 10.0, 1.5
ENCODINGS = [("COMPRESSED", size) for size in (128, 256, 512, 1_024, 4_096)] + [("UNCOMPRESSED", 512)]
MB = 1e6
LAST_DAYS = 30


@dataclass(frozen=True)
class Size:
    """The number of series, and the days of each."""

    series: int
    length: str
    days: int

    @property
    def funds(self) -> int:
        return max(1, self.series // len(METRICS))

    @property
    def samples(self) -> int:
        return self.funds * len(METRICS) * self.days


def main() -> None:
    options = common.arguments(__doc__, add_options)
    if options.child:
        print(json.dumps(CHILDREN[options.child](*json.loads(options.of))))
        return
    lengths = (QUICK_LENGTHS if options.quick else LENGTHS).items()
    every = [Size(series, *length) for length in lengths for series in (QUICK_SERIES if options.quick else SERIES)]
    found = {size: measure(size) for size in every if size.samples <= options.most}
    report(found)
    if options.chart:
        draw(found, options.chart)
        print(f"\n![Speed and memory by the number of series and their length]({options.chart.name})")
    print()
    encodings(*((20, 6) if options.quick else (500, 24)))


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--chart", type=Path, help="where to draw the figures")
    parser.add_argument("--most", type=int, default=70_000_000, help="leave out sizes of more samples")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--of", help=argparse.SUPPRESS)


# ---------------------------------------------------------------- one size


def measure(size: Size) -> dict[str, float]:
    with common.private_redis() as (url, client):
        before = client.info("memory")["used_memory"]
        written = child("write", url, size)
        stored = client.info("memory")["used_memory"] - before
        read = child("read", url, size)
    return {
        **read,
        "written": size.samples / written["seconds"],
        "read": size.samples / read["seconds"],
        "stored": stored / size.samples,
        "write_peak": written["peak"],
    }


def child(what: str, url: str, size: Size) -> dict[str, Any]:
    """Measure in a separate process, whose memory holds nothing else."""
    command = [sys.executable, __file__, "--child", what, "--of", json.dumps([url, size.funds, size.days])]
    done = subprocess.run(command, capture_output=True, text=True, env=common.child_environment())
    if done.returncode:
        raise common.BenchmarkError(f"{size}: {done.stderr[-2_000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def write(url: str, funds: int, days: int) -> dict[str, float]:
    seconds, peak = 0.0, 0.0
    at_once = max(1, ROWS_AT_ONCE // days)
    with connect(url) as client:
        store = SeriesStore(client, "growth")
        for first in range(0, funds, at_once):
            frame = walks(range(first, min(first + at_once, funds)), days)
            found = {}
            peak = max(peak, peak_of(lambda frame=frame: store.write_frame(frame), found))
            seconds += found["seconds"]
    return {"seconds": seconds, "peak": peak}


def read(url: str, funds: int, days: int) -> dict[str, float]:
    with connect(url) as client:
        reader = TimeSeriesReader(client, "growth")
        since = pd.Timestamp(FIRST_DAY) + pd.Timedelta(days=days - LAST_DAYS)
        reader.quotes(made_up_cnpj(0))  # what is imported and connected once
        took = []
        for _ in range(3):
            began = time.perf_counter()
            newest = reader.prices(start=since)
            took.append(time.perf_counter() - began)
        assert newest.shape == (min(days, LAST_DAYS), funds)
        wide, tidy = {}, {}
        wide_peak, tidy_peak = peak_of(reader.prices, wide), peak_of(reader.quotes, tidy)
    return {
        "newest": sorted(took)[1],
        "seconds": tidy["seconds"],
        "quotes_peak": tidy_peak,
        "quotes_frame": tidy["frame"],
        "prices_peak": wide_peak,
        "prices_frame": wide["frame"],
    }


CHILDREN = {"write": write, "read": read}


def peak_of(work: Callable[[], Any], found: dict[str, float]) -> float:
    """Return the peak increase in memory, in MB; record the seconds and the size of the frame."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before, began = memory("VmRSS"), time.perf_counter()
    result = work()
    found["seconds"] = time.perf_counter() - began
    peak = memory("VmHWM") - before
    found["frame"] = size_of(result) if isinstance(result, pd.DataFrame) else 0.0
    return peak


def walks(numbers: Sequence[int], days: int) -> pd.DataFrame:
    """Quotas of 8 decimals that move by 1 % a day, amounts of 2 decimals, some of them missing, and integer holders."""
    random = np.random.default_rng(numbers[0])
    size = (len(numbers), days)
    quota = np.round(np.cumprod(random.normal(1.0004, 0.01, size), axis=1), 8)
    net_worth = np.round(quota * random.lognormal(17, 2, (len(numbers), 1)), 2)
    flows = [np.round(random.lognormal(10, 2, size) * (random.random(size) < 0.4), 2) for _ in range(2)]
    holders = np.cumsum(random.integers(-3, 4, size), axis=1) + 10_000
    cnpjs = pd.array([made_up_cnpj(number) for number in numbers], dtype="str")
    columns = {
        "cnpj": cnpjs.take(np.repeat(np.arange(len(numbers)), days)),
        "date": np.tile(FIRST_DAY + np.arange(days) * np.timedelta64(1, "D"), len(numbers)),
        "quota": quota.ravel(),
        "net_worth": net_worth.ravel(),
        "holders": pd.array(holders.ravel(), dtype="Int64"),
        "inflow": flows[0].ravel(),
        "outflow": flows[1].ravel(),
        "portfolio": np.round(net_worth * 0.98, 2).ravel(),
    }
    return pd.DataFrame(columns)


def size_of(frame: pd.DataFrame) -> float:
    return float(frame.memory_usage(index=True, deep=True).sum()) / MB


def memory(field: str) -> float:
    """Return a line of this process's status in MB: VmRSS is the current memory, VmHWM the peak since a reset."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(field))) * 1_024 / MB


# ---------------------------------------------------------------- figures


def report(found: dict[Size, dict[str, float]]) -> None:
    header = [
        "series × days",
        "written/s",
        "read/s",
        "bytes in Redis",
        "newest 30 days, s",
        "writing, MB",
        "quotes, MB",
        "/ frame",
        "prices, MB",
        "/ frame",
    ]
    rows = [
        [
            f"{size.series:,} × {size.days:,}",
            f"{each['written']:,.0f}",
            f"{each['read']:,.0f}",
            f"{each['stored']:.1f}",
            f"{each['newest']:.3f}",
            f"{each['write_peak']:.0f}",
            f"{each['quotes_peak']:.0f}",
            f"{each['quotes_peak'] / each['quotes_frame']:.1f}",
            f"{each['prices_peak']:.0f}",
            f"{each['prices_peak'] / each['prices_frame']:.1f}",
        ]
        for size, each in found.items()
    ]
    print("Samples a second, each size once; bytes of Redis's memory for each sample; MB of the process at most.\n")
    print(common.table(header, rows) + "\n")
    for what in ("quotes", "prices"):
        frames = [(each[f"{what}_peak"], each[f"{what}_frame"]) for each in found.values()]
        if times := [peak / frame for peak, frame in frames if frame >= SMALLEST_FRAME]:
            text = (
                f"{what}: peak at most {GOAL_PEAK:g} times the frame, from {SMALLEST_FRAME:g} MB on: {max(times):.1f}"
            )
            print(common.goal(text, max(times) <= GOAL_PEAK))
    for series in dict.fromkeys(size.series for size in found if size.series >= 10_000):
        took = [each["newest"] for size, each in found.items() if size.series == series and size.days > LAST_DAYS]
        if len(took) > 1:
            text = (
                f"newest 30 days of {series:,} series: {took[-1] / took[0]:.2f} times as long with 10 years as with 1"
            )
            print(common.goal(f"{text} (at most {GOAL_NEWEST:g})", took[-1] <= GOAL_NEWEST * took[0]))


def draw(found: dict[Size, dict[str, float]], path: Path) -> None:
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    mpl.use("Agg")
    panels = [
        ("written", "Written, thousand samples/s", 1e-3),
        ("read", "Read, thousand samples/s", 1e-3),
        ("stored", "Redis, bytes a sample", 1.0),
        ("quotes_peak", "quotes(), MB at most", 1.0),
    ]
    style = {"svg.fonttype": "none", "svg.hashsalt": "growth", "font.size": 9, "axes.spines.top": False}
    with mpl.rc_context({**style, "axes.spines.right": False}):
        figure, all_axes = plt.subplots(2, 2, figsize=(9, 6), layout="constrained")
        for axes, (name, title, scale) in zip(all_axes.flat, panels, strict=True):
            for marker, length in zip("o^s", dict.fromkeys(size.length for size in found), strict=False):
                some = {size.series: each[name] * scale for size, each in found.items() if size.length == length}
                axes.plot(list(some), list(some.values()), marker=marker, label=length)
            axes.set(
                title=title,
                xscale="log",
                xlabel="series",
                yscale="log" if name in ("stored", "quotes_peak") else "linear",
            )
            axes.minorticks_off()
            axes.xaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{value:,g}"))
            axes.yaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{value:,g}"))
            if axes.get_yscale() == "linear":
                axes.set_ylim(bottom=0)
        all_axes[0, 0].legend(frameon=False, title="each has")
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)


# ---------------------------------------------------------------- chunks


def encodings(funds: int, months: int) -> None:
    """Write and read the same samples with other chunk sizes: in order, and months in any order, as from workers."""
    frame = walks(range(funds), months * 22)
    keys = Keys("growth")
    chunks = [chunk.add_commands(keys) for chunk in frame_chunks(keys, frame, METRICS)]
    number = np.arange(len(frame)) // 22
    order = np.argsort(np.random.default_rng(7).permutation(number.max() + 1)[number], kind="stable")
    mixed = [chunk.add_commands(keys) for chunk in frame_chunks(keys, frame.iloc[order], METRICS)]
    rows = []
    for encoding, size in ENCODINGS:
        row = [
            f"{encoding.lower()}, {size:,}" + (" (the kit's)" if (encoding, size) == ("COMPRESSED", CHUNK_SIZE) else "")
        ]
        for what in (chunks, mixed):
            with common.private_redis() as (_, client):
                before = client.info("memory")["used_memory"]
                exchange(client, [creates(keys, frame, encoding, size)])
                began = server_seconds(client)
                exchange(client, what)
                wrote = server_seconds(client) - began
                stored = client.info("memory")["used_memory"] - before
                began = server_seconds(client)
                TimeSeriesReader(client, keys.namespace).quotes()
                took = server_seconds(client) - began
            samples = len(frame) * len(METRICS)
            row += [f"{samples / wrote:,.0f}", f"{samples / took:,.0f}", f"{stored / samples:.1f}"]
        rows.append(row)
    print(
        f"Chunks: {funds:,} funds × {months} months × {len(METRICS)} metrics, written from pre-encoded bytes; ", end=""
    )
    print("samples for each second of the server's own time.\n")
    header = ["encoding, chunk size", "written in order", "read", "bytes", "months in any order", "read", "bytes"]
    print(common.table(header, rows))


def creates(keys: Keys, frame: pd.DataFrame, encoding: str, size: int) -> list[bytes]:
    options = ("ENCODING", encoding, "CHUNK_SIZE", size, "DUPLICATE_POLICY", "LAST")
    return [
        pack(
            (
                "TS.CREATE",
                keys.series(cnpj, metric),
                *options,
                "LABELS",
                "kit",
                "growth",
                "metric",
                metric,
                "cnpj",
                cnpj,
            )
        )
        for cnpj in frame["cnpj"].unique()
        for metric in METRICS
    ]


def server_seconds(client: Any) -> float:
    used = client.info("cpu")
    return float(used["used_cpu_user_main_thread"] + used["used_cpu_sys_main_thread"])


if __name__ == "__main__":
    common.main(main)

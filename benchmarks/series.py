"""Measure writing many samples to Redis and reading them, against redis-py's own commands and prepared bytes.

    python benchmarks/series.py [--quick] [--funds 400] [--days 1500] [--rounds 3]

All contenders take turns in each round, each in its own namespace, with the same samples; medians. Uses a separate
Redis.
"""

from __future__ import annotations

import argparse
import datetime as dt
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import common
import numpy as np
import pandas as pd
import redis as redis_py
from read_prices import made_up_cnpj

from scraperkit.keys import Keys
from scraperkit.models import METRICS, DailyQuote
from scraperkit.timeseries.commands import DAY_MS, create_all
from scraperkit.timeseries.frame_writes import frame_chunks
from scraperkit.timeseries.link import RawReplies, Request, batched, stream
from scraperkit.timeseries.range_replies import parse_ranges, range_commands
from scraperkit.timeseries.reader import SAMPLES_PER_READ, TimeSeriesReader
from scraperkit.timeseries.store import SeriesStore

WRITE_TIMES, READ_TIMES, SHARE_OF_BYTES = 2.5, 3.0, 0.5
READS = 3
FIRST_DAY = dt.date(2015, 1, 2)
Seconds = dict[str, list[float]]


def main() -> None:
    options = common.arguments(__doc__, add_options)
    funds, days, rounds = (20, 100, 1) if options.quick else (options.funds, options.days, options.rounds)
    frame = made_up_frame(funds, days)
    samples = funds * days * len(METRICS)
    print(f"{funds:,} funds x {days:,} days x {len(METRICS)} metrics: {samples:,} samples; {rounds} rounds, medians.\n")
    with common.private_redis() as (url, client):
        writes, reads = Seconds(), Seconds()
        for number in range(rounds):
            names = write_round(client, frame, number, writes)
            for _ in range(READS):  # a read is short, and other load disturbs it
                read_round(url, client, names, frame, reads)
            for keys in names.values():
                SeriesStore(client, keys.namespace).delete(made_up_cnpjs(frame))
    report("appended to existing series", writes, "redis-py's pipeline", samples)
    for title in ("quota", "all"):
        some = {name: took for name, took in reads.items() if name.endswith(title)}
        report(f"read, {title}", some, f"redis-py, {title}", samples // (len(METRICS) if title == "quota" else 1))
    series, took = funds * len(METRICS), statistics.median(writes["TS.CREATE, pre-encoded bytes"])
    print(f"TS.CREATE, pre-encoded: {series / took:,.0f} series/s.\n")
    if not options.quick:
        goals(writes, reads)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--funds", type=int, default=400)
    parser.add_argument("--days", type=int, default=1_500)
    parser.add_argument("--rounds", type=int, default=3)


def made_up_frame(funds: int, days: int) -> pd.DataFrame:
    """Quotas of 8 decimals, amounts of 2, integer holders."""
    random = np.random.default_rng(7)
    size = funds * days
    cnpj = np.repeat(np.array([made_up_cnpj(number) for number in range(funds)], dtype=object), days)
    date = np.tile(np.datetime64(FIRST_DAY, "ms") + np.arange(days) * np.timedelta64(1, "D"), funds)
    money = {
        name: np.round(random.lognormal(15, 2, size), 2) for name in ("net_worth", "inflow", "outflow", "portfolio")
    }
    quota = np.round(random.lognormal(1, 1, size), 8)
    columns = {"cnpj": pd.array(cnpj, dtype="str"), "date": date, "quota": quota, **money}
    return pd.DataFrame({**columns, "holders": pd.array(random.integers(1, 10_000, size), dtype="Int64")})


def made_up_cnpjs(frame: pd.DataFrame) -> list[str]:
    return [str(cnpj) for cnpj in frame["cnpj"].unique()]


def timed(into: Seconds, name: str, work: Callable[[], Any]) -> Any:
    began = time.perf_counter()
    result = work()
    into.setdefault(name, []).append(time.perf_counter() - began)
    return result


# ---------------------------------------------------------------- writing


def write_round(client: redis_py.Redis, frame: pd.DataFrame, number: int, seconds: Seconds) -> dict[str, Keys]:
    """Write the samples with each contender; return their namespaces."""
    quotes = [DailyQuote(**row) for row in frame.assign(date=frame["date"].dt.date).to_dict("records")]
    roads: dict[str, Callable[[Keys], Callable[[], object]]] = {
        "write_frame": lambda keys: lambda: SeriesStore(client, keys.namespace).write_frame(frame),
        "write": lambda keys: lambda: SeriesStore(client, keys.namespace).write(quotes),
        "redis-py's pipeline": lambda keys: plain_pipeline(client, keys, frame),
        "pre-encoded bytes": lambda keys: made_before(client, keys, frame),
    }
    names = {}
    order = list(roads)
    for name in order[number % len(order) :] + order[: number % len(order)]:
        keys = names[name] = Keys(f"series-{number}-{len(names)}")
        creates = create_all(keys, made_up_cnpjs(frame))
        timed(seconds, "TS.CREATE, pre-encoded bytes", lambda packed=creates: exchange(client, [packed]))
        timed(seconds, name, roads[name](keys))
    again = names["write_frame"]
    store = SeriesStore(client, again.namespace)
    timed(seconds, "write_frame, again", lambda: store.write_frame(frame))
    timed(seconds, "write_frame, replace=True", lambda: store.write_frame(frame, replace=True))
    return names


def plain_pipeline(client: redis_py.Redis, keys: Keys, frame: pd.DataFrame) -> Callable[[], object]:
    """redis-py as its documentation shows it: 1,000 samples a TS.MADD, one execute."""
    samples = [
        (keys.series(cnpj, metric), stamp, value)
        for cnpj, rows in frame.groupby("cnpj", sort=False)
        for metric in METRICS
        for stamp, value in zip(stamps(rows), rows[metric].to_numpy(float).tolist(), strict=True)
    ]

    def send() -> None:
        pipeline = client.pipeline(transaction=False)
        for at in range(0, len(samples), 1_000):
            words = [word for sample in samples[at : at + 1_000] for word in sample]
            pipeline.execute_command("TS.MADD", *words)
        pipeline.execute()

    return send


def stamps(rows: pd.DataFrame) -> list[int]:
    return (rows["date"].to_numpy().astype("datetime64[D]").astype(np.int64) * DAY_MS).tolist()


def made_before(client: redis_py.Redis, keys: Keys, frame: pd.DataFrame) -> Callable[[], object]:
    """The server's share: the commands that write_frame sends, prepared before the measurement."""
    chunks = [chunk.add_commands(keys) for chunk in frame_chunks(keys, frame, METRICS)]
    return lambda: exchange(client, chunks)


def exchange(client: redis_py.Redis, chunks: list[list[bytes]]) -> None:
    """Send commands and receive the replies without parsing them."""
    replies = RawReplies()
    requests = (Request(b"".join(commands) + replies.mark, len(commands) + 1) for commands in chunks)
    for _ in stream(client.connection_pool, requests, replies):
        pass


# ---------------------------------------------------------------- reading


def read_round(url: str, client: redis_py.Redis, names: dict[str, Keys], frame: pd.DataFrame, seconds: Seconds) -> None:
    keys = names["write_frame"]
    reader = TimeSeriesReader(client, keys.namespace)
    for metrics, title, ours in ((("quota",), "quota", reader.prices), (METRICS, "all", reader.quotes)):
        command = ("TS.MRANGE", "-", "+", "FILTER", f"kit={keys.namespace}", f"metric=({','.join(metrics)})")
        found = timed(seconds, f"{ours.__name__}, {title}", ours)
        assert found.size >= frame["quota"].size
        raw = redis_py.Redis(connection_pool=client.connection_pool)
        timed(seconds, f"redis-py, {title}", lambda asked=command, raw=raw: raw.execute_command(*asked))
        requests = packed_reads(keys, frame, metrics)
        timed(seconds, f"bytes only, {title}", lambda asked=requests: [None for _ in receive(client, asked)])
        with redis_py.Redis.from_url(url, protocol=2) as second:
            timed(seconds, f"redis-py, RESP2, {title}", lambda asked=command: second.execute_command(*asked))
            timed(seconds, f"bytes only, RESP2, {title}", lambda asked=requests: [None for _ in receive(second, asked)])
            timed(
                seconds,
                f"parsed, RESP2, {title}",
                lambda asked=requests: [parse_ranges(reply, series) for series, reply in receive(second, asked)],
            )


def packed_reads(keys: Keys, frame: pd.DataFrame, metrics: tuple[str, ...]) -> list[tuple[int, bytes]]:
    """Return requests for about as many samples as the reader's, and the number of series of each."""
    cnpjs = made_up_cnpjs(frame)
    samples = len(frame) // len(cnpjs) * len(metrics)
    each = batched(cnpjs, max(1, SAMPLES_PER_READ // samples))
    return [(len(some) * len(metrics), range_commands(keys, some, metrics, 0, 2**42)) for some in each]


def receive(client: redis_py.Redis, requests: list[tuple[int, bytes]]) -> Iterator[tuple[int, bytearray]]:
    replies = RawReplies()
    marked = (Request(packed + replies.mark, 1) for _, packed in requests)
    with closing(stream(client.connection_pool, marked, replies)) as found:
        yield from zip([series for series, _ in requests], found, strict=True)


# ---------------------------------------------------------------- figures


def report(title: str, seconds: Seconds, base: str, samples: int) -> None:
    rows = []
    for name, took in seconds.items():
        middle = statistics.median(took)
        if name.startswith("TS.CREATE"):
            continue
        lowest, highest = samples / max(took), samples / min(took)
        times = statistics.median(seconds[base]) / middle
        rows.append([name, f"{samples / middle:,.0f}", f"{lowest:,.0f} to {highest:,.0f}", f"{times:.1f}"])
    print(common.table([title, "samples/s", "lowest to highest", f"times {base}"], rows) + "\n")


def goals(writes: Seconds, reads: Seconds) -> None:
    def times(seconds: Seconds, base: str, ours: str) -> float:
        return statistics.median(seconds[base]) / statistics.median(seconds[ours])

    found = times(writes, "redis-py's pipeline", "write_frame")
    limit = times(writes, "redis-py's pipeline", "pre-encoded bytes")
    text = (
        f"write_frame: {WRITE_TIMES} times redis-py's pipeline: {found:.1f}, where pre-encoded bytes reach {limit:.1f}"
    )
    print(common.goal(text, found >= WRITE_TIMES))
    found = times(writes, "pre-encoded bytes", "write_frame")
    print(common.goal(f"write_frame: half of what pre-encoded bytes reach: {found:.0%}", found >= SHARE_OF_BYTES))
    for ours, base in (("prices, quota", "redis-py, quota"), ("quotes, all", "redis-py, all")):
        found = times(reads, base, ours)
        text = f"{ours.partition(',')[0]}: {READ_TIMES} times redis-py's TS.MRANGE: {found:.1f}"
        print(common.goal(text, found >= READ_TIMES))


if __name__ == "__main__":
    common.main(main)

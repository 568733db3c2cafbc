"""Measure importing the market's files, reading from the archive and searching, against the least work possible.

    python benchmarks/archive.py [--quick] [--rounds 5] [--series 4000]

The files come from `tools/make_market.py`. Contenders take turns in one process; the peak memory of an import is
measured in a separate process. polars and DuckDB are measured if they are installed; other packages that read these
files, once each, with the Python that `--rivals` names.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.util
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import common
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from stdnum.br.cnpj import calc_check_digits

import scraperkit as sk
from scraperkit.models import METRICS, Month
from scraperkit.sources.open_data.cleaning import figure_column
from scraperkit.sources.open_data.folder import Folder
from scraperkit.sources.open_data.importing import Imported, import_zip
from scraperkit.sources.open_data.layouts import SCHEMA
from scraperkit.sources.open_data.registry import RegistrySearch
from scraperkit.sources.open_data.revisions import CHANGES

MONTH, YEAR = "2026-08", 2015
TEXTS = ["TP_FUNDO_CLASSE", "CNPJ_FUNDO_CLASSE", "ID_SUBCLASSE", "DT_COMPTC"]
FIGURES = ["VL_TOTAL", "VL_QUOTA", "VL_PATRIM_LIQ", "CAPTC_DIA", "RESG_DIA", "NR_COTST"]
WANTED = 100
RESTATED = 0.01
MOST = {
    "first import": 2.5,
    "import with 1 % restated": 1.3,
    "100 series": 2.0,
    "bytes a row": 40,
    "MB, a year": 700,
    "into Redis": 6.0,
    "search": 0.05,
}
NAMES, WORDS = 90_000, 3_000


def main() -> None:
    options = common.arguments(__doc__, add_options)
    if options.child:
        child(Path(options.child), Path(options.archive), options.first, options.last)
        return
    series, years, rounds = (300, 1, 1) if options.quick else (options.series, 25, options.rounds)
    with tempfile.TemporaryDirectory(prefix="scraperkit-bench-") as name:
        folder = Path(name)
        print(f"Load average at the beginning: {os.getloadavg()[0]:.1f}; medians of {rounds} rounds.\n")
        goals = imports(folder, rounds, options)
        goals += loading(folder, rounds)
        goals += memory(folder, options.quick)
        goals += reads(folder, series, years, rounds)
        goals += searches(3_000 if options.quick else NAMES)
    print("\n".join(goals))


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--series", type=int, default=4_000, help="series of the archive of 25 years")
    parser.add_argument("--rivals", type=Path, help="a Python that has open_data_rivals.txt installed")
    for hidden in ("--child", "--archive", "--first", "--last"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)


def imports(folder: Path, rounds: int, options: argparse.Namespace) -> list[str]:
    """Measure the import of a month, beside parsers of its text."""
    first, second = folder / "inf_diario_fi_202608.zip", folder / "restated.zip"
    make("month", first, 500 if options.quick else None)
    rows = restate(first, second)
    text = folder / "month.csv"
    with zipfile.ZipFile(first) as archive:
        text.write_bytes(archive.read(archive.namelist()[0]))
    took: dict[str, list[float]] = {}
    size = 0
    for _ in range(rounds):
        for name, parse in parsers(text).items():
            took.setdefault(name, []).append(timed(parse))
        archive_folder = folder / "archive"
        for name, path in (("first import", first), ("import with 1 % restated", second)):
            took.setdefault(name, []).append(timed(partial(import_one, path, archive_folder, MONTH, MONTH)))
            size = size or (archive_folder / "quotes" / f"{MONTH}.parquet").stat().st_size
        remove(archive_folder)
    median = {name: statistics.median(each) for name, each in took.items()}
    base = median["pandas.read_csv, C"]
    notes = []
    if options.rivals:
        for name, told in rivals(options.rivals, first).items():
            if isinstance(told, str):
                notes.append(f"{name} {told}\n")
            else:
                median[name] = told
    table = [[name, f"{seconds:.2f}", f"{seconds / base:.2f}"] for name, seconds in median.items()]
    print(f"A month: {rows:,} rows, {first.stat().st_size / 1e6:.0f} MB zipped, {text.stat().st_size / 1e6:.0f} MB.\n")
    print(common.table(["", "seconds", "times pandas"], table) + "\n", *notes, sep="\n")
    again = median["import with 1 % restated"] / median["first import"]
    return [
        goal("first import", median["first import"] / base, "times pandas.read_csv of its text"),
        goal("import with 1 % restated", again, "times the first"),
        goal("bytes a row", size / rows, "bytes a row in the archive"),
    ]


def loading(folder: Path, rounds: int) -> list[str]:
    """Measure loading a month from the archive into an empty Redis, and then over itself."""
    archive = folder / "archive"
    import_one(folder / "inf_diario_fi_202608.zip", archive, MONTH, MONTH)
    first, again, samples = [], [], 0
    with sk.OpenData("http://127.0.0.1:9/", archive=archive) as market:
        for _ in range(rounds):
            with common.private_redis() as (_, client):
                began = time.perf_counter()
                samples = market.load(client, progress=False)
                first.append(time.perf_counter() - began)
                again.append(timed(partial(market.load, client, progress=False)))
    remove(archive)
    rows = [["into an empty Redis", statistics.median(first)], ["again", statistics.median(again)]]
    table = [[name, f"{seconds:.2f}", f"{samples / seconds:,.0f}"] for name, seconds in rows]
    print(f"The same month into TimeSeries: {samples:,} samples.\n")
    print(common.table(["", "seconds", "samples/s"], table) + "\n")
    return [goal("into Redis", statistics.median(first), "s for a month into an empty Redis")]


def rivals(python: Path, path: Path) -> dict[str, float | str]:
    """Read the month with other packages, in a Python that has them; return their seconds."""
    words = [python, common.HERE / "contenders" / "open_data.py", path, "1"]
    told = subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True)
    found: dict[str, float | str] = json.loads(told.stdout)
    return found


def memory(folder: Path, quick: bool) -> list[str]:
    """Measure the peak memory of importing a year: as twelve members, and as one."""
    twelve, one = folder / "inf_diario_fi_2015.zip", folder / "one.zip"
    make("year", twelve, 300 if quick else None)
    with (
        zipfile.ZipFile(twelve) as archive,
        zipfile.ZipFile(one, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as joined,
        joined.open("inf_diario_fi_2015.csv", "w", force_zip64=True) as target,
    ):
        for place, member in enumerate(archive.namelist()):
            header, _, lines = archive.read(member).partition(b"\n")
            target.write((header + b"\n" if not place else b"") + lines)
    goals = []
    for name, path in (("twelve members", twelve), ("one member", one)):
        told = in_child(path, folder / "years", f"{YEAR}-01", f"{YEAR}-12")
        remove(folder / "years")
        print(f"A year as {name}: {told['rows']:,} rows in {told['seconds']:.1f} s, peak {told['peak']:.0f} MB.\n")
        goals.append(goal("MB, a year", told["peak"], f"MB at most, {name}"))
    return goals


def reads(folder: Path, series: int, years: int, rounds: int) -> list[str]:
    """Measure reading some series over all years, beside a scan by hand."""
    archive = folder / "decades"
    cnpjs = fill(Folder(archive), series, years)
    wanted = random.Random(1).sample(cnpjs, min(WANTED, series))
    took: dict[str, list[float]] = {}
    with sk.OpenData("http://127.0.0.1:9/", archive=archive) as market, warnings.catch_warnings():
        for _ in range(rounds):
            took.setdefault("by hand", []).append(timed(lambda: by_hand(archive, wanted)))
            took.setdefault("prices()", []).append(timed(lambda: market.prices(wanted)))
    median = {name: statistics.median(each) for name, each in took.items()}
    rows = series * years * 12 * 21
    print(f"{len(wanted)} of {series:,} series out of {years} years, {rows:,} rows.\n")
    print(common.table(["", "seconds"], [[name, f"{seconds:.2f}"] for name, seconds in median.items()]) + "\n")
    return [goal("100 series", median["prices()"] / median["by hand"], "times a pyarrow.dataset scan by hand")]


def searches(count: int) -> list[str]:
    """Measure the search of the registry by words, by one word, and by number, beside a scan for one word by hand."""
    draw = random.Random(1)
    names = [" ".join(f"PALAVRA{draw.randrange(WORDS)}" for _ in range(6)) for _ in range(count)]
    frame = pd.DataFrame(
        {"name": names, "status": "EM FUNCIONAMENTO NORMAL", "net_worth": [draw.random() for _ in names]},
        index=pd.Index([f"{number:014d}" for number in range(count)], dtype="str", name="series"),
    )
    search, folded = RegistrySearch(frame), pa.array([f" {name.lower()}" for name in names])
    texts = {"three words": " ".join(names[0].split()[3:0:-1]), "one word": "palavra1", "a number": "000000000123"}
    took = {
        "a scan by hand": statistics.median(timed(lambda: pc.match_substring(folded, " palavra1")) for _ in range(9))
    }
    for name, text in texts.items():
        took[name] = statistics.median(timed(partial(search.find, text)) for _ in range(9))
    print(f"A search among {count:,} names.\n")
    print(common.table(["", "ms"], [[name, f"{seconds * 1000:.1f}"] for name, seconds in took.items()]) + "\n")
    return [goal("search", max(took[name] for name in texts), "s, the slowest of three")]


def goal(name: str, value: float, words: str) -> str:
    return common.goal(f"{name}: {value:.4g} {words}, at most {MOST[name]:g}", value <= MOST[name])


def by_hand(archive: Path, wanted: list[str]) -> pd.DataFrame:
    """Read as someone who knows pyarrow would."""
    table = ds.dataset(archive / "quotes").to_table(
        columns=["cnpj", "date", "quota"], filter=ds.field("cnpj").isin(wanted)
    )
    return table.to_pandas().pivot(index="date", columns="cnpj", values="quota")


def parsers(text: Path) -> dict[str, Callable[[], Any]]:
    """Return parsers of a month's text, which validate nothing."""
    dtypes = dict.fromkeys(TEXTS, "str") | dict.fromkeys(FIGURES, "float64")
    found: dict[str, Callable[[], Any]] = {
        "pandas.read_csv, C": lambda: pd.read_csv(text, sep=";", dtype=dtypes, engine="c", encoding="latin-1"),
        "pandas.read_csv, pyarrow": lambda: pd.read_csv(text, sep=";", dtype=dtypes, engine="pyarrow"),
        "pyarrow.csv": lambda: by_arrow(text),
    }
    if importlib.util.find_spec("polars"):
        import polars

        kinds = dict.fromkeys(FIGURES, polars.Float64)
        found["polars"] = lambda: polars.read_csv(text, separator=";", quote_char=None, schema_overrides=kinds)
    if importlib.util.find_spec("duckdb"):
        import duckdb

        query = f"create or replace table month as select * from read_csv('{text}', delim=';', quote='', header=true)"
        found["DuckDB"] = lambda: duckdb.sql(query)
    return found


def by_arrow(text: Path) -> pa.Table:
    from pyarrow import csv

    types = dict.fromkeys(TEXTS, pa.dictionary(pa.int32(), pa.string())) | dict.fromkeys(FIGURES, pa.float64())
    parse = csv.ParseOptions(delimiter=";", quote_char=False)
    read = csv.ReadOptions(block_size=1 << 22)
    return csv.read_csv(text, read, parse, csv.ConvertOptions(column_types=types))


def make(what: str, path: Path, series: int | None) -> None:
    """Make a file with the repository's script."""
    words = [sys.executable, str(common.ROOT / "tools" / "make_market.py"), what, str(path)]
    subprocess.run(words + (["--series", str(series)] if series else []), check=True, capture_output=True)


def restate(first: Path, second: Path) -> int:
    """Write a month again with changed quotas in some rows; return the number of rows."""
    with zipfile.ZipFile(first) as archive:
        name = archive.namelist()[0]
        header, *lines = archive.read(name).split(b"\r\n")
    for place in random.Random(2).sample(range(len(lines) - 1), round(RESTATED * len(lines))):
        cells = lines[place].split(b";")
        if len(cells) == len(TEXTS) + len(FIGURES) and cells[5]:
            cells[5] = b"%.12f" % (float(cells[5]) * 1.001)
            lines[place] = b";".join(cells)
    with zipfile.ZipFile(second, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, b"\r\n".join([header, *lines]))
    return len(lines) - 1


def fill(folder: Folder, series: int, years: int) -> list[str]:
    """Fill an archive with random walks, a month at a time; return its CNPJs."""
    draw = np.random.default_rng(3)
    bodies = [f"{number:08d}0001" for number in sorted(draw.choice(99_999_999, series, replace=False).tolist())]
    cnpjs = [body + calc_check_digits(body) for body in bodies]
    names = pa.array(cnpjs)
    blank = pa.array([""])
    for number in range(years * 12):
        month = Month(2001, 1).shift(number)
        days = pd.bdate_range(month.first_day, month.last_day)[:21].to_numpy("datetime64[ms]")
        count = series * days.size
        columns: dict[str, Any] = {
            "cnpj": pa.DictionaryArray.from_arrays(np.repeat(np.arange(series, dtype=np.int32), days.size), names),
            "date": pa.array(np.tile(days, series)),
            "seen_at": pa.repeat(pa.scalar(dt.datetime.now(dt.UTC), pa.timestamp("us", "UTC")), count),
        }
        columns |= {metric: figure_column(metric, np.rint(draw.lognormal(9, 2, count))) for metric in METRICS}
        columns["quota"] = pa.array(draw.lognormal(1, 1, count))
        columns |= {
            name: pa.DictionaryArray.from_arrays(np.zeros(count, np.int32), blank)
            for name in ("subclass", "kind", "flag")
        }
        table = pa.table({name: columns[name] for name in SCHEMA.names})
        with folder.writing("fill") as stage:
            folder.stage_month(stage, month, 1, table, CHANGES.empty_table())
            folder.commit_month(stage, month, 1)
    return cnpjs


def in_child(path: Path, archive: Path, first: str, last: str) -> dict[str, Any]:
    """Import a file in a separate process; return its seconds, rows and peak memory in MB."""
    words = [sys.executable, __file__, "--child", path, "--archive", archive, "--first", first, "--last", last]
    told = subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(told.stdout)
    return found


def child(path: Path, archive: Path, first: str, last: str) -> None:
    began = time.perf_counter()
    done = import_one(path, archive, first, last)
    print(json.dumps({"seconds": time.perf_counter() - began, "rows": done.kept, "peak": peak_memory()}))


def import_one(path: Path, archive: Path, first: str, last: str) -> Imported:
    folder = Folder(archive)
    period = (Month.parse_iso(first), Month.parse_iso(last))
    with folder.writing("benchmark") as stage:
        return import_zip(folder, stage, path, path.name, period, dt.datetime.now(dt.UTC))


def peak_memory() -> float:
    """Return this process's peak memory in MB."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except FileNotFoundError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
    # Not ru_maxrss, which includes the parent's on Linux.
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / (1 << 10)


def remove(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


def timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    common.main(main)

"""What must come out, known without Redis and without the kit: the sample as a file, and what publishers wrote down."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

SAMPLE = Path(__file__).parents[2] / "data" / "sample"
METRICS = ("quota", "net_worth", "holders", "inflow", "outflow", "portfolio")
ACTIVE = "EM FUNCIONAMENTO NORMAL"
NOT_OFFERED = "01/2019"  # before any fund of the sample began


@dataclass(frozen=True)
class Month:
    """A month of a fund that the site offers."""

    cnpj: str
    pk: str
    month: str


@dataclass
class Sample:
    """The sample.

    Attributes
    ----------
    months : list of Month
        All that the site offers.
    days : dict
        ``(cnpj, "MM/YYYY")`` to the rows of that month.
    """

    months: list[Month] = field(default_factory=list)
    days: dict[tuple[str, str], list[dict[str, str]]] = field(default_factory=dict)

    @classmethod
    def read(cls) -> Sample:
        """Read it from the repository."""
        sample = cls()
        last: dict[str, str] = {}
        for row in _rows("quotes.csv"):
            year, month, _ = row["date"].split("-")
            sample.days.setdefault((row["cnpj"], f"{month}/{year}"), []).append(row)
        for cnpj, month in sample.days:
            # A month between the first and the last may be empty, and is offered all the same.
            for number in range(_number(last.get(cnpj, month)) + (cnpj in last), _number(month) + 1):
                sample.months.append(Month(cnpj, _pks()[cnpj], f"{number % 12 + 1:02d}/{number // 12}"))
            last[cnpj] = month
        return sample

    def series(self, done: set[tuple[str, str]]) -> dict[tuple[str, str], dict[str, Decimal]]:
        """Return ``(cnpj, metric)`` to day to figure, for the months of funds that are done."""
        series: dict[tuple[str, str], dict[str, Decimal]] = {}
        for key in done:
            for row in self.days.get(key, []):
                for metric in METRICS:
                    if row[metric] != "":
                        series.setdefault((row["cnpj"], metric), {})[row["date"]] = Decimal(row[metric])
        return series


def _rows(name: str) -> Iterator[dict[str, str]]:
    with (SAMPLE / name).open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def _pks() -> dict[str, str]:
    """CNPJ to pk; where one CNPJ has two, the one in operation has the figures."""
    return {row["cnpj"]: row["pk"] for row in sorted(_rows("funds.csv"), key=lambda row: row["status"] == ACTIVE)}


def _number(month: str) -> int:
    return int(month[3:]) * 12 + int(month[:2]) - 1


class Journal:
    """What one publisher means to do, written before it does it, and what it knows to be done.

    A line that was written outlives a SIGKILL of its writer: it is the kernel's then.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def note(self, **fields: Any) -> None:
        """Write one line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(fields) + "\n")

    def lines(self) -> list[dict[str, Any]]:
        """Read all whole lines."""
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines(True) if line[-1] == "\n"]


@dataclass
class Record:
    """All journals together.

    Attributes
    ----------
    good, bad : dict
        Message id to ``(cnpj, month)``; the site does not offer the bad ones.
    batches : dict
        Batch id to the ids of its messages, for those known to be published.
    poison : set of str
        Messages that are none, known to be sent.
    meant : set of str
        Ids and poison that a publisher meant to send, whether it did or not.
    """

    good: dict[str, tuple[str, str]] = field(default_factory=dict)
    bad: dict[str, tuple[str, str]] = field(default_factory=dict)
    batches: dict[str, list[str]] = field(default_factory=dict)
    poison: set[str] = field(default_factory=set)
    meant: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, folder: Path) -> Record:
        """Read the journals in a folder."""
        record = cls()
        for path in sorted(folder.glob("*.journal")):
            orders: dict[int, list[list[str]]] = {}
            for line in Journal(path).lines():
                if "requests" in line:
                    orders[line["order"]] = line["requests"]
                    record.meant.update(message for message, *_ in line["requests"])
                elif "batch" in line:
                    record._published(line["batch"], orders[line["order"]])
                elif "poison" in line:
                    record.meant.add(line["poison"])
                    if line["sent"]:
                        record.poison.add(line["poison"])
        return record

    def _published(self, batch: str, requests: list[list[str]]) -> None:
        self.batches[batch] = [message for message, *_ in requests]
        for message, cnpj, _, month in requests:
            (self.bad if month == NOT_OFFERED else self.good)[message] = (cnpj, month)

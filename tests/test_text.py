"""Foreign text never controls a terminal or a spreadsheet, in any output."""

from __future__ import annotations

import ast
import csv
import io
import logging
import os
import pickle
import subprocess
import sys
import unicodedata
import warnings
from collections.abc import Iterator

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fakes import FakeSite, months
from support.pricer import CNPJ, COMMAND, FakeSearch, pricer, store
from support.tree import ROOT

import scraperkit as sk
from scraperkit import errors
from scraperkit.cli import logs
from scraperkit.config import Settings
from scraperkit.deadletters import DeadLetters
from scraperkit.engine.jobs import describe
from scraperkit.errors import ScraperKitError, ScraperKitWarning
from scraperkit.models import DailyQuote
from scraperkit.publisher import Publisher
from scraperkit.text import printable, safe_cell
from scraperkit.timeseries.csv_files import write_csv

EVIL = "\x1b]0;owned\x07\x1b[2J\r\x9b1mYou have won\u202e\x00"
SHOWN = r"\x1b]0;owned\x07\x1b[2J\r\x9b1mYou have won\u202e\x00"


def controls(text: str, but: str = "\n") -> set[str]:
    return {sign for sign in text if unicodedata.category(sign) in ("Cc", "Cf", "Cs") and sign not in but}


class Spiteful(FakeSite):
    """A site whose errors contain control sequences."""

    def fetch(self, request):
        raise ValueError(f"the page says {EVIL}\nand more")


@given(st.text())
def test_printable_text_is_one_line_and_utf8(text):
    found = printable(text)
    assert not controls(found, but="")
    assert len(found.splitlines()) <= 1
    found.encode("utf-8")
    assert printable(found) == found, "escaped text is not escaped again"
    if not controls(text, but="") and "\u2028" not in text and "\u2029" not in text and text.isprintable():
        assert found == text


def test_letters_and_spaces_of_any_script_are_kept():
    assert printable("Ações\u00a0Açaí – R$ 1,00 € 基金 😀") == "Ações\u00a0Açaí – R$ 1,00 € 基金 😀"
    assert printable("a\nb\tc", keep="\n") == "a\nb\\tc"


EVERY = [error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, Exception | Warning)]


@pytest.mark.parametrize("kind", EVERY)
def test_no_error_of_the_kit_shows_a_control_character(kind):
    error = kind(f"quoted: {EVIL}")
    assert str(error) == f"quoted: {SHOWN}".replace("\\r", "\\r")
    assert error.args[0] == f"quoted: {EVIL}" or kind.__init__ is not Exception.__init__
    assert str(kind("two\nlines")) == "two\nlines"
    if issubclass(kind, ScraperKitError):
        assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_an_uncaught_error_and_a_warning_are_shown_escaped():
    code = f"""
        import warnings, scraperkit as sk
        warnings.warn({EVIL!r}, sk.ScraperKitWarning)
        raise sk.ScraperKitError({EVIL!r})
    """.replace("\n        ", "\n")
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)
    shown = [line for line in ended.stderr.splitlines() if "won" in line and "warnings.warn" not in line]
    assert len(shown) >= 2
    for line in shown:
        assert not controls(line)
        assert SHOWN in line


def test_a_worker_keeps_an_error_as_one_printable_line():
    assert describe(ValueError(f"{EVIL}\nand more \ud800")) == (
        f"ValueError: {SHOWN} and more \\ud800".replace("\\x1b[2J\\r\\x9b", "\\x1b[2J \\x9b")
    )


def test_reports_of_a_batch_and_its_dead_letters_are_printable(redis, redis_url, namespace, capsys):
    with sk.Subscriber(redis, Spiteful(), threads=1, namespace=namespace, settings=Settings.load(max_attempts=1)):
        batch = Publisher(redis, namespace=namespace).publish(months(1))
        batch.wait(60)
    batch.wait(60, progress=True)
    letters = DeadLetters(redis, namespace=namespace)
    shown = "".join(capsys.readouterr()) + repr(batch) + letters.list().to_string() + batch.failures().to_string()
    assert "You have won" in shown
    assert not controls(shown, but="\n\r")
    assert r"\x1b[2J" in shown
    given = os.environ | {"REDIS_URL": redis_url, "SCRAPERKIT_NAMESPACE": namespace}
    # An invalid message, with the unescaped error of an older version.
    redis.xadd(f"{namespace}:dead", {"message": EVIL + "\nforged line", "error": EVIL, "attempts": 1, "worker": EVIL})
    for words in (["dead", "list"], ["batch", "status", batch.id]):
        ended = subprocess.run([COMMAND, *words], env=given, capture_output=True, timeout=100, check=False)
        out = (ended.stdout + ended.stderr).decode()
        assert "You have won" in out, out
        assert not controls(out)
        assert not [line for line in out.splitlines() if line.startswith("forged")]


def test_the_errors_of_a_command_are_one_printable_line(tmp_path):
    given = os.environ | {"REDIS_URL": "", "SCRAPERKIT_NAMESPACE": "x"}
    for words in (["batch", "status", EVIL.replace("\0", "")], ["api", "--host", EVIL.replace("\0", "")]):
        given["SCRAPERKIT_DATA"] = str(tmp_path)
        ended = subprocess.run([COMMAND, *words], env=given, capture_output=True, timeout=200, check=False)
        out = ended.stderr.decode().removesuffix("\n")
        assert ended.returncode
        assert "You have won" in out, out
        assert not controls(out, but="\n")


def test_a_log_record_is_one_printable_line(monkeypatch):
    told = io.StringIO()
    monkeypatch.setattr(sys, "stderr", told)
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(logging.root, "level", logging.root.level)
    logs.log_to_stderr()
    try:
        raise ValueError(EVIL)
    except ValueError as error:
        logging.getLogger("scraperkit.x").exception("it said: %s\nforged", error)
    first, second, *rest = told.getvalue().splitlines()
    assert SHOWN in first
    assert first.endswith(r"\nforged")
    assert second == "Traceback (most recent call last):"
    assert len(rest) >= 2
    assert not controls(told.getvalue())


# The only places where the kit may write to a terminal, a log or a CSV file.
WRITERS = {
    "typer.echo": {"cli/terminal.py"},
    "logging.basicConfig": {"cli/logs.py"},
    "tqdm.write": {"text.py"},
    "sys.stderr.write": {"embedded/install.py"},
    "sys.stdout.write": {"embedded/install.py", "cli/supervisor.py"},
    "print": set(),
    "to_csv": {"timeseries/csv_files.py"},
}


def calls() -> Iterator[tuple[str, str]]:
    package = ROOT / "scraperkit"
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                yield called, path.relative_to(package).as_posix()
                yield called.rpartition(".")[2], path.relative_to(package).as_posix()


def test_only_these_places_write():
    found = list(calls())
    for name, places in WRITERS.items():
        written = {place for called, place in found if called == name}
        assert written <= places, f"{name} in {sorted(written - places)}: write it through {sorted(places)}"


FORMULAS = ["=1+1", "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "－1"]


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_is_a_formula_to_a_spreadsheet(text, tmp_path):
    frame = pd.DataFrame({text: [text, "plain", None], "quota": [-1.5, 2e-7, float("nan")]}, index=[text, "b", "c"])
    frame.index.name = text
    before = frame.copy()
    path = tmp_path / "funds.csv"
    write_csv(frame, path)
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    assert [row[:2] for row in rows[:2]] == [[f"'{printable(text)}"] * 2] * 2
    assert rows[2][:2] == ["b", "plain"]
    pd.testing.assert_frame_equal(frame, before)
    assert pd.read_csv(path)["quota"].tolist()[:2] == [-1.5, 2e-7]


def test_no_category_and_no_multi_index_label_is_a_formula(tmp_path):
    path = tmp_path / "funds.csv"
    write_csv(pd.DataFrame({"name": pd.Categorical(["=1", "b"])}, index=pd.CategoricalIndex(["@1", "b"])), path)
    assert path.read_text().splitlines() == [",name", "'@1,'=1", "b,b"]
    index = pd.MultiIndex.from_tuples([("=1", 2)], names=["+a", "b"])
    write_csv(pd.DataFrame([[1]], index=index, columns=pd.MultiIndex.from_tuples([("-x", "y")])), path)
    assert {"'=1", "'+a", "'-x"} <= set(path.read_text().replace("\n", ",").split(","))


@given(st.floats(allow_nan=False), st.integers())
def test_numbers_read_back_the_same(number, whole):
    assert float(safe_cell(repr(number))) == number
    assert int(safe_cell(str(whole))) == whole


def test_a_frame_of_prices_is_written_as_pandas_writes_it(tmp_path):
    days = pd.date_range("2022-01-03", periods=3, name="date")
    columns = pd.Index(["18993924000100", "00360305000104"], dtype="str", name="cnpj")
    prices = pd.DataFrame([[1.1, -2.0], [float("nan"), 1e-9], [3.0, 4.0]], index=days, columns=columns)
    write_csv(prices, tmp_path / "prices.csv")
    assert (tmp_path / "prices.csv").read_text() == prices.to_csv()
    empty = prices.iloc[:0]
    write_csv(empty, tmp_path / "empty.csv")
    assert (tmp_path / "empty.csv").read_text() == empty.to_csv()


def test_the_pricers_csv_holds_dates_and_numbers_only(redis, redis_url, namespace):
    quotes = [DailyQuote(CNPJ, pd.Timestamp(2022, 1, day).date(), quota=1.5, inflow=0.0) for day in (3, 4)]
    store(redis, namespace, quotes)
    with pricer(redis_url, namespace, FakeSearch()) as api:
        text = api.get(f"/v1/funds/{CNPJ}/prices?format=csv").text
    assert text == "date,quota\n2022-01-03,1.5\n2022-01-04,1.5\n"


def test_warnings_are_escaped_like_errors():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.warn(EVIL, ScraperKitWarning, stacklevel=1)
    assert str(caught[0].message) == SHOWN

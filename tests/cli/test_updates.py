"""``scraperkit update``: its output, its exit codes, and what an interruption leaves behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from support.fakes import FUND, FakeSite
from support.waiting import wait_until
from typer.testing import CliRunner

import scraperkit as sk
from scraperkit.cli import app, updates
from scraperkit.cli.exits import CONFIG, INTERRUPTED, SOFTWARE, UNAVAILABLE
from scraperkit.keys import Keys
from scraperkit.research import planning
from scraperkit.research.updating import News

COMMAND = str(Path(sys.executable).parent / "scraperkit")
A, DOTTED = FUND.cnpj, "18.993.924/0001-00"


@pytest.fixture
def offline(redis, redis_url, namespace, monkeypatch):
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("SCRAPERKIT_NAMESPACE", namespace)
    with sk.offline() as found:
        yield found
    for key in redis.scan_iter(Keys(f"{namespace}-offline").pattern, count=1000):
        redis.unlink(key)


@pytest.fixture
def update():
    """Return a function that runs the command in this process, where the test can advance time."""
    before = signal.getsignal(signal.SIGTERM)

    def run(*words: str, code: int = 0) -> tuple[str, str]:
        result = CliRunner().invoke(app, ["update", *words])
        assert result.exit_code == code, result.output
        return result.stdout, result.stderr

    yield run
    signal.signal(signal.SIGTERM, before)


def process(*words: str, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, "update", *words], env=os.environ | changes, capture_output=True, text=True, timeout=120, check=False
    )


def test_new_days_and_changes_are_shown_once_for_each_fund(offline, update, monkeypatch, redis):
    sk.prices(A, "2024-11", "2024-11", source="open_data")
    told, _ = update()
    new = sk.TimeSeriesReader(redis).prices(A, "2024-12")
    assert told == f"{DOTTED}: {len(new)} new days, the newest {new.index[-1]:%Y-%m-%d}\n"
    assert update() == (f"nothing new for 1 series, the newest day is {new.index[-1]:%Y-%m-%d}\n", "")
    assert update("--quiet") == ("", "")

    offline.replica.portal.restate("2024-12", share=1.0)
    with sk.OpenData() as market:
        market.download("2024-12", "2024-12")
    now = time.time
    monkeypatch.setattr(planning.time, "time", lambda: now() + 40 * 86_400)
    told, errors = update("--quiet")
    changes = sk.TimeSeriesReader(redis).changes()
    first, *values, rest = told.splitlines()
    assert first == f"{DOTTED}: {len(changes)} changed values"
    assert values == [
        f"  {DOTTED} {row.date:%Y-%m-%d} {row.metric}: {row.old:.12g} → {row.new:.12g}"
        for row in changes.head(20).itertuples()
    ]
    assert rest.startswith(f"  and {len(changes) - 20} more value")
    assert errors == "", "quiet says nothing of what will be fetched"


def test_only_the_first_twenty_of_many_changes_are_shown():
    days = pd.date_range("2022-01-03", periods=25).astype("datetime64[ms]")
    changes = pd.DataFrame(
        {"cnpj": A, "subclass": "", "date": days, "metric": "quota", "old": 1.0, "new": [float("nan")] + [2.0] * 24}
    )
    table = pd.DataFrame({"last": days[:1], "new_days": [0], "changed": [25], "problem": [""]}, index=[A])
    lines = list(updates._lines(News(table, changes)))
    assert lines[0] == f"{DOTTED}: 25 changed values"
    assert lines[1] == f"  {DOTTED} 2022-01-03 quota: 1 → withdrawn"
    assert len(lines) == 22
    assert lines[-1] == "  and 5 more values; TimeSeriesReader.changes() has all of them"


def test_a_namespace_can_be_chosen(offline, redis, namespace, update):
    sk.prices(FUND, "2023-11", "2023-11", source=FakeSite(), redis=redis)
    told, _ = update("--source", "cvm_pages", "--namespace", f"{namespace}-offline")
    assert "new days" in told
    other = process("--namespace", f"{namespace}-other")
    assert other.returncode == 1
    assert f"nothing is stored in namespace '{namespace}-other'; collect" in other.stderr


def test_an_unavailable_month_exits_with_1_and_the_reason(offline, redis):
    sk.prices(A, "2024-11", "2024-11", source="open_data")
    ended = process(A, "no such fund", "--source", "open_data")
    assert ended.returncode == 1, ended.stderr
    assert "scraperkit: no such fund: 'no such fund' matches no fund; nearest:" in ended.stderr
    assert "new days" in ended.stdout, "the rest is done"
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("words", "changes", "code"),
    [
        ((), {"REDIS_URL": "redis://127.0.0.1:9"}, UNAVAILABLE),
        (("18.993.924/0001-01",), {}, CONFIG),
        (("--source", "bloomberg"), {}, CONFIG),
        ((), {"SCRAPERKIT_THREADS": "none"}, CONFIG),
        (("--no-such-word",), {}, 2),
    ],
)
def test_exit_codes_distinguish_what_to_do(offline, redis, words, changes, code):
    sk.prices(FUND, "2023-11", "2023-11", source=FakeSite(), redis=redis)
    ended = process(*words, **changes)
    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_help_lists_the_exit_codes():
    told = re.sub(r"\s+", " ", process("--help").stdout)
    for code in (0, 1, CONFIG, UNAVAILABLE, SOFTWARE, INTERRUPTED):
        assert re.search(rf"\b{code}\b", told)


@pytest.mark.parametrize(("words", "code"), [((), INTERRUPTED), (("--every", "24"), 0)])
def test_sigterm_cancels_the_published_jobs(offline, redis, namespace, words, code):
    keys = Keys(f"{namespace}-offline")
    sk.prices(FUND, "2023-06", "2023-06", source=FakeSite(), redis=redis)
    offline.replica.latency = 3_600
    with subprocess.Popen(
        [COMMAND, "update", "--source", "cvm_pages", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert wait_until(lambda: redis.exists(keys.jobs) and redis.xpending(keys.jobs, keys.group)["pending"])
        running.send_signal(signal.SIGTERM)
        out, err = running.communicate(timeout=60)
    assert running.returncode == code, out + err
    assert "Traceback" not in err
    assert redis.xlen(keys.jobs) == redis.zcard(keys.retries) == redis.zcard(keys.workers) == 0


def test_update_every_repeats_until_it_is_stopped(offline, redis, namespace):
    with subprocess.Popen([COMMAND, "update", "--every", "0.001"], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout.readline() == "nothing is stored yet\n"
        sk.prices(A, "2024-11", "2024-11", source="open_data")
        while "new days" not in (line := running.stdout.readline()):
            assert line.startswith("nothing"), line
        assert running.stdout.readline().startswith("nothing new for 1 series")
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0

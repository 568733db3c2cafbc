"""JSON logs on the stderr of real processes, including failing ones."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import signal
import subprocess
import sys

import pytest
from support.pricer import CNPJ, COMMAND, command, service
from support.waiting import wait_until

import scraperkit as sk
from scraperkit.cli.exits import CONFIG, UNAVAILABLE
from scraperkit.health import Health

JSON = {"SCRAPERKIT_LOG_FORMAT": "json"}
ALWAYS = {"time", "level", "logger", "message"}


def lines(log: str) -> list[dict[str, str]]:
    """Read a log: every line is an object with the mandatory fields, as text."""
    found = [json.loads(line) for line in log.splitlines()]
    for line in found:
        assert set(line) >= ALWAYS, line
        assert set(line) <= ALWAYS | {"worker", "request_id", "exception"}, line
        assert all(isinstance(text, str) and text for text in line.values()), line
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
        now = dt.datetime.now(dt.UTC)
        assert abs(dt.datetime.fromisoformat(line["time"]) - now) < dt.timedelta(minutes=10)
    return found


def test_a_worker_logs_objects_with_its_name(environment, redis, namespace, site):
    given = environment | JSON
    with command("work", "--threads", "2", environment=given) as (process, name):
        with sk.CvmPages(site.url) as pages:
            fund = pages.find_fund(CNPJ)
        good = sk.Publisher(redis, namespace=namespace).publish(fund.months("2022-01", "2022-02"))
        assert good.wait(60, progress=False).done == 2
        redis.xadd(f"{namespace}:jobs", {"message": '{"document": "\x1b[2J\\nforged"}'})
        assert wait_until(lambda: redis.xlen(f"{namespace}:dead") == 1)
    told = lines(process.said)
    assert {line["worker"] for line in told if line["logger"] == "scraperkit.engine.worker"} == {name}
    assert any("is listening" in line["message"] for line in told)
    assert any(line["level"] == "WARNING" and "dead" in line["message"] for line in told)


def test_workers_and_the_parent_that_replaces_them_log_objects(environment, redis, namespace):
    with command("work", "--processes", "2", environment=environment | JSON) as (process, names):
        victim = Health.read(redis, namespace=namespace).workers[0]
        os.kill(victim.pid, signal.SIGKILL)
        pids = lambda: {card.pid for card in Health.read(redis, namespace=namespace).workers}  # noqa: E731
        assert wait_until(lambda: len(pids() - {victim.pid}) == 2)
    told = lines(process.said)
    assert any("ended by SIGKILL" in line["message"] and "worker" not in line for line in told)
    assert {line["worker"] for line in told if "worker" in line} >= set(names.split())  # a new one may have a new name


def test_the_pricer_logs_objects_and_no_key(redis_url):
    key = "a-key-that-nobody-must-read-in-a-log-0123456789"
    with service(redis_url, **JSON, SCRAPERKIT_API_KEYS=key) as running:
        asked = {"X-Request-ID": "mine", "X-API-Key": key}
        assert running.client.get("/v1/funds", headers=asked).status_code == 200
        assert running.client.get("/v1/funds", headers={"X-API-Key": f"{key}-wrong"}).status_code == 401
        assert running.client.get("/v1/funds", headers={"Authorization": f"Bearer {key}"}).status_code == 200
    told = lines(running.process.said)
    assert next(line["request_id"] for line in told if "GET /v1/funds" in line["message"]) == "mine"
    assert key not in running.process.said


@pytest.mark.parametrize("words", [("work",), ("api", "--port", "0"), ("work", "--processes", "2")])
class TestWhatEndsAProcess:
    def test_an_invalid_setting_is_logged(self, environment, words):
        ended = _end(words, environment | JSON | {"SCRAPERKIT_THREADS": "many"})
        assert ended.returncode == CONFIG
        assert "SCRAPERKIT_THREADS" in lines(ended.stderr)[-1]["message"]
        assert lines(ended.stderr)[-1]["level"] == "ERROR"

    def test_an_unknown_log_format_is_an_error(self, environment, words):
        ended = _end(words, environment | {"SCRAPERKIT_LOG_FORMAT": "xml"})
        assert ended.returncode == CONFIG
        assert "SCRAPERKIT_LOG_FORMAT: must be 'text' or 'json'" in ended.stderr


def test_a_refusal_of_redis_is_logged_without_the_password(environment):
    given = environment | JSON | {"REDIS_URL": "redis://someone:hush-hush@127.0.0.1:9"}
    ended = _end(("work",), given)
    assert ended.returncode == UNAVAILABLE
    assert "no Redis responds at" in lines(ended.stderr)[-1]["message"]
    assert "hush-hush" not in ended.stderr


_LOUD = """
import sys, threading, warnings
from scraperkit.cli.logs import log_to_stderr
from scraperkit.cli.terminal import echo
log_to_stderr()
warnings.warn("a warning\\nof two lines")
echo("said", err=True)
threading.Thread(target=lambda: 1 / 0, name="a-thread").start()
class Unruly:
    def __del__(self):
        raise OSError("in the end")
Unruly()
raise ValueError("nobody catches it")
"""


def test_warnings_and_uncaught_errors_are_logged():
    ended = subprocess.run([sys.executable, "-c", _LOUD], env=os.environ | JSON, capture_output=True, text=True)
    told = lines(ended.stderr)
    assert ended.returncode == 1
    assert any("a warning\nof two lines" in line["message"] for line in told)
    assert any(line["message"] == "said" for line in told)
    raised = {line["exception"].splitlines()[-1] for line in told if "exception" in line}
    assert raised == {"ZeroDivisionError: division by zero", "OSError: in the end", "ValueError: nobody catches it"}


def test_a_text_line_names_the_request():
    said = (
        "import logging; from scraperkit.cli.logs import log_to_stderr; from scraperkit.models import current_request;"
        "log_to_stderr(); logging.info('one'); current_request.set('order-7'); logging.info('two')"
    )
    told = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True).stderr.splitlines()
    assert [line.partition("INFO ")[2] for line in told] == ["one", "two [request order-7]"]


def _end(words: tuple[str, ...], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *words], env=environment, capture_output=True, text=True, timeout=120, check=False)

"""A pricer for tests: in its own process, or in a thread with a source that the test controls."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from scraperkit.api import create_app
from scraperkit.api.server import Server, listen, url_of
from scraperkit.config import Settings
from scraperkit.connection import connect
from scraperkit.errors import FundNotFound
from scraperkit.keys import Keys
from scraperkit.models import Fund
from scraperkit.replica import Replica
from scraperkit.timeseries.store import SeriesStore

COMMAND = str(Path(sys.executable).parent / "scraperkit")
CNPJ = "18993924000100"
FORMATTED = "18.993.924/0001-00"
STRANGER = "11.222.333/0001-81"  # a CNPJ that the replica does not know
LETTERS = "EXEMPL0A000100"


@dataclass
class FakeSearch:
    """A source that finds the funds given by a test, or fails as the test specifies."""

    funds: dict[str, Fund] = field(default_factory=lambda: {CNPJ: Fund(CNPJ, "132922", "Fundo Exemplo")})
    error: Exception | None = None
    asked: list[str] = field(default_factory=list)

    def find_fund(self, cnpj: str) -> Fund:
        self.asked.append(cnpj)
        if self.error is not None:
            raise self.error
        found = self.funds.get("".join(character for character in cnpj if character.isalnum()))
        if found is None:
            raise FundNotFound("the site knows no such fund", "http://site.example/search")
        return found


@dataclass
class GatedSearch(FakeSearch):
    """A source whose responses block until the test opens the gate."""

    gate: threading.Event = field(default_factory=threading.Event)
    inside: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def find_fund(self, cnpj: str) -> Fund:
        self.inside.release()
        assert self.gate.wait(300), "the test never opened the gate"
        return super().find_fund(cnpj)


@contextlib.contextmanager
def pricer(redis_url: str, namespace: str, source=None, **settings) -> Iterator[httpx.Client]:
    """Serve the pricer in a thread, and yield a client; both are closed afterwards."""
    with served(redis_url, namespace, source, **settings) as (url, _), httpx.Client(base_url=url, timeout=60) as client:
        yield client


@contextlib.contextmanager
def served(redis_url: str, namespace: str, source=None, **settings) -> Iterator[tuple[str, Server]]:
    """Serve the pricer in a thread; yield its address and the server, to stop it."""
    ready = threading.Event()
    app = create_app(Settings.load(namespace=namespace, **settings), redis_url=redis_url, source=source or FakeSearch())
    server = Server(app, ready.set)
    bound = listen("127.0.0.1", 0)
    url = url_of(bound)
    thread = threading.Thread(target=server.run, args=([bound],), name="pricer")
    thread.start()
    try:
        assert ready.wait(60)
        yield url, server
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive(), "the pricer did not stop"


@dataclass(frozen=True)
class Service:
    """A pricer and the offline site as processes, with the details that a test may need."""

    client: httpx.Client
    namespace: str
    redis_url: str
    site_url: str
    process: subprocess.Popen[str]


@contextlib.contextmanager
def service(redis_url: str, **environment: str) -> Iterator[Service]:
    """Run the offline site and a pricer as processes, in their own namespace, with rates from a local replica."""
    namespace = f"test-{uuid.uuid4().hex[:12]}"
    given = os.environ | {"REDIS_URL": redis_url, "SCRAPERKIT_NAMESPACE": namespace}
    given |= {"SCRAPERKIT_OPEN_DATA_URL": "http://127.0.0.1:9/"}  # never the live portal
    with (
        Replica.start() as rates,
        command("replica", "--port", "0", environment=given) as (site, site_url),
        command("api", "--port", "0", "--url", site_url, environment=given | of_rates(rates) | environment) as (
            process,
            url,
        ),
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        yield Service(client, namespace, redis_url, site_url, process)
    assert (site.returncode, process.returncode) == (0, 0)
    with connect(redis_url) as redis:
        for key in redis.scan_iter(Keys(namespace).pattern, count=1000):
            redis.unlink(key)


def of_rates(replica: Replica) -> dict[str, str]:
    """Return the settings that point a process at the rate services of a replica."""
    return {"SCRAPERKIT_SGS_URL": replica.sgs_url, "SCRAPERKIT_B3_URL": replica.b3_url}


@contextlib.contextmanager
def command(*words: str, environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a command until the block ends; yield its process, whose `said` gets the log, and the text after READY."""
    # A file, because an unread pipe fills up and then blocks the writer.
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen([COMMAND, *words], env=environment, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        line = process.stdout.readline()
        try:
            yield process, line.removeprefix("READY ").strip()
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
            log.seek(0)
            process.said = log.read()
            assert line.startswith("READY "), process.said
            assert "Traceback" not in process.said, process.said


def store(redis, namespace: str, quotes, fund: Fund | None = None) -> None:
    """Store quotes and a fund card, as a worker would."""
    writer = SeriesStore(redis, namespace)
    writer.save_fund(fund or Fund(CNPJ, "132922", "Fundo Exemplo"))
    writer.write(quotes)


def fields(response: httpx.Response) -> list[str]:
    """Return the fields that a problem document names."""
    assert response.headers["Content-Type"] == "application/problem+json", response.text
    problem = response.json()
    assert problem["status"] == response.status_code
    assert problem["type"].startswith("urn:scraperkit:problem:")
    assert problem["title"]
    assert problem["detail"]
    return [error["field"] for error in problem["errors"]]

"""Fixtures: workers that reach Redis through a proxy, workers as processes, and a server to kill."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest
from chaos.processes import Child, environment
from chaos.proxy import Proxy
from support.fakes import GatedSite
from support.workers import QUICK

from scraperkit.config import Settings
from scraperkit.connection import connect
from scraperkit.embedded.server import EmbeddedServer
from scraperkit.publisher import Publisher
from scraperkit.subscriber import Subscriber


@pytest.fixture
def channel(redis, namespace):
    return Publisher(redis, namespace=namespace, delivery="pubsub")


@pytest.fixture
def proxy(redis_url) -> Iterator[Proxy]:
    with Proxy(redis_url) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def own_server(tmp_path_factory) -> Iterator[EmbeddedServer]:
    """A server to kill."""
    with EmbeddedServer(tmp_path_factory.mktemp("own")) as server:
        yield server


@pytest.fixture
def subscriber(proxy, namespace) -> Iterator[Callable[..., Subscriber]]:
    """Make subscribers that reach Redis through the proxy, and stop them at the end."""
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(connect(proxy.url))

        def make(site: object, *, delivery="both", redis=client, name=None, **settings) -> Subscriber:
            given = Settings.load(namespace=namespace, **{**QUICK, **settings})
            one = stack.enter_context(Subscriber(redis, site, settings=given, delivery=delivery, name=name))
            if isinstance(site, GatedSite):  # a test that failed must not wait for its threads
                stack.callback(site.gate.set)
            return one

        yield make
        proxy.calm()


@pytest.fixture
def process(redis_url, namespace, tmp_path) -> Iterator[Callable[..., Child]]:
    """Start worker processes, and kill the remaining ones at the end."""
    with contextlib.ExitStack() as stack:

        def start(command: tuple[str, ...], *words: str, url: str = redis_url, **settings) -> Child:
            log = tmp_path / f"{len(list(tmp_path.glob('*.log')))}.log"
            given = environment(url, namespace, **{**QUICK, **settings})
            return stack.enter_context(Child((*command, *words), given, log))

        yield start

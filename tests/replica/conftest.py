"""Clients of a shared portal, and of one for tests that change it; and a plain session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests
from support.portals import Client

from scraperkit.replica import Replica


@pytest.fixture(scope="module")
def portal_replica() -> Iterator[Replica]:
    with Replica.start() as replica:
        yield replica


@pytest.fixture
def shared(portal_replica: Replica) -> Iterator[Client]:
    """Return a client of a replica that other tests share."""
    client = Client(portal_replica)
    yield client
    client.session.close()


@pytest.fixture
def client() -> Iterator[Client]:
    """Return a client of a replica of its own, for tests that change it."""
    with Replica.start() as replica:
        client = Client(replica)
        yield client
        client.session.close()


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session

"""Every example in a docstring is run, on a real Redis and the replica."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest
from support.fakes import FUND, FakeSite

import scraperkit

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(scraperkit.__path__, "scraperkit.")
    if not module.name.endswith((".keeper",))
)
PUBLIC = {name: getattr(scraperkit, name) for name in scraperkit.__all__}


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_return_what_they_show(name, redis, redis_url, namespace, monkeypatch):
    monkeypatch.setenv("REDIS_URL", redis_url)
    module = importlib.import_module(name)
    given = {"redis": redis, "namespace": namespace, "fund": FUND, "source": FakeSite(), **PUBLIC}
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    runner = doctest.DocTestRunner(optionflags=flags)
    told: list[str] = []
    for test in doctest.DocTestFinder(exclude_empty=True).find(module, extraglobs=None):
        test.globs = given | test.globs
        runner.run(test, out=told.append)
    assert not runner.failures, "".join(told)

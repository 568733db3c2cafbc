"""docs/metrics.md: its examples run in order, and its tables name existing columns and kinds."""

from __future__ import annotations

import re

import matplotlib as mpl
from matplotlib import pyplot as plt
from support.tree import ROOT

import scraperkit as sk
from scraperkit.keys import Keys
from scraperkit.metrics.verdicts import JUMP_KINDS
from scraperkit.sources.terms import INVENTED

mpl.use("Agg")
PAGE = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")


def test_the_examples_run_and_return_what_they_show(redis, redis_url, namespace, monkeypatch):
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("SCRAPERKIT_NAMESPACE", namespace)
    names: dict[str, object] = {}
    try:
        for code in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
            exec(code, names)
    finally:
        plt.close("all")
        sk.offline().stop()
        for key in redis.scan_iter(Keys(f"{namespace}-offline").pattern, count=1000):
            redis.delete(key)
    assert names["prices"].attrs["licence"] == names["cdi"].attrs["licence"] == INVENTED
    assert f"# {names['index'].attrs['adjusted']}" in PAGE
    known = names["table"]
    told = set(re.findall(r"`([a-z_]+)`", PAGE.partition("| column of")[2].partition("\n\n")[0]))
    assert told - {"summary"} <= {*known.columns, "windows"}
    assert {"return_2022", "sharpe", "real_return"} < set(known.columns)


def test_every_kind_of_jump_is_explained():
    rows = re.findall(r"\| `([a-z -]+)` \|$", PAGE, flags=re.MULTILINE)
    assert set(rows) == set(JUMP_KINDS)
    docstring = sk.metrics.jumps.__doc__
    assert all(f"``{kind}``" in docstring for kind in JUMP_KINDS)

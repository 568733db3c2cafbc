"""docs/rates.md and the README's section on rates: their examples run, and the table lists what the kit knows."""

from __future__ import annotations

import re

import pytest
from support.tree import ROOT

from scraperkit.sources.rates.known import KNOWN_RATES

PAGE = (ROOT / "docs" / "rates.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Rates\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("text", [PAGE, README], ids=["page", "readme"])
def test_the_examples_run(text, services, redis_url, monkeypatch):
    monkeypatch.setenv("REDIS_URL", redis_url)
    names: dict[str, object] = {}
    try:
        for code in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
            exec("import scraperkit as sk\n" + code, names)
    finally:
        if "kit" in names:
            names["kit"].stop()
    cdi = names["cdi"]
    assert len(cdi) > 1000
    if text is PAGE:
        live = cdi.attrs["source"].partition(", in place of ")[2]
        told = {name: cdi.attrs[name] for name in ("name", "kind", "unit")} | {"source": live}
        assert f"# {str(told).removesuffix('}')}, 'licence': ..., 'fetched_to': ...}}" in text
        assert list(cdi.attrs) == [*told, "licence", "fetched_to"]


def test_the_table_lists_the_known_rates():
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE, flags=re.MULTILINE)
    told = {name: tuple(cells.split(" | ")) for name, cells in rows}
    assert told == {
        rate.name: (
            rate.title,
            rate.kind,
            rate.unit,
            f"SGS {rate.code}" if rate.service == "sgs" else "B3",
            str(rate.first.year),
        )
        for rate in KNOWN_RATES.values()
    }

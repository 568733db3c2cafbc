"""What schemathesis cannot know about the pricer's fields: their formats, and which depend on each other."""

from __future__ import annotations

import datetime as dt

import schemathesis
from hypothesis import strategies as st

from scraperkit.models import today

KNOWN = ["18993924000100", "99101011000125", "EXEMPL0A000100", "9Z8Y7X6W01DE54"]
days = st.dates(dt.date(1960, 1, 1), dt.date(2060, 1, 1))

schemathesis.openapi.format(
    "cnpj", st.sampled_from([*KNOWN, "18.993.924/0001-00", "9z.8y7.x6w/01de-54", "11222333000181"])
)
schemathesis.openapi.format(
    "series", st.sampled_from([*KNOWN, "18.993.924/0001-00", "99101035000184:b8mnp1726012800", "11222333000181"])
)
schemathesis.openapi.format("day", days.map(lambda day: f"{day:%Y-%m-%d}") | days.map(lambda day: f"{day:%Y-%m}"))
schemathesis.openapi.format("fund-name", st.sampled_from(["aroeira", "ipê amarelo", "açaí 2030", "no such fund"]))
schemathesis.openapi.format("iso-day", days.map(str))
schemathesis.openapi.format("any-day", days.map(str) | days.map(lambda day: f"{day:%d/%m/%Y}"))
schemathesis.openapi.format("reais", st.integers(1, 10**14).map(lambda cents: f"{cents // 100}.{cents % 100:02d}"))


@schemathesis.hook
def filter_body(context, body) -> bool:
    """Leave out orders for months that no fund has: a schema cannot relate two fields, or today."""
    given = [body.get(name) for name in ("from_date", "to_date")] if isinstance(body, dict) else []
    if not given or any(month is not None and not isinstance(month, str) for month in given):
        return True
    first, last = (f"{month[3:]}-{month[:2]}" if "/" in (month or "") else month or "2022-06" for month in given)
    return first <= last and last >= "2022-05" and first <= f"{today():%Y-%m}"


@schemathesis.hook
def filter_query(context, query) -> bool:
    """Leave out windows that end before they begin."""
    start, end = (query or {}).get("start"), (query or {}).get("end")
    if not isinstance(start, str) or not isinstance(end, str):
        return True
    # An end that is a month includes all of it.
    return start <= end or start[:7] == end[:7] == end

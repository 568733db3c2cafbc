"""``/v1/funds/quotes/{document}``: the quota of a day, and how many units an investment buys."""

from __future__ import annotations

import datetime as dt
from decimal import ROUND_DOWN, Context, Decimal
from typing import Annotated, Any, cast

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from scraperkit.api.backend import Backend
from scraperkit.api.fields import AnyDay, Money, SeriesInPath
from scraperkit.api.problems import ProblemError
from scraperkit.api.running import TheRunning
from scraperkit.api.schemas import Quote, SubclassQuotes
from scraperkit.models import today
from scraperkit.timeseries.frames import window
from scraperkit.timeseries.rows import StoredSample, day_of

router = APIRouter(prefix="/v1/funds", tags=["prices"])
ROUNDING = "quotas: 8 decimals, rounded down; nothing else is rounded"
_PLACES = Decimal("1e-8")
# More digits than any product or difference of such figures has, so that nothing is rounded silently.
_EXACT = Context(prec=400, rounding=ROUND_DOWN)


class QuotedDay(BaseModel):
    """The day, and the amount to invest."""

    model_config = ConfigDict(extra="forbid")

    date: AnyDay | None = Field(None, description="YYYY-MM-DD; DD/MM/YYYY is also accepted; default: today in Brazil")
    investment: Money | None = Field(None, description="reais, with a point: 1000.50")


@router.get(
    "/quotes/{document:series}",
    summary="A day's quota, and how many units an investment buys",
    response_model=Quote | SubclassQuotes,
)
async def quote(
    document: SeriesInPath, asked: Annotated[QuotedDay, Query()], running: TheRunning
) -> Quote | SubclassQuotes:
    """Return the quota of that day, or else the last one before it, with its day.

    All figures are exact decimals: the quota is the shortest text of the stored number; `quotas` has 8 decimals,
    rounded down; `cash_left` is exact. If only the subclasses of a CNPJ have figures up to that day, the quota of each
    is returned.
    """
    # The validators have made them a date and a Decimal.
    day = cast("dt.date | None", asked.date) or today()
    money = cast("Decimal | None", asked.investment)
    found, subclasses = await running.read(lambda: _last_quotas(running.backend, document, day))
    quotes = [_quote(series, day, money, sample) for series, sample in found.items()]
    if subclasses:
        return SubclassQuotes(document=document, stands_for=subclasses, quotes=quotes)
    return quotes[0]


def _quote(series: str, day: dt.date, money: Decimal | None, sample: StoredSample) -> Quote:
    found, quota = day_of(sample[0]), exact(sample[1])
    quotas = left = None
    if money is not None:
        if quota <= 0:
            raise ProblemError(
                "bad-input", "the quota of that day is not above 0, so nothing can be bought", field="investment"
            )
        quotas, left = buys(money, quota)
    return Quote(
        document=series,
        asked_for=day,
        day=found,
        is_day_asked_for=found == day,
        quota=plain(quota),
        investment=plain(money) if money is not None else None,
        quotas=plain(quotas) if quotas is not None else None,
        cash_left=plain(left) if left is not None else None,
        rounding=ROUNDING,
    )


def _last_quotas(backend: Backend, document: str, day: dt.date) -> tuple[dict[str, StoredSample], list[str]]:
    """Return the newest quota that is not after `day` of each series, and the subclasses that a CNPJ stands for."""
    rows = backend.rows
    found = {document: rows.newest_until(document, "quota", day)}
    subclasses: list[str] = []
    if found[document] is None and ":" not in document:
        subclasses = rows.stands_for([document], *window(None, day)).get(document, [])
        found = {name: rows.newest_until(name, "quota", day) for name in subclasses}
    quotas = {name: sample for name, sample in found.items() if sample is not None}
    if not quotas:
        raise ProblemError("no-quote", f"no quota is stored on or before {day}", field="date")
    return quotas, subclasses


def exact(value: Any) -> Decimal:
    """Return a stored number as the decimal of its shortest text.

    Examples
    --------
    >>> exact(0.1), exact(1e-05)
    (Decimal('0.1'), Decimal('0.00001'))
    """
    return Decimal(format(Decimal(repr(float(value))), "f"))


def buys(money: Decimal, quota: Decimal) -> tuple[Decimal, Decimal]:
    """Return how many units the money buys, 8 decimals rounded down, and the exact remainder.

    Examples
    --------
    >>> [plain(figure) for figure in buys(Decimal("1000"), Decimal("3"))]
    ['333.33333333', '0.00000001']
    """
    quotas = _EXACT.quantize(_EXACT.divide(money, quota), _PLACES)
    return quotas, _EXACT.subtract(money, _EXACT.multiply(quotas, quota))


def plain(number: Decimal) -> str:
    """Return a decimal as digits, without an exponent.

    Examples
    --------
    >>> plain(Decimal("1e-9"))
    '0.000000001'
    """
    return format(number, "f")

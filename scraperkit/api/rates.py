"""``/v1/rates/{name}``: a reference rate, such as CDI, day by day or month by month."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import Field

from scraperkit.api.fields import DayOrMonth, DaysAsked, RateName
from scraperkit.api.running import TheRunning
from scraperkit.api.schemas import RateSeries, RateValue
from scraperkit.sources.rates.collect import collect
from scraperkit.sources.rates.known import known
from scraperkit.sources.rates.series import span_of

router = APIRouter(prefix="/v1/rates", tags=["rates"])


class RateDays(DaysAsked):
    """Which days."""

    start: DayOrMonth | None = Field(
        None, description="first day, YYYY-MM-DD, or month, YYYY-MM; default: twelve months before the last day"
    )
    end: DayOrMonth | None = Field(None, description="last day or month, included; default: today")


@router.get("/{name}", summary="A reference rate: CDI, Selic, IPCA, IGP-M, dollar or Ibovespa")
async def rate(
    name: Annotated[RateName, Path(description="which rate")], asked: Annotated[RateDays, Query()], running: TheRunning
) -> RateSeries:
    """Return the published values of a window, oldest first; fetch those that are not stored yet.

    If the newest days cannot be fetched, the stored ones are returned, and `notes` says so.
    """
    known_rate, span, backend = known(name), span_of(asked.start, asked.end), running.backend
    redis = await running.read(lambda: backend.redis)
    found = await running.look_up(lambda: collect(known_rate, span, redis, backend.hasty_settings))
    return RateSeries(
        name=known_rate.name,
        title=known_rate.title,
        kind=known_rate.kind,
        unit=known_rate.unit,
        source=known_rate.source,
        values=[RateValue(date=day, value=value) for day, value in found.samples],
        notes=found.notes,
    )

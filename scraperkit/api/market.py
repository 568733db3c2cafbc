"""``/v1/market/{day}``: every series of a day, from the archive of the open data."""

from __future__ import annotations

import datetime as dt
import io
from typing import Annotated, Any, Literal, cast
from urllib.parse import urlencode

import pandas as pd
from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from scraperkit.api.backend import Backend
from scraperkit.api.fields import IsoDay, SeriesText
from scraperkit.api.problems import ProblemError
from scraperkit.api.running import TheRunning
from scraperkit.api.schemas import MarketPage, MarketRow
from scraperkit.errors import NotDownloaded
from scraperkit.models import METRICS, Month, today
from scraperkit.sources.open_data.reading import provisional_since
from scraperkit.sources.terms import ATTRIBUTION, attribution
from scraperkit.timeseries.csv_files import write_csv

router = APIRouter(prefix="/v1/market", tags=["market"])
_LICENCE = "https://opendatacommons.org/licenses/odbl/1-0/"
_MARKET_COLUMNS = ["document", "name", "kind", *METRICS, "flag"]
_CSV_EXAMPLE = (
    f"date,{','.join(_MARKET_COLUMNS)},provisional\n"
    "2024-12-30,18993924000100,FUNDO EXEMPLO,CLASSES - FIF,1.0012,1500000.0,12,0.0,1000.0,1500100.0,,False\n"
)


class MarketQuery(BaseModel):
    """A page of the day, and its format."""

    model_config = ConfigDict(extra="forbid")

    format: Literal["json", "csv"] = Field("json", description="a JSON object, or lines under a heading")
    limit: int = Field(1_000, ge=1, le=10_000, description="maximum number of series")
    after: SeriesText | None = Field(
        None, description="only series after this one; the `next` link of a page contains it"
    )


@router.get(
    "/{day}",
    summary="Every series of a day",
    response_model=MarketPage,
    responses={
        200: {
            "content": {"text/csv": {"schema": {"type": "string"}, "example": _CSV_EXAMPLE}},
            "description": "Sorted by series",
            "headers": {
                "Link": {
                    "schema": {"type": "string"},
                    "description": 'the licence, `rel="license"`, and the next page, `rel="next"`, if there is one',
                }
            },
        }
    },
)
async def market(
    day: Annotated[IsoDay, Path(description="YYYY-MM-DD")],
    asked: Annotated[MarketQuery, Query()],
    running: TheRunning,
) -> Response:
    """Return what the archive has for a day, a page at a time; nothing is fetched.

    No series means that nothing was published for the day. Figures of the newest five business days are `provisional`:
    funds may still report, and restate.
    """
    # The validator has made it a date.
    return await running.read(lambda: _respond(running.backend, cast("dt.date", day), asked))


def _respond(backend: Backend, day: dt.date, asked: MarketQuery) -> Response:
    try:
        frame = backend.market_on(day)
    except NotDownloaded:
        month = Month.of(day).iso
        way_out = f"`scraperkit market download --start {month} --end {month}` fetches it, if the portal has it"
        text = f"the pricer's archive has nothing for {month}; {way_out}"
        raise ProblemError("no-month", text, field="day") from None
    first = int(frame["document"].searchsorted(asked.after, side="right")) if asked.after else 0
    page = frame.iloc[first : first + asked.limit]
    names = backend.archive.names(page["document"].tolist())
    page = page.assign(name=[names.get(series, "") for series in page["document"]])[_MARKET_COLUMNS]
    more = first + len(page) < len(frame)
    following = _next(day, asked, page["document"].iloc[-1]) if more else None
    links = [
        *([f'<{_LICENCE}>; rel="license"'] if attribution() == ATTRIBUTION else []),
        *([f'<{following}>; rel="next"'] if following else []),
    ]
    form, media_type = (_json, "application/json") if asked.format == "json" else (_csv, "text/csv")
    body = form(day, page, len(frame), following)
    return Response(body, media_type=media_type, headers={"Link": ", ".join(links)} if links else None)


def _next(day: dt.date, asked: MarketQuery, last: str) -> str:
    form = {} if asked.format == "json" else {"format": asked.format}
    return f"/v1/market/{day}?{urlencode({**form, 'limit': asked.limit, 'after': last})}"


def _json(day: dt.date, page: pd.DataFrame, series: int, following: str | None) -> str:
    rows: list[dict[str, Any]] = [
        {str(name): None if pd.isna(value) else value for name, value in row.items()} for row in page.to_dict("records")
    ]
    return MarketPage(
        day=day,
        provisional=_is_provisional(day),
        series=series,
        rows=[MarketRow.model_validate(row) for row in rows],
        next=following,
        attribution=attribution(),
    ).model_dump_json()


def _csv(day: dt.date, page: pd.DataFrame, series: int, following: str | None) -> str:  # noqa: ARG001
    lines = page.assign(provisional=_is_provisional(day))
    lines.insert(0, "date", day.isoformat())
    text = io.StringIO()
    write_csv(lines.reset_index(drop=True), text)
    return text.getvalue()


def _is_provisional(day: dt.date) -> bool:
    return day >= provisional_since(today())

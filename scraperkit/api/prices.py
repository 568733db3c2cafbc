"""``/v1/funds/{document}/prices``: one figure of a fund, day by day, streamed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.responses import StreamingResponse

from scraperkit.api.fields import DaysAsked, Metric, SeriesInPath
from scraperkit.api.running import TheRunning
from scraperkit.models import COLUMNS
from scraperkit.timeseries.frames import window
from scraperkit.timeseries.rows import StoredSample, day_of

router = APIRouter(prefix="/v1/funds", tags=["prices"])
SAMPLES = 1_000  # in one read and one chunk of the response
STANDS_FOR = "Stands-For"
Samples = Sequence[StoredSample]


class Wanted(DaysAsked):
    """The days, the metric and the format."""

    metric: Metric = Field("quota", description="which figure of the page")
    format: Literal["json", "csv"] = Field("json", description="a JSON object, or lines `date,value` under a heading")


# With `stands_for`, a CNPJ's subclasses follow one another, and each price has a member or column `subclass`.
_EXAMPLE = '{"document":"18993924000100","metric":"quota","unit":"R$","prices":[{"date":"2022-01-03","value":1.0012}]}'
_CONTENT: dict[str, Any] = {
    "application/json": {
        "schema": {
            "type": "object",
            "required": ["document", "metric", "unit", "prices"],
            "properties": {
                "document": {"type": "string"},
                "metric": {"type": "string"},
                "unit": {"type": "string", "description": "R$ or people"},
                "stands_for": {
                    "type": "array",
                    "items": {"type": "string"},
                    "description": "only if the class has no figures on these days: its subclasses that have some; "
                    "their prices follow, one subclass after another",
                },
                "prices": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["date", "value"],
                        "properties": {
                            "date": {"type": "string", "format": "date"},
                            "value": {"type": "number"},
                            "subclass": {"type": "string", "description": "only with `stands_for`"},
                        },
                    },
                },
            },
        },
        "example": json.loads(_EXAMPLE),
    },
    "text/csv": {"schema": {"type": "string"}, "example": "date,quota\n2022-01-03,1.0012\n"},
}
_HEADERS: dict[str, Any] = {
    STANDS_FOR: {
        "schema": {"type": "string"},
        "description": "only if a CNPJ stands for its subclasses: these, each as CNPJ:SUBCLASS; CSV then has the column"
        " `subclass` after the date",
    }
}


@router.get(
    "/{document:series}/prices",
    summary="One figure of a fund, day by day",
    response_class=StreamingResponse,
    responses={200: {"content": _CONTENT, "description": "Streamed, the oldest day first", "headers": _HEADERS}},
)
async def prices(document: SeriesInPath, wanted: Annotated[Wanted, Query()], running: TheRunning) -> StreamingResponse:
    """Stream the stored days as they are read: memory does not grow with their number.

    A CNPJ is the class's own series. If only its subclasses have figures on these days, it stands for all of these.
    """
    first, last = window(wanted.start, wanted.end)

    async def read(series: str, first: int) -> Samples:
        return await running.read(lambda: running.backend.rows.samples(series, wanted.metric, first, last, SAMPLES))

    # Read before the response begins, so that an error still has its status.
    samples = await read(document, first)
    subclasses: list[str] = []
    if not samples and ":" not in document:
        found = await running.read(lambda: running.backend.rows.stands_for([document], first, last))
        subclasses = found.get(document, [])

    async def chunks() -> AsyncIterator[tuple[str, Samples]]:
        for series in subclasses or [document]:
            some = await read(series, first) if subclasses else samples
            while some:
                yield series, some
                some = await read(series, some[-1][0] + 1) if len(some) == SAMPLES else ()

    form, media_type = (_json, "application/json") if wanted.format == "json" else (_csv, "text/csv")
    headers = {STANDS_FOR: ", ".join(subclasses)} if subclasses else None
    return StreamingResponse(
        form(document, wanted.metric, subclasses, chunks()), media_type=media_type, headers=headers
    )


async def _json(
    document: str, metric: str, subclasses: list[str], chunks: AsyncIterator[tuple[str, Samples]]
) -> AsyncIterator[str]:
    head: dict[str, Any] = {"document": document, "metric": metric, "unit": COLUMNS[metric].unit}
    if subclasses:
        head["stands_for"] = subclasses
    between = json.dumps(head)[:-1] + ', "prices": [\n'
    async for series, samples in chunks:
        more = f', "subclass": "{_subclass(series)}"' if subclasses else ""
        days = (f'{{"date": "{day}", "value": {value}{more}}}' for day, value in _texts(metric, samples))
        yield between + ",\n".join(days)
        between = ",\n"
    yield ("" if between == ",\n" else between) + "\n]}\n"


async def _csv(
    document: str,  # noqa: ARG001
    metric: str,
    subclasses: list[str],
    chunks: AsyncIterator[tuple[str, Samples]],
) -> AsyncIterator[str]:
    yield f"date,subclass,{metric}\n" if subclasses else f"date,{metric}\n"
    async for series, samples in chunks:
        between = f",{_subclass(series)}," if subclasses else ","
        yield "".join(f"{day}{between}{value}\n" for day, value in _texts(metric, samples))


def _subclass(series: str) -> str:
    return series.partition(":")[2]


def _texts(metric: str, samples: Samples) -> Iterable[tuple[str, str]]:
    """Yield days and values as text; a float as the shortest text that reads back the same."""
    whole = COLUMNS[metric].dtype == "Int64"
    for timestamp, value in samples:
        yield day_of(timestamp).isoformat(), str(round(value)) if whole else repr(value)

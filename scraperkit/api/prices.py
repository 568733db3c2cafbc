"""``/v1/funds/{document}/prices``: one figure of a fund, day by day, streamed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.responses import StreamingResponse

from scraperkit.api.fields import DayOrMonth, Metric, SeriesInPath
from scraperkit.api.running import TheRunning
from scraperkit.errors import ConfigError
from scraperkit.models import COLUMNS
from scraperkit.timeseries.frames import window
from scraperkit.timeseries.rows import StoredSample, day_of

router = APIRouter(prefix="/v1/funds", tags=["prices"])
SAMPLES = 1_000  # of one read, and of one chunk of the answer
Samples = Sequence[StoredSample]


class Wanted(BaseModel):
    """Which prices, and in which form."""

    model_config = ConfigDict(extra="forbid")

    start: DayOrMonth | None = Field(None, description="first day, YYYY-MM-DD, or month, YYYY-MM")
    end: DayOrMonth | None = Field(None, description="last day or month, included")
    metric: Metric = Field("quota", description="which figure of the page")
    format: Literal["json", "csv"] = Field("json", description="a JSON object, or lines `date,value` under a heading")

    @model_validator(mode="after")
    def _in_order(self) -> Wanted:
        try:
            window(self.start, self.end)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self


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
                "prices": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["date", "value"],
                        "properties": {"date": {"type": "string", "format": "date"}, "value": {"type": "number"}},
                    },
                },
            },
        },
        "example": json.loads(_EXAMPLE),
    },
    "text/csv": {"schema": {"type": "string"}, "example": "date,quota\n2022-01-03,1.0012\n"},
}


@router.get(
    "/{document:series}/prices",
    summary="One figure of a fund, day by day",
    response_class=StreamingResponse,
    responses={200: {"content": _CONTENT, "description": "Streamed, the oldest day first"}},
)
async def prices(document: SeriesInPath, wanted: Annotated[Wanted, Query()], running: TheRunning) -> StreamingResponse:
    """Return the days that are stored, as they are read: memory does not grow with their number."""
    first, last = window(wanted.start, wanted.end)

    async def read(first: int) -> Samples:
        return await running.read(lambda: running.backend.rows.samples(document, wanted.metric, first, last, SAMPLES))

    # Read before the answer begins, so that what goes wrong has a status.
    samples = await read(first)
    form, media_type = (_json, "application/json") if wanted.format == "json" else (_csv, "text/csv")
    chunks = _chunks(read, samples)
    return StreamingResponse(form(document, wanted.metric, chunks), media_type=media_type)


async def _chunks(read: Callable[[int], Awaitable[Samples]], samples: Samples) -> AsyncIterator[Samples]:
    while samples:
        yield samples
        if len(samples) < SAMPLES:
            return
        samples = await read(samples[-1][0] + 1)


async def _json(document: str, metric: str, chunks: AsyncIterator[Samples]) -> AsyncIterator[str]:
    head = {"document": document, "metric": metric, "unit": COLUMNS[metric].unit}
    between = json.dumps(head)[:-1] + ', "prices": [\n'
    async for samples in chunks:
        yield between + ",\n".join(f'{{"date": "{day}", "value": {value}}}' for day, value in _texts(metric, samples))
        between = ",\n"
    yield ("" if between == ",\n" else between) + "\n]}\n"


async def _csv(document: str, metric: str, chunks: AsyncIterator[Samples]) -> AsyncIterator[str]:  # noqa: ARG001
    yield f"date,{metric}\n"
    async for samples in chunks:
        yield "".join(f"{day},{value}\n" for day, value in _texts(metric, samples))


def _texts(metric: str, samples: Samples) -> Iterable[tuple[str, str]]:
    """Days and values as text; of a float the shortest that reads back the same."""
    whole = COLUMNS[metric].dtype == "Int64"
    for timestamp, value in samples:
        yield day_of(timestamp).isoformat(), str(round(value)) if whole else repr(value)

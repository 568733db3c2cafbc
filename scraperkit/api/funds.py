"""``/v1/funds``: request months, and list what is stored."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated
from urllib.parse import urlencode

import anyio
from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scraperkit.api.backend import Backend
from scraperkit.api.fields import SeriesInPath, SeriesText
from scraperkit.api.problems import KNOWN_ERRORS, ProblemError, problem_of, unfit
from scraperkit.api.running import Running, TheRunning
from scraperkit.api.schemas import (
    FundCard,
    FundCards,
    FundOrder,
    FundsOrder,
    Links,
    Order,
    OrderResult,
    OrderResults,
    Published,
)
from scraperkit.cnpj import format_series
from scraperkit.models import Fund, Month, current_request
from scraperkit.timeseries.frames import LAST
from scraperkit.timeseries.rows import RowReader, StoredFund

router = APIRouter(prefix="/v1/funds", tags=["funds"])


@router.post(
    "",
    status_code=202,
    summary="Request the months of one or several funds",
    response_model=Published | OrderResults,
    responses={207: {"model": OrderResults, "description": "Some funds' months were not published"}},
)
async def publish(order: Order, running: TheRunning, response: Response) -> Published | OrderResults:
    """Look the fund up at its source, and publish one message for each of its months.

    A message covers a CNPJ and a month, subclasses included. Workers of that source process it: `lacks_worker` says if
    there are none now. Safe to repeat: the same months are the same batch. Each of several `documents` has its own
    result; the status is 202 if all were published, and 207 if some were not.
    """
    if isinstance(order, FundOrder):
        return await _publish_one(running, order)
    results: list[OrderResult | None] = [None] * len(order.documents)

    async def put(place: int, document: str) -> None:
        results[place] = await _result(running, order, document)

    async with anyio.create_task_group() as group:
        for place, document in enumerate(order.documents):
            group.start_soon(put, place, document)
    found = [result for result in results if result is not None]
    failed = sum(result.problem is not None for result in found)
    response.status_code = 207 if failed else 202
    return OrderResults(results=found, published=len(found) - failed, failed=failed)


async def _result(running: Running, order: FundsOrder, document: str) -> OrderResult:
    try:
        published = await _publish_one(running, order.each(document))
    except ValidationError as error:
        problem = unfit(error.errors(), "document")
    except KNOWN_ERRORS as error:
        problem = problem_of(error)
    else:
        return OrderResult(document=document, status=202, published=published)
    return OrderResult(document=document, status=problem.status_code, problem=problem.problem)


async def _publish_one(running: Running, order: FundOrder) -> Published:
    # Redis first: if nothing can be published, the site need not be asked.
    await running.read(lambda: running.backend.redis)
    source = order.source or running.backend.default_source
    fund = await running.look_up(lambda: running.backend.find_fund(order.document, source, anew=order.force))
    return await running.read(lambda: _publish(running.backend, order, fund))


def _publish(backend: Backend, order: FundOrder, fund: Fund) -> Published:
    if order.from_date is None and fund.started_on is None:
        raise ProblemError("bad-input", "the site does not say when this fund began: give from_date", field="from_date")
    start = Month.parse_iso(order.from_date) if order.from_date else fund.first_month or fund.last_month
    end = Month.parse_iso(order.to_date) if order.to_date else fund.last_month
    if start > fund.last_month or end < (fund.first_month or end):
        raise ProblemError("bad-input", fund.lacks_months(), field="from_date")
    asked_by = current_request.get() or None
    requests = [replace(request, request_id=asked_by) for request in fund.months(start.iso, end.iso)]
    batch = backend.publisher(order.delivery).publish(requests, force=order.force)
    path = f"/v1/funds/{fund.cnpj}"
    return Published(
        fund=_cards(backend.rows, [fund.cnpj])[0],
        source=batch.keys.source,
        batch_id=batch.id,
        count=len(requests),
        receivers=batch.receivers,
        lacks_worker=batch.lacks_worker(),
        links=Links(
            fund=path,
            prices=f"{path}/prices",
            batch=f"/v1/batches/{batch.id}",
            events=f"/v1/batches/{batch.id}/events",
        ),
    )


class CardsQuery(BaseModel):
    """A page of the list."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(100, ge=1, le=1000, description="maximum number of items")
    after: SeriesText | None = Field(
        None, description="only series after this one; the `next` link of a page contains it"
    )


@router.get("", summary="Funds with stored series")
async def cards(page: Annotated[CardsQuery, Query()], running: TheRunning) -> FundCards:
    """Return a card for each, sorted by series: what is known about it, and which days are stored."""
    return await running.read(lambda: _page(running.backend.rows, page))


def _page(rows: RowReader, page: CardsQuery) -> FundCards:
    series = sorted(name for name in rows.stored(metrics=("quota",)) if name > (page.after or ""))
    shown = series[: page.limit]
    more = f"/v1/funds?{urlencode({'limit': page.limit, 'after': shown[-1]})}" if len(series) > len(shown) else None
    return FundCards(funds=_cards(rows, shown), next=more)


@router.get("/{document:series}", summary="One fund's record")
async def card(document: SeriesInPath, running: TheRunning) -> FundCard:
    """Return what is known about the fund, and which days are stored; for a CNPJ, those of the class itself."""
    return await running.read(lambda: _known_card(running.backend.rows, document))


def _known_card(rows: RowReader, document: str) -> FundCard:
    fund = rows.funds([document])[0]
    stored = rows.stored([document]) if ":" in document or not fund.card else {document}
    if not stored or (":" in document and document not in stored):
        rows.refuse([document])
    return _described(rows, [fund])[0]


def _cards(rows: RowReader, series: list[str]) -> list[FundCard]:
    return _described(rows, rows.funds(series))


def _described(rows: RowReader, funds: list[StoredFund]) -> list[FundCard]:
    stands_for = rows.stands_for([fund.series for fund in funds if not fund.days and ":" not in fund.series], 0, LAST)
    return [_card(fund, stands_for.get(fund.series, [])) for fund in funds]


def _card(fund: StoredFund, stands_for: list[str]) -> FundCard:
    return FundCard(
        document=fund.series,
        formatted=format_series(fund.series),
        stands_for=stands_for,
        name=fund.card.get("name", ""),
        pk=fund.card.get("pk", ""),
        status=fund.card.get("status", ""),
        started_on=fund.started_on,
        ended_on=fund.ended_on,
        first_day=fund.first,
        last_day=fund.last,
        days=fund.days,
    )

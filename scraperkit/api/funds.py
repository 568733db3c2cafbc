"""``/v1/funds``: have months scraped, and see what is stored."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlencode

import anyio
from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from redis.exceptions import ResponseError

from scraperkit.api.backend import Backend
from scraperkit.api.fields import Document, DocumentInPath
from scraperkit.api.problems import KNOWN, ProblemError, problem_of, unfit
from scraperkit.api.running import Running, TheRunning
from scraperkit.api.schemas import (
    FundCard,
    FundCards,
    FundOrder,
    FundsOrder,
    Links,
    Order,
    Published,
    Result,
    Results,
    iso_month,
)
from scraperkit.cnpj import format_cnpj
from scraperkit.errors import UnknownFund
from scraperkit.keys import Keys
from scraperkit.models import Fund
from scraperkit.timeseries.commands import DAY_MS, fund_of

router = APIRouter(prefix="/v1/funds", tags=["funds"])


@router.post(
    "",
    status_code=202,
    summary="Have the months of one fund, or of several, scraped",
    response_model=Published | Results,
    responses={207: {"model": Results, "description": "Of several documents, some were not published"}},
)
async def publish(order: Order, running: TheRunning, response: Response) -> Published | Results:
    """Look the fund up at the regulator's site, and publish one message for each of its months.

    Safe to repeat: the same months are the same batch. For several `documents`, each has a result of its own;
    the status is 202 if all were published, and 207 if some were not.
    """
    if isinstance(order, FundOrder):
        return await _publish_one(running, order)
    results: list[Result | None] = [None] * len(order.documents)

    async def put(place: int, document: str) -> None:
        results[place] = await _result(running, order, document)

    async with anyio.create_task_group() as group:
        for place, document in enumerate(order.documents):
            group.start_soon(put, place, document)
    found = [result for result in results if result is not None]
    failed = sum(result.problem is not None for result in found)
    response.status_code = 207 if failed else 202
    return Results(results=found, published=len(found) - failed, failed=failed)


async def _result(running: Running, order: FundsOrder, document: str) -> Result:
    try:
        published = await _publish_one(running, order.each(document))
    except ValidationError as error:
        problem = unfit(error.errors(), "document")
    except KNOWN as error:
        problem = problem_of(error)
    else:
        return Result(document=document, status=202, published=published)
    return Result(document=document, status=problem.status_code, problem=problem.problem)


async def _publish_one(running: Running, order: FundOrder) -> Published:
    # Redis first: where nothing can be published, the site need not be asked.
    await running.read(lambda: running.backend.redis)
    fund = await running.look_up(lambda: running.backend.find_fund(order.document, anew=order.force))
    return await running.read(lambda: _publish(running.backend, order, fund))


def _publish(backend: Backend, order: FundOrder, fund: Fund) -> Published:
    if order.from_date is None and fund.started_on is None:
        raise ProblemError("bad-input", "the site does not tell when this fund began: say from_date", field="from_date")
    start = iso_month(order.from_date) or fund.started_on
    this_month = f"{dt.date.today():%Y-%m}"
    requests = fund.months(start, max(iso_month(order.to_date) or this_month, str(start)[:7]))
    if not requests:
        began = f"{fund.started_on:%m/%Y}" if fund.started_on else "its first month"
        raise ProblemError("bad-input", f"the fund has no months there: it has {began} to today", field="from_date")
    batch = backend.publisher(order.delivery).publish(requests, force=order.force)
    path = f"/v1/funds/{fund.cnpj}"
    return Published(
        fund=read_cards(backend.redis, backend.keys, [fund.cnpj])[0],
        batch_id=batch.id,
        count=len(requests),
        receivers=batch.receivers,
        links=Links(
            fund=path,
            prices=f"{path}/prices",
            batch=f"/v1/batches/{batch.id}",
            events=f"/v1/batches/{batch.id}/events",
        ),
    )


class Page(BaseModel):
    """Which part of a list."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(100, ge=1, le=1000, description="how many at the most")
    after: Document | None = Field(None, description="only CNPJs after this one; `next` of a page has it")


@router.get("", summary="The funds that there are series of")
async def cards(page: Annotated[Page, Query()], running: TheRunning) -> FundCards:
    """Return their cards, by CNPJ: what is known of each, and which days are stored."""
    backend = running.backend
    return await running.read(lambda: _page(backend.redis, backend.keys, page))


def _page(redis: Any, keys: Keys, page: Page) -> FundCards:
    names = redis.execute_command("TS.QUERYINDEX", f"kit={keys.namespace}", "metric=quota")
    cnpjs = sorted(cnpj for cnpj in map(fund_of, names) if cnpj > (page.after or ""))
    shown = cnpjs[: page.limit]
    more = f"/v1/funds?{urlencode({'limit': page.limit, 'after': shown[-1]})}" if len(cnpjs) > len(shown) else None
    return FundCards(funds=read_cards(redis, keys, shown), next=more)


@router.get("/{document:cnpj}", summary="One fund's card")
async def card(document: DocumentInPath, running: TheRunning) -> FundCard:
    """Return what is known of the fund, and which days are stored."""
    backend = running.backend
    found = await running.read(lambda: read_cards(backend.redis, backend.keys, [document]))
    if not found:
        raise unknown(document)
    return found[0]


def unknown(document: str) -> UnknownFund:
    """Return the error for a fund of which nothing is stored."""
    return UnknownFund(f"nothing is stored for {format_cnpj(document)}: POST it to /v1/funds first")


def read_cards(redis: Any, keys: Keys, cnpjs: list[str]) -> list[FundCard]:
    """Return the cards of those of the funds that anything is stored of."""
    with redis.pipeline(transaction=False) as pipeline:
        for cnpj in cnpjs:
            pipeline.hgetall(keys.fund(cnpj))
            pipeline.execute_command("TS.INFO", keys.series(cnpj, "quota"))
        replies = pipeline.execute(raise_on_error=False)
    known = [{} if isinstance(reply, ResponseError) else reply for reply in replies]
    pairs = zip(cnpjs, known[0::2], known[1::2], strict=True)
    return [_card(cnpj, card, info) for cnpj, card, info in pairs if card or info]


def _card(cnpj: str, card: Mapping[str, str], info: Mapping[str, Any]) -> FundCard:
    days = int(info.get("totalSamples", 0))
    return FundCard(
        document=cnpj,
        formatted=format_cnpj(cnpj),
        name=card.get("name", ""),
        pk=card.get("pk", ""),
        status=card.get("status", ""),
        started_on=dt.date.fromisoformat(card["started_on"]) if card.get("started_on") else None,
        first_day=day_of(info["firstTimestamp"]) if days else None,
        last_day=day_of(info["lastTimestamp"]) if days else None,
        days=days,
    )


def day_of(timestamp: int) -> dt.date:
    """Return the day of a sample.

    Examples
    --------
    >>> day_of(1641168000000)
    datetime.date(2022, 1, 3)
    """
    return dt.date(1970, 1, 1) + dt.timedelta(days=int(timestamp) // DAY_MS)

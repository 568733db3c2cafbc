"""The bodies of requests and responses."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StrictBool, Tag, model_validator

from scraperkit.api.fields import LONGEST_CNPJ, Document, Figure, MonthText, SourceName, ToldMonth
from scraperkit.api.problems import Problem
from scraperkit.keys import DeliveryName

MOST_DOCUMENTS = 100


class _Order(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    from_date: MonthText | None = Field(None, description="first month, YYYY-MM or MM/YYYY; default: the fund's first")
    to_date: MonthText | None = Field(None, description="last month, YYYY-MM or MM/YYYY; default: this month")
    delivery: DeliveryName = Field(
        "stream", description="stream: stored until done; pubsub: delivered to current listeners only"
    )
    force: StrictBool = Field(False, description="scrape months again that are already done")
    source: SourceName | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.from_date and self.to_date and self.to_date < self.from_date:
            raise ValueError(f"to_date: {self.to_date} is before from_date, {self.from_date}")
        return self


class FundOrder(_Order):
    """A request for one fund's months."""

    document: Document


class FundsOrder(_Order):
    """A request for the same months of several funds."""

    documents: list[Annotated[str, Field(max_length=LONGEST_CNPJ)]] = Field(
        min_length=1,
        max_length=MOST_DOCUMENTS,
        description="CNPJs in any punctuation; each gets its own result",
        examples=[["18.993.924/0001-00", "12.ABC.345/01DE-35"]],
    )

    def each(self, document: str) -> FundOrder:
        """Return the order for one of them; raise ValidationError if its CNPJ is invalid."""
        return FundOrder(document=document, **self.model_dump(exclude={"documents"}))


def _which(body: Any) -> str:
    return "many" if isinstance(body, Mapping) and "documents" in body else "one"


Order = Annotated[
    Annotated[FundOrder, Tag("one")] | Annotated[FundsOrder, Tag("many")], Discriminator(_which), Field(title="Order")
]


class FundCard(BaseModel):
    """What is known and stored about a fund."""

    document: str = Field(
        description="CNPJ, 14 characters, or CNPJ:SUBCLASS",
        examples=["18993924000100", "18993924000100:Z2HFZ1734468953"],
    )
    formatted: str = Field(description="the same in the usual punctuation", examples=["18.993.924/0001-00"])
    stands_for: list[str] = Field(
        description="the subclasses that this CNPJ stands for, if only they have figures; otherwise empty",
        examples=[[]],
    )
    name: str = Field(description="as its source shows it; empty where not known")
    pk: str = Field(description="CVM's PK_PARTIC; empty where not known", examples=["132922"])
    status: str = Field(description="as the site shows it", examples=["EM FUNCIONAMENTO NORMAL"])
    started_on: dt.date | None = Field(description="first day of the fund, where the site shows it")
    ended_on: dt.date | None = Field(description="last day of a fund that no longer operates, where known")
    first_day: dt.date | None = Field(description="day of the oldest quota stored")
    last_day: dt.date | None = Field(description="day of the newest quota stored")
    days: int = Field(description="number of stored quotas", ge=0)


class FundCards(BaseModel):
    """A page of fund cards, by series."""

    funds: list[FundCard]
    next: str | None = Field(description="address of the next page; null on the last one")


class Links(BaseModel):
    """Related paths on this server."""

    fund: str
    prices: str
    batch: str
    events: str


class Published(BaseModel):
    """The result of publishing one fund's months."""

    fund: FundCard
    source: str = Field(description="the source whose workers process them", examples=["cvm_pages", "open_data"])
    batch_id: str = Field(description="id of the batch; the same months form the same batch unless `force` is given")
    count: int = Field(description="messages in the batch, one a month", ge=0)
    receivers: int | None = Field(
        description="Pub/Sub: fewest subscribers that any message reached (0: some are lost); stream: null"
    )
    lacks_worker: str = Field(
        description="says that no worker of the source listens, and what to start; otherwise empty"
    )
    links: Links


class OrderResult(BaseModel):
    """The result for one of several documents: either `published` or `problem`."""

    document: str = Field(description="as it was sent")
    status: int = Field(description="the HTTP status that this document alone would have received", examples=[202, 404])
    published: Published | None = None
    problem: Problem | None = None


class OrderResults(BaseModel):
    """A result for each document, in the order sent."""

    results: list[OrderResult]
    published: int = Field(description="how many were published", ge=0)
    failed: int = Field(description="how many were not", ge=0)


class Failure(BaseModel):
    """One message of a batch that failed or was lost."""

    message_id: str
    document: str
    month: ToldMonth = Field(examples=["2022-12"])
    state: Literal["failed", "lost"]
    error: str


class Progress(BaseModel):
    """How many messages of a batch are in each state."""

    batch_id: str
    published: int = Field(ge=0)
    done: int = Field(ge=0)
    failed: int = Field(ge=0)
    lost: int = Field(ge=0)
    cancelled: int = Field(ge=0)
    not_offered: int = Field(ge=0, description="months that the site does not offer, or not yet")
    pending: int = Field(ge=0, description="waiting, running, or waiting for a retry")
    finished: bool = Field(description="whether nothing is pending")


class BatchReport(Progress):
    """A batch's progress and failures."""

    source: str = Field(description="the source whose workers process it", examples=["cvm_pages", "open_data"])
    lacks_worker: str = Field(
        description="says that messages wait and no worker listens, and what to start; otherwise empty"
    )
    explanation: str = Field(
        description="why messages failed or were lost, each reason with its count; otherwise empty"
    )
    failures: list[Failure] = Field(description="the first 100 messages that failed or were lost")


class Cancelled(Progress):
    """A batch after its cancellation."""

    now_cancelled: int = Field(ge=0, description="number of messages that this call cancelled")


class DeadLetter(BaseModel):
    """A message that failed permanently."""

    id: str = Field(examples=["1700000000000-0"])
    document: str = Field(description="empty if the message does not say")
    month: ToldMonth = Field(description="YYYY-MM; empty if the message does not say")
    error: str
    attempts: int = Field(ge=0)
    worker: str
    died_at: dt.datetime
    message: str = Field(description="as it was published")


class DeadLetterPage(BaseModel):
    """A page of dead letters, the oldest first."""

    dead: list[DeadLetter]
    next: str | None = Field(description="address of the next page; null on the last one")


class Retried(BaseModel):
    """A dead letter is in the job stream again."""

    retried: int = Field(description="1, or 0 if another client has already put it back", ge=0, le=1)


class Quote(BaseModel):
    """The quota of a day, and how many units an investment buys. All figures are exact decimals, as text."""

    document: str = Field(description="CNPJ, or CNPJ:SUBCLASS", examples=["18993924000100"])
    asked_for: dt.date = Field(description="the requested day")
    day: dt.date = Field(description="the day of the quota: the requested day, or the last one before it")
    is_day_asked_for: bool
    quota: str = Field(description="price of one unit in reais", examples=["1.23456789"])
    investment: str | None = Field(description="reais, as requested", examples=["1000.00"])
    quotas: str | None = Field(description="units that it buys: 8 decimals, rounded down", examples=["810.00007"])
    cash_left: str | None = Field(description="investment - quotas x quota, exactly", examples=["0.0000000035"])
    rounding: str = Field(description="how `quotas` is rounded")


class SubclassQuotes(BaseModel):
    """The quotas of the subclasses that a CNPJ stands for, since its class itself has none up to that day."""

    document: str = Field(description="CNPJ", examples=["18993924000100"])
    stands_for: list[str] = Field(description="the subclasses, each as CNPJ:SUBCLASS")
    quotes: list[Quote] = Field(description="one for each of them that has a quota")


class RateValue(BaseModel):
    """What was published for a day, or for the month that begins on it."""

    date: dt.date = Field(examples=["2022-01-03"])
    value: float = Field(description="as published", examples=[0.034749])


class RateSeries(BaseModel):
    """A reference rate, the oldest value first."""

    name: str = Field(examples=["cdi"])
    title: str = Field(examples=["CDI, interbank rate"])
    kind: Literal["rate a day", "rate a month", "level"] = Field(
        description="a rate a day accrues from its day to the next business day, a rate a month over its month"
    )
    unit: str = Field(description="`% a day`, `% a month`, `points` or `R$`", examples=["% a day"])
    source: str = Field(description="who publishes it", examples=["Banco Central do Brasil SGS 12"])
    values: list[RateValue]
    notes: list[str] = Field(description="remarks about these values, such as that the newest could not be fetched")


class FoundFund(BaseModel):
    """A fund, class or subclass that a search finds; what its source does not show is empty."""

    document: str | None = Field(description="CNPJ, or CNPJ:SUBCLASS", examples=["99101012000170"])
    formatted: str | None = Field(description="the same in the usual punctuation", examples=["99.101.012/0001-70"])
    name: str
    kind: str = Field(description="as the registry shows it", examples=["Multimercado"])
    status: str = Field(description="as the registry shows it", examples=["EM FUNCIONAMENTO NORMAL"])
    started_on: dt.date | None = Field(description="first day of the fund, where the registry shows it")


class FoundFunds(BaseModel):
    """What a search finds, the best match first."""

    funds: list[FoundFund]
    found: int = Field(ge=0, description="number of matches, shown or not; 0 if those shown only resemble the name")
    source: str = Field(description="what was searched", examples=["open_data", "cvm_pages"])
    as_of: dt.date | None = Field(description="day of the registry that was searched; null if the site was asked")
    attribution: str = Field(description="whose data they are")


class MarketRow(BaseModel):
    """One series on a day; figures in R$, `holders` in people, null where none was published."""

    document: str = Field(description="CNPJ, or CNPJ:SUBCLASS", examples=["18993924000100"])
    name: str = Field(description="as the registry has it; empty where not known")
    kind: str = Field(examples=["CLASSES - FIF"])
    quota: Figure
    net_worth: Figure
    holders: int | None
    inflow: Figure
    outflow: Figure
    portfolio: Figure
    flag: str = Field(description="why a quota is missing, or that a figure is negative; usually empty")


class MarketPage(BaseModel):
    """A page of the series of a day."""

    day: dt.date
    provisional: bool = Field(description="whether figures of this recent day may still be reported or restated")
    series: int = Field(ge=0, description="how many series the day has")
    rows: list[MarketRow]
    next: str | None = Field(description="address of the next page; null on the last one")
    attribution: str = Field(description="whose data they are")


class FundFigures(BaseModel):
    """Return and risk figures of one series. Fractions: 0.01 is 1 %. Null if there are too few days."""

    document: str = Field(description="CNPJ, or CNPJ:SUBCLASS", examples=["18993924000100"])
    days: int = Field(ge=0, description="days with a quota")
    first_day: dt.date | None = None
    last_day: dt.date | None = None
    first: Figure = Field(None, description="first quota, R$")
    last: Figure = Field(None, description="last quota, R$")
    cumulative_return: Figure = Field(None, description="from the first to the last quota; payouts do not count")
    volatility: Figure = Field(None, description="annualised")
    max_drawdown: Figure = Field(None, description="the deepest fall below an earlier quota, 0 or negative")
    missing_days: int = Field(ge=0, description="business days from the first to the last day without a quota")
    compared_from: dt.date | None = Field(None, description="first day that fund and benchmark share")
    compared_to: dt.date | None = Field(None, description="last day that fund and benchmark share")
    benchmark_return: Figure = Field(None, description="over the shared days")
    excess_return: Figure = Field(None, description="return over the shared days less the benchmark's")
    share_of_benchmark: Figure = Field(None, description="1.04 is 104 % of CDI")
    tracking_error: Figure = Field(None, description="annualised")
    information_ratio: Figure = None
    beta: Figure = None
    windows: int = Field(0, ge=0, description="number of windows of 12 months")
    windows_beaten: Figure = Field(None, description="share of windows in which the fund beat the benchmark")
    best_window: Figure = Field(None, description="the fund's highest return in 12 months")
    worst_window: Figure = Field(None, description="the fund's lowest return in 12 months")
    sharpe: Figure = Field(None, description="if the benchmark is a daily rate")
    real_return: Figure = Field(None, description="if the benchmark is a monthly rate, such as inflation")
    returns_by_year: dict[str, Figure] = Field(description="by calendar year; empty without a benchmark")


class RateFacts(BaseModel):
    """What a reference rate is."""

    name: str = Field(examples=["cdi"])
    title: str = Field(examples=["CDI, interbank rate"])
    kind: Literal["rate a day", "rate a month", "level"]
    unit: str = Field(examples=["% a day"])
    source: str = Field(description="who publishes it", examples=["Banco Central do Brasil SGS 12"])


class FundMetrics(BaseModel):
    """Return and risk figures of a fund, one entry for each series that its CNPJ stands for."""

    document: str = Field(description="CNPJ, or CNPJ:SUBCLASS", examples=["18993924000100"])
    stands_for: list[str] = Field(description="the subclasses, if only they have quotas on these days; otherwise empty")
    benchmark: RateFacts | None = Field(description="the benchmark; null without one")
    figures: list[FundFigures]
    notes: list[str] = Field(description="remarks about these figures, such as days whose quota is not a price")


class Alive(BaseModel):
    """The process responds."""

    status: Literal["alive"] = "alive"


class Ready(BaseModel):
    """Redis with TimeSeries responds, and workers are alive."""

    status: Literal["ready"] = "ready"
    workers: int = Field(ge=1, description="workers alive")
    waiting: int = Field(ge=0, description="messages that no worker has received yet")

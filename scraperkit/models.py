"""The kit's data types: a fund, a request to scrape one month of it, one day's figures, and news of them."""

from __future__ import annotations

import calendar
import datetime as dt
import functools
import re
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any, NamedTuple, Self, TypeVar

from dateutil import tz
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)
from pydantic.dataclasses import dataclass as validated_dataclass
from pydantic_core import to_json

from scraperkit.cnpj import format_series, normalize_cnpj, short_name
from scraperkit.errors import BadMessage, ConfigError, warn
from scraperkit.keys import DEFAULT_SOURCE, SOURCE_NAME
from scraperkit.text import in_words
from scraperkit.view import NotebookRepr, View

_Validated = TypeVar("_Validated")
_JOB_IDS = uuid.UUID("6ba7b812-9dad-11d1-80b4-00c04fd430c8")
PK_PARTIC = re.compile(r"[0-9]{1,12}")
_CANONICAL_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
MONTH_YEAR = re.compile(r"(0[1-9]|1[0-2])/((?:19|20)[0-9]{2})")
YEAR_MONTH = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])(?:-([0-9]{2}))?")
BRAZILIAN_DAY = re.compile(r"([0-9]{2})/([0-9]{2})/([0-9]{4})")
ISO_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
# The id that a caller of the pricer may give a request; safe in a header, a log and a key.
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# The request that this thread or task is working for, part of each line that it logs; empty if none is known.
current_request: ContextVar[str] = ContextVar("current_request", default="")
# Independent of the locale.
MONTH_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
END_OF_TIME = 4_102_444_800  # 2100, after the last month that a message may ask for


def now() -> dt.datetime:
    """Return the time in Brazil (São Paulo), wherever this machine is."""
    return dt.datetime.fromtimestamp(time.time(), tz.gettz("America/Sao_Paulo"))


def today() -> dt.date:
    """Return today's date in Brazil (São Paulo), wherever this machine is: the site has no later one."""
    return now().date()


def brazilian_date(text: str) -> dt.date:
    """Read ``DD/MM/YYYY``, as the site and callers in Brazil write a day.

    Raises
    ------
    ValueError
        If the text is not such a day.

    Examples
    --------
    >>> brazilian_date("30/12/2022")
    datetime.date(2022, 12, 30)
    """
    match = BRAZILIAN_DAY.fullmatch(text)
    if match is None:
        raise ValueError("must be a day (DD/MM/YYYY), for example 30/12/2022")
    return dt.date(int(match[3]), int(match[2]), int(match[1]))


class Month(NamedTuple):
    """A month of a year; months sort by time.

    Examples
    --------
    >>> month = Month.parse("12/2022")
    >>> str(month), month.iso, str(month.shift(1)), month.last_day
    ('12/2022', '2022-12', '01/2023', datetime.date(2022, 12, 31))
    """

    year: int
    month: int

    @classmethod
    def parse(cls, text: str) -> Month:
        """Read ``MM/YYYY``, the form in messages and pages.

        Raises
        ------
        ValueError
            If the text is not such a month.
        """
        match = MONTH_YEAR.fullmatch(text)
        if match is None:
            raise ValueError("must be a month (MM/YYYY), for example 12/2022")
        return cls(int(match[2]), int(match[1]))

    @classmethod
    def parse_iso(cls, text: str) -> Month:
        """Read ``YYYY-MM``, or the month of ``YYYY-MM-DD``.

        Raises
        ------
        ValueError
            If the text is not such a month or day.
        """
        match = YEAR_MONTH.fullmatch(text)
        if match is None:
            raise ValueError("must be a month (YYYY-MM), for example 2022-12")
        return cls.of(dt.date(int(match[1]), int(match[2]), int(match[3] or 1)))

    @classmethod
    def of(cls, day: dt.date) -> Month:
        """Return the month of a day."""
        return cls(day.year, day.month)

    @classmethod
    def given(cls, field: str, month: object) -> Month:
        """Read a month as a user gives it: ``"2022-01"``, a date, a Timestamp, a monthly or daily Period.

        Raises
        ------
        ConfigError
            If it is anything else, such as NaT; names the field.

        Examples
        --------
        >>> Month.given("start", dt.date(2022, 1, 31))
        Month(year=2022, month=1)
        """
        try:
            if isinstance(month, Month):
                return month
            # NaT is a date that does not equal itself. A Period of another frequency has other text, such as 2022Q1.
            if isinstance(month, dt.date) and month == month:
                return cls.of(month)
            return cls.parse_iso(str(month).partition("T")[0])
        except ValueError:
            raise ConfigError(f"{field}: {str(month)[:40]!r} is not a month; write it as '2022-01'") from None

    def shift(self, months: int) -> Month:
        """Return the month this many months later."""
        year, month = divmod(self.year * 12 + self.month - 1 + months, 12)
        return Month(year, month + 1)

    def until(self, last: Month) -> Iterator[Month]:
        """Yield the months from this one to `last`, both included."""
        month = self
        while month <= last:
            yield month
            month = month.shift(1)

    @property
    def iso(self) -> str:
        """The month as ``YYYY-MM``."""
        return f"{self.year:04d}-{self.month:02d}"

    @property
    def first_day(self) -> dt.date:
        """The first day of the month."""
        return dt.date(self.year, self.month, 1)

    @property
    def last_day(self) -> dt.date:
        """The last day of the month."""
        return dt.date(self.year, self.month, calendar.monthrange(self.year, self.month)[1])

    def __str__(self) -> str:
        return f"{self.month:02d}/{self.year}"


@functools.lru_cache(maxsize=4_096)
def iso_month(month_year: str) -> str:
    """Return ``MM/YYYY`` as ``YYYY-MM``; cached, since an engine calls it for every job."""
    return Month.parse(month_year).iso


class Column(NamedTuple):
    """Type, unit and meaning of a data frame column."""

    dtype: str
    unit: str
    meaning: str


#: Type, unit and meaning of each column of :meth:`scraperkit.TimeSeriesReader.quotes`.
COLUMNS: dict[str, Column] = {
    "cnpj": Column("str", "", "the fund, 14 characters"),
    "subclass": Column("str", "", "the subclass, if the figures are those of one; otherwise empty"),
    "date": Column("datetime64[ms]", "day", "the day of the figures"),
    "quota": Column("float64", "R$", "price of one unit (cota)"),
    "net_worth": Column("float64", "R$", "net assets of the fund (patrimônio líquido)"),
    "holders": Column("Int64", "people", "number of unit holders (cotistas)"),
    "inflow": Column("float64", "R$", "money paid in that day (captação)"),
    "outflow": Column("float64", "R$", "money redeemed that day (resgate)"),
    "portfolio": Column("float64", "R$", "value of the fund's portfolio (total da carteira)"),
}
METRICS: tuple[str, ...] = ("quota", "net_worth", "holders", "inflow", "outflow", "portfolio")


def _text_only(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("must be text in quotes")
    return value


# Requests of one fund share its strings, and those of one month the month's, so a long list of requests stays small.
@functools.lru_cache(maxsize=65_536)
def _digits(text: str) -> str:
    if text and not PK_PARTIC.fullmatch(text):
        raise ValueError("must be CVM's PK_PARTIC, 1 to 12 digits")
    return text


@functools.lru_cache(maxsize=4_096)
def _month_of_year(text: str) -> str:
    Month.parse(text)
    return text


def _uuid_text(text: str) -> str:
    if not text or _CANONICAL_UUID.fullmatch(text):
        return text
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise ValueError("must be a UUID, or omitted") from None


def _unix_time(seconds: float) -> float:
    if not 0 <= seconds < END_OF_TIME:
        raise ValueError("must be a time in seconds since 1970, not milliseconds, and before the year 2100")
    return seconds


def _only_a_fund(value: Any) -> Any:
    """Return the value if it is a fund, else None: the fund is not part of the wire format."""
    return value if isinstance(value, Fund) else None


def _explained(cls: type[_Validated]) -> type[_Validated]:
    """Make a class that Pydantic validates raise ``ConfigError``, in plain words, for its arguments."""
    validate = cls.__init__

    @functools.wraps(validate)
    def init(self: _Validated, *args: Any, **given: Any) -> None:
        try:
            validate(self, *args, **given)
        except ValidationError as error:
            raise ConfigError(_explain(error)) from None

    cls.__init__ = init  # type: ignore[method-assign, assignment]
    return cls


@_explained
@validated_dataclass(
    frozen=True,
    slots=True,
    kw_only=True,
    config=ConfigDict(extra="ignore", str_max_length=200, allow_inf_nan=False),
)
class ScrapeRequest:
    """The wire message: one month of one fund. Immutable, hashable by content.

    Parameters
    ----------
    document : str
        CNPJ of the fund, with or without punctuation; stored as 14 upper-case characters.
    fund_pk : str, optional
        CVM's ``PK_PARTIC``: digits. A source that needs it looks it up if it is omitted.
    month_year : str
        The month, as ``MM/YYYY``.
    source : str, optional
        The source to use; if omitted, the regulator's pages, ``cvm_pages``.
    message_id : str, optional
        A UUID. Derived from the four fields above if omitted, so that the same content is the same job.
    acked : bool
        ``True`` if the work was done elsewhere: workers ignore the message.
    batch_id : str, optional
        The batch of the message.
    published_at : float, optional
        Time of publication, in seconds since 1970 (UTC), before 2100.
    request_id : str, optional
        The request to the pricer for which it was published: 1 to 64 letters, digits and ``. _ -``.
    fund : Fund, optional
        The fund, set by :meth:`Fund.months`. It is not sent over the wire.

    Raises
    ------
    ConfigError
        If an argument is invalid; names all of these, never their values.

    Examples
    --------
    >>> request = ScrapeRequest(document="18.993.924/0001-00", fund_pk="132922", month_year="12/2022")
    >>> request.document, request.first_day
    ('18993924000100', datetime.date(2022, 12, 1))
    >>> ScrapeRequest.parse(request.to_json()) == request
    True
    """

    document: Annotated[str, BeforeValidator(_text_only), AfterValidator(normalize_cnpj)]
    fund_pk: Annotated[str, Field(coerce_numbers_to_str=True), AfterValidator(_digits)] = ""
    month_year: Annotated[str, AfterValidator(_month_of_year)]
    source: Annotated[str, Field(pattern=f"^{SOURCE_NAME}$"), AfterValidator(sys.intern)] = DEFAULT_SOURCE
    message_id: Annotated[str, AfterValidator(_uuid_text)] = ""
    acked: bool = False
    batch_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] | None = None
    published_at: Annotated[float, AfterValidator(_unix_time)] | None = None
    request_id: Annotated[str, Field(pattern=f"^{REQUEST_ID.pattern}$")] | None = None

    fund: Annotated[Any, BeforeValidator(_only_a_fund)] = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.message_id:
            content = f"{self.document}|{self.fund_pk}|{self.month_year}"
            if self.source != DEFAULT_SOURCE:
                content += f"|{self.source}"
            object.__setattr__(self, "message_id", str(uuid.uuid5(_JOB_IDS, content)))

    @staticmethod
    def parse(raw: bytes | str) -> ScrapeRequest:
        """Parse a wire message.

        Raises
        ------
        BadMessage
            If it is not a JSON object, or a field is invalid; the text names every such field, never its value.
        """
        try:
            return _REQUEST.validate_json(raw)
        except ValidationError as error:
            raise BadMessage(_explain(error)) from None
        except UnicodeError:
            raise BadMessage("the message is not UTF-8 text") from None

    def to_json(self, **changes: str | float) -> str:
        """Return the message in its wire format, with `changes` to its fields, which are not validated."""
        own = {name: value for name in _WIRE_FIELDS if (value := getattr(self, name)) != _OMITTED.get(name)}
        return to_json(own | changes).decode()

    @property
    def period(self) -> Month:
        """The requested month of a year."""
        return Month.parse(self.month_year)

    @property
    def year(self) -> int:
        """The requested year."""
        return self.period.year

    @property
    def month(self) -> int:
        """The requested month, 1 to 12."""
        return self.period.month

    @property
    def first_day(self) -> dt.date:
        """The first day of the requested month."""
        return self.period.first_day


_REQUEST = TypeAdapter(ScrapeRequest)
_WIRE_FIELDS = tuple(each.name for each in fields(ScrapeRequest) if each.compare)
# A message omits these values.
_OMITTED = {"fund_pk": "", "source": DEFAULT_SOURCE}


def _explain(error: ValidationError) -> str:
    parts = []
    for item in error.errors(include_url=False, include_input=False):
        name = ".".join(str(step) for step in item["loc"]) or "message"
        parts.append(f"{name}: {in_words(item)}")
    return "; ".join(parts)[:1000]


ACTIVE = "EM FUNCIONAMENTO NORMAL"  # the status of a fund that operates normally


@dataclass(frozen=True, slots=True)
class Fund(NotebookRepr):
    """A fund as the regulator's site describes it.

    Attributes
    ----------
    cnpj : str
        14 upper-case characters, no punctuation.
    pk : str
        CVM's ``PK_PARTIC``, part of the daily pages' address; empty if its source has none.
    name, status : str
        As the site shows them, in Portuguese.
    started_on : datetime.date or None
        First day of the fund, if the site shows it.
    ended_on : datetime.date or None
        Last day of the last month that the site offers for a fund that no longer operates; the site does not show the
        exact day. ``None`` for a fund that operates, or if no month is offered.
    source : str
        The source of its months.
    """

    cnpj: str
    pk: str = ""
    name: str = ""
    status: str = ""
    started_on: dt.date | None = None
    ended_on: dt.date | None = None
    source: str = DEFAULT_SOURCE

    @property
    def active(self) -> bool:
        """Whether the fund operates normally, according to the site."""
        return self.status.strip().upper() == ACTIVE

    @property
    def short_name(self) -> str:
        """The name in a legend's length, without its legal form; the punctuated CNPJ of a fund without a name.

        Examples
        --------
        >>> Fund("18993924000100", name="AROEIRA FUNDO DE INVESTIMENTO EM AÇÕES RESPONSABILIDADE LIMITADA").short_name
        'Aroeira Ações'
        """
        return short_name(self.name) or format_series(self.cnpj)

    @property
    def first_month(self) -> Month | None:
        """The month in which the fund began, if known."""
        return Month.of(self.started_on) if self.started_on is not None else None

    @property
    def last_month(self) -> Month:
        """The month in which the fund ended, if known; otherwise the current month in Brazil."""
        current = Month.of(today())
        return min(Month.of(self.ended_on), current) if self.ended_on is not None else current

    def months(self, start: str | dt.date | None = None, end: str | dt.date | None = None) -> list[ScrapeRequest]:
        """Return one request for each month from `start` to `end`, both included.

        Months before the fund's start, after its end and after the current month in Brazil are omitted: the site has no
        page for them. A message is for a whole fund, so the months of a subclass are those of its fund.

        Parameters
        ----------
        start : str, datetime.date, pandas.Timestamp or pandas.Period, optional
            ``"YYYY-MM"``; the month of `started_on` if omitted.
        end : str, datetime.date, pandas.Timestamp or pandas.Period, optional
            ``"YYYY-MM"``; the last month if omitted: that of `ended_on`, or the current one.

        Raises
        ------
        ConfigError
            If either is not a month, `end` is before `start`, or no start is known.

        Warns
        -----
        ScraperKitWarning
            If the fund has none of these months.

        Examples
        --------
        >>> fund = Fund("18993924000100", "132922")
        >>> [request.month_year for request in fund.months("2022-11", "2023-01")]
        ['11/2022', '12/2022', '01/2023']
        """
        if start is None and self.started_on is None:
            raise ConfigError(f"start: the site does not show when {self.cnpj} started; pass start='2022-01'")
        first = Month.given("start", self.started_on if start is None else start)
        last = self.last_month if end is None else Month.given("end", end)
        if first > Month.of(today()):
            raise ConfigError(f"start: {first.iso} is after the current month; the site has no page for it yet")
        if last < first and start is not None and end is not None:
            raise ConfigError(f"end: {last.iso} is before start, {first.iso}; give a later end")
        first, last = max(first, self.first_month or first), min(last, self.last_month)
        if last < first:
            warn(self.lacks_months())
        cnpj, _, subclass = self.cnpj.partition(":")
        whole = replace(self, cnpj=cnpj, name="") if subclass else self  # that name is the subclass's
        return [
            ScrapeRequest(document=cnpj, fund_pk=self.pk, month_year=str(month), source=self.source, fund=whole)
            for month in first.until(last)
        ]

    def lacks_months(self) -> str:
        """Return a sentence saying that the fund has no month in a period, and which months it has."""
        since = f"from {self.first_month.iso} " if self.first_month else ""
        return f"{format_series(self.cnpj)} has no month in this period: it has months {since}to {self.last_month.iso}"

    def _view(self) -> View:
        days = (("first day", self.started_on, "%Y-%m-%d"), ("last month", self.ended_on, "%Y-%m"))
        known = tuple((label, f"{day:{form}}") for label, day, form in days if day)
        facts = (("CNPJ", format_series(self.cnpj)), ("CVM's number", self.pk), ("status", self.status or "unknown"))
        return View("Fund", self.name or "unnamed", facts + known)


@dataclass(frozen=True, slots=True)
class DailyQuote:
    """One day of one fund, with the numbers exactly as the page shows them; ``None`` where it shows nothing.

    For the units and meanings of the six metrics, see :data:`COLUMNS`.
    """

    cnpj: str
    date: dt.date
    quota: float | None = None
    net_worth: float | None = None
    holders: int | None = None
    inflow: float | None = None
    outflow: float | None = None
    portfolio: float | None = None
    subclass: str = ""

    @property
    def series(self) -> str:
        """What the figures belong to: ``CNPJ``, or ``CNPJ:SUBCLASS``."""
        return f"{self.cnpj}:{self.subclass}" if self.subclass else self.cnpj

    def metrics(self) -> Iterator[tuple[str, float]]:
        """Yield name and value of each metric that the page showed."""
        for metric in METRICS:
            value = getattr(self, metric)
            if value is not None:
                yield metric, value


class Stored(NamedTuple):
    """News that the prices of one month of one series are stored and can be read.

    Attributes
    ----------
    cnpj : str
        14 characters.
    subclass : str
        Empty for the class itself.
    month : str
        As ``YYYY-MM``.
    days : int
        How many days of the month were written; 0 if all stored days were withdrawn.
    changed : int or None
        How many figures of the fund in this month differ from those stored before, or were withdrawn; for a fund with
        subclasses, the total. ``None`` if the writer did not compare, as in a bulk load.
    """

    cnpj: str
    subclass: str
    month: str
    days: int
    changed: int | None

    @property
    def series(self) -> str:
        """The series, as ``CNPJ`` or ``CNPJ:SUBCLASS``."""
        return f"{self.cnpj}:{self.subclass}" if self.subclass else self.cnpj

    @classmethod
    def of(cls, series: str, month: str, days: int, changed: int | None = None) -> Self:
        """Return the news of a month of a series, given as ``CNPJ`` or ``CNPJ:SUBCLASS``."""
        cnpj, _, subclass = series.partition(":")
        return cls(cnpj, subclass, month, days, changed)


def news(stored: Iterable[Stored]) -> bytes:
    """Return the message that announces these months; empty if there are none.

    Examples
    --------
    >>> news([Stored("18993924000100", "", "2022-01", 21, 0)])
    b'[{"cnpj":"18993924000100","subclass":"","month":"2022-01","days":21,"changed":0}]'
    """
    told = [
        {"cnpj": cnpj, "subclass": subclass, "month": month, "days": days, "changed": changed}
        for cnpj, subclass, month, days, changed in stored
    ]
    return to_json(told) if told else b""

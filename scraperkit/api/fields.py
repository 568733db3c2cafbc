"""The fields that callers may send, a type for each kind, and their error messages."""

from __future__ import annotations

import datetime as dt
import math
import re
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from fastapi import Path
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from starlette.convertors import Convertor, register_url_convertor

from scraperkit.cnpj import name_words, normalize_cnpj, normalize_series
from scraperkit.errors import ConfigError
from scraperkit.keys import SOURCE_NAME
from scraperkit.models import ISO_DAY, Month, brazilian_date
from scraperkit.sources.cvm_pages import LONGEST_NAME
from scraperkit.sources.rates.known import KNOWN_RATES, known
from scraperkit.timeseries.frames import window

LONGEST_CNPJ = 40
LONGEST_SERIES = 81
BIGGEST_INVESTMENT = Decimal(10) ** 12
_MONEY = re.compile(r"[0-9]{1,13}(\.[0-9]{1,2})?")
_MONTH = re.compile(r"^(?:(?:19|20)[0-9]{2}-(?:0[1-9]|1[0-2])|(?:0[1-9]|1[0-2])/(?:19|20)[0-9]{2})$")


class _SeriesConvertor(Convertor[str]):
    """A CNPJ in a path, slash included, and an optional subclass: %2F reaches the router as a slash."""

    regex = r"[^/]+(?:/[0-9A-Za-z]{4}-?[0-9]{2}(?::[^/]*)?)?"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("series", _SeriesConvertor())


def _day_text(text: str) -> str:
    try:
        window(text, None)
    except ValueError:
        raise ValueError("must be a day (YYYY-MM-DD), or a month (YYYY-MM)") from None
    return text


def _day(text: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text) if ISO_DAY.fullmatch(text) else brazilian_date(text)
    except ValueError:
        raise ValueError("must be a day (YYYY-MM-DD), for example 2022-12-30; DD/MM/YYYY is also accepted") from None


def _iso_day(text: str) -> dt.date:
    if not ISO_DAY.fullmatch(text):
        raise ValueError("must be a day (YYYY-MM-DD), for example 2022-12-30")
    return _day(text)


def iso_month(text: str) -> str:
    """Turn a month of a message, ``MM/YYYY``, into ``YYYY-MM``; return any other text unchanged.

    Examples
    --------
    >>> iso_month("12/2022"), iso_month("2022-12"), iso_month("")
    ('2022-12', '2022-12', '')
    """
    try:
        return Month.parse(text).iso
    except ValueError:
        return text


def _month(text: str) -> str:
    if not _MONTH.fullmatch(text):
        raise ValueError("must be a month (YYYY-MM), for example 2022-12; MM/YYYY is also accepted")
    return iso_month(text)


def _fund_name(text: str) -> str:
    if not name_words(text):
        raise ValueError("contains no word to search for; give part of a name")
    return text


def _rate_name(text: str) -> str:
    try:
        return known(text).name
    except ConfigError as error:
        raise ValueError(str(error).removeprefix("name: ")) from None  # the field's name differs here


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _money(text: str) -> Decimal:
    if not _MONEY.fullmatch(text) or not 0 < Decimal(text) <= BIGGEST_INVESTMENT:
        raise ValueError("must be reais like 1000.50: above 0, at most 10^12, no thousands separators")
    return Decimal(text)


Document = Annotated[
    str,
    Field(max_length=LONGEST_CNPJ, description="CNPJ of the fund, in any punctuation", examples=["18.993.924/0001-00"]),
    AfterValidator(normalize_cnpj),
    WithJsonSchema({"type": "string", "format": "cnpj", "maxLength": LONGEST_CNPJ}),
]
SeriesText = Annotated[
    str,
    Field(
        max_length=LONGEST_SERIES,
        description="CNPJ of the fund in any punctuation, or CNPJ:SUBCLASS",
        examples=["18.993.924/0001-00"],
    ),
    AfterValidator(normalize_series),
    WithJsonSchema({"type": "string", "format": "series", "maxLength": LONGEST_SERIES}),
]
SeriesInPath = Annotated[
    SeriesText,
    Path(
        description="CNPJ of the fund in any punctuation: the class's own series, or, where only its subclasses have "
        "figures, all of these; or CNPJ:SUBCLASS"
    ),
]
SourceName = Annotated[
    str,
    Field(
        pattern=f"^{SOURCE_NAME}$",
        description="where the figures come from: `cvm_pages`, `open_data` or a custom one; default: the pricer's",
        examples=["open_data"],
    ),
]
MonthText = Annotated[
    str,
    AfterValidator(_month),
    WithJsonSchema({"type": "string", "pattern": _MONTH.pattern, "examples": ["2022-01"]}),
]
ToldMonth = Annotated[str, AfterValidator(iso_month)]
Metric = Literal["quota", "net_worth", "holders", "inflow", "outflow", "portfolio"]
RateName = Annotated[str, AfterValidator(_rate_name), WithJsonSchema({"type": "string", "enum": list(KNOWN_RATES)})]
FundName = Annotated[
    str,
    Field(min_length=1, max_length=LONGEST_NAME),
    AfterValidator(_fund_name),
    WithJsonSchema(
        {
            "type": "string",
            "format": "fund-name",
            "minLength": 1,
            "maxLength": LONGEST_NAME,
            "examples": ["ipê amarelo"],
        }
    ),
]
# JSON has no NaN and no infinity.
Figure = Annotated[float | None, BeforeValidator(_finite)]
DayOrMonth = Annotated[
    str, AfterValidator(_day_text), WithJsonSchema({"type": "string", "format": "day", "examples": ["2022-01-31"]})
]
AnyDay = Annotated[
    str, AfterValidator(_day), WithJsonSchema({"type": "string", "format": "any-day", "examples": ["2022-12-30"]})
]
IsoDay = Annotated[
    str, AfterValidator(_iso_day), WithJsonSchema({"type": "string", "format": "iso-day", "examples": ["2022-12-30"]})
]
Money = Annotated[
    str, AfterValidator(_money), WithJsonSchema({"type": "string", "format": "reais", "examples": ["1000.00"]})
]
BatchId = Annotated[
    str, Path(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", description="from the response to POST")
]
LETTER_ID = r"^[0-9]{1,18}-[0-9]{1,18}$"
LetterId = Annotated[str, Path(pattern=LETTER_ID, description="from GET /v1/dead")]


class DaysAsked(BaseModel):
    """The days of a query; its base class."""

    model_config = ConfigDict(extra="forbid")

    start: DayOrMonth | None = Field(None, description="first day, YYYY-MM-DD, or month, YYYY-MM")
    end: DayOrMonth | None = Field(None, description="last day or month, included")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        try:
            window(self.start, self.end)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self

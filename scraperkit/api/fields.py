"""What callers may send, one type for each kind of field, and how a wrong one is told."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from typing import Annotated, Literal

from fastapi import Path
from pydantic import AfterValidator, Field, WithJsonSchema
from starlette.convertors import Convertor, register_url_convertor

from scraperkit.cnpj import normalize_cnpj, normalize_series
from scraperkit.keys import SOURCE_NAME
from scraperkit.models import MONTH_YEAR, brazilian_date
from scraperkit.sources.rates.known import KNOWN_RATES, known
from scraperkit.timeseries.frames import window

LONGEST_CNPJ = 40
LONGEST_SERIES = 81
BIGGEST_INVESTMENT = Decimal(10) ** 12
_MONEY = re.compile(r"[0-9]{1,13}(\.[0-9]{1,2})?")


class _SeriesConvertor(Convertor[str]):
    """A CNPJ in a path, maybe with a subclass, its own slash included: %2F reaches the router as a slash."""

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
        raise ValueError("must be a day as YYYY-MM-DD, or a month as YYYY-MM") from None
    return text


def _brazilian_date(text: str) -> dt.date:
    try:
        return brazilian_date(text)
    except ValueError:
        raise ValueError("must be a day as DD/MM/YYYY, for example 30/12/2022") from None


def _money(text: str) -> Decimal:
    if not _MONEY.fullmatch(text) or not 0 < Decimal(text) <= BIGGEST_INVESTMENT:
        raise ValueError("must be reais as 1000 or 1000.50: above 0, at most 10^12, no thousands marks")
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
        "figures, all of them; or CNPJ:SUBCLASS"
    ),
]
SourceName = Annotated[
    str,
    Field(
        pattern=f"^{SOURCE_NAME}$",
        description="where the figures come from: `cvm_pages`, `open_data` or one's own; the pricer's if left out",
        examples=["open_data"],
    ),
]
MonthText = Annotated[str, Field(pattern=f"^{MONTH_YEAR.pattern}$", examples=["01/2022"])]
Metric = Literal["quota", "net_worth", "holders", "inflow", "outflow", "portfolio"]
RateName = Annotated[
    str, AfterValidator(lambda text: known(text).name), WithJsonSchema({"type": "string", "enum": list(KNOWN_RATES)})
]
DayOrMonth = Annotated[
    str, AfterValidator(_day_text), WithJsonSchema({"type": "string", "format": "day", "examples": ["2022-01-31"]})
]
BrazilianDate = Annotated[
    str,
    AfterValidator(_brazilian_date),
    WithJsonSchema({"type": "string", "format": "dd/mm/yyyy", "examples": ["30/12/2022"]}),
]
Money = Annotated[
    str, AfterValidator(_money), WithJsonSchema({"type": "string", "format": "reais", "examples": ["1000.00"]})
]
BatchId = Annotated[
    str, Path(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", description="as the answer to POST names it")
]
LETTER_ID = r"^[0-9]{1,18}-[0-9]{1,18}$"
LetterId = Annotated[str, Path(pattern=LETTER_ID, description="as GET /v1/dead names it")]

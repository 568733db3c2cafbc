"""Checks of the exercises of ``00_tour``."""

from __future__ import annotations

from typing import Any

from scraperkit import metrics
from scraperkit.cnpj import normalize_cnpj
from scraperkit.lessons.answers import batch_of, unfinished
from scraperkit.lessons.lesson import Lesson
from scraperkit.models import Month
from scraperkit.timeseries.reader import TimeSeriesReader


def check_1(lesson: Lesson, answer: Any) -> str | None:
    """Check the CNPJ of the fund with the largest drawdown in 2022 and 2023."""
    if not isinstance(answer, str):
        return f"the answer is a CNPJ, as text; this is a {type(answer).__name__}."
    prices = TimeSeriesReader(lesson.redis).prices(start="2022-01", end="2023-12")
    falls = metrics.summary(prices)["max_drawdown"]
    try:
        cnpj = normalize_cnpj(answer)
    except ValueError:
        return "that is not a CNPJ: they are in the index of summary."
    if cnpj == falls.idxmax():
        return "that is the fund that fell least. Look at the sign of a drawdown."
    return None if cnpj == falls.idxmin() else "another fund fell further."


def check_2(lesson: Lesson, answer: Any) -> str | None:
    """Check a batch of the year 2021 of the first fund."""
    batch, hint = batch_of(answer, set(map(str, Month(2021, 1).until(Month(2021, 12)))))
    if batch is None:
        return hint
    if set(batch.jobs()["cnpj"]) != {lesson.cnpjs[0]}:
        return "the months are right, but not for the first fund, or not for it alone."
    return unfinished(batch)

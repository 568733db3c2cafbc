"""Checks of the exercises of ``08_news_live``."""

from __future__ import annotations

from typing import Any

from scraperkit.lessons.lesson import Lesson
from scraperkit.models import Stored

_FUND = "18993924000100"
_NEWS = [Stored(_FUND, "", month, 20, 0) for month in ("2022-02", "2022-11", "2021-12")]
_LISTENERS, _WORKERS, _MONTHS = 3, 2, 4
_EARLY, _LATE = {"2023-07", "2023-08", "2023-09"}, {"2023-10", "2023-11", "2023-12"}


def check_1(lesson: Lesson, answer: Any) -> str | None:  # noqa: ARG001
    """Check a function that returns the newest month of some news."""
    if isinstance(answer, str):
        return "that is a month; the answer is the function itself, without parentheses."
    if not callable(answer):
        return f"the answer is a function; this is a {type(answer).__name__}."
    found = answer(list(_NEWS))
    if found is None:
        return "the function returns nothing; end it with return."
    if found in (_NEWS[0].month, _NEWS[-1].month):
        return f"of {', '.join(stored.month for stored in _NEWS)} it returns {found}; they arrive in no fixed order."
    if answer(list(_NEWS[:1])) != _NEWS[0].month:
        return "it does not return the month of a single announcement; what does it do with the list?"
    return None if found == _NEWS[1].month else f"it returns {str(found)[:40]!r}; expected a month such as '2022-03'."


def check_2(lesson: Lesson, answer: Any) -> str | None:  # noqa: ARG001
    """Check how many announcements of four months three listeners receive."""
    if isinstance(answer, bool) or not isinstance(answer, int):
        return f"the answer is a whole number; this is a {type(answer).__name__}."
    if answer == _MONTHS:
        return "that is what one listener receives. Does the second one receive less?"
    if answer in (_WORKERS * _MONTHS, _LISTENERS * _WORKERS * _MONTHS):
        return "each month is stored by one worker only, whichever it is."
    return None if answer == _LISTENERS * _MONTHS else "not quite: who gets a copy of each message?"


def check_3(lesson: Lesson, answer: Any) -> str | None:
    """Check that a late listener knows all months, and that they are stored."""
    if isinstance(answer, str) or not hasattr(answer, "__iter__"):
        return f"the answer is a set of months such as '2023-07'; this is a {type(answer).__name__}."
    months = {str(month) for month in answer}
    if months == _LATE:
        return "that is what you heard. What landed before is stored: read it."
    if months == _EARLY:
        return "that is what you read. Keep the listener open while the other three months land."
    if months != _EARLY | _LATE:
        wrong = ", ".join(sorted(months ^ (_EARLY | _LATE))[:6])
        return f"these months are missing or unexpected: {wrong}."
    missing = (_EARLY | _LATE) - set(lesson.redis.hkeys(lesson.keys.months(_FUND)))
    return f"{min(missing)} is not stored; have a worker fetch it." if missing else None

"""Beginning, checks and end of each lesson; imported by the package root.

A lesson has its own namespace, new for each run, so that two runs can share a Redis::

    import scraperkit as sk

    lesson = sk.lessons.begin("01_publish_batches")
    redis, source = lesson.redis, lesson.source
    ...
    lesson.check(1, answer)
    lesson.end()

The checks of a lesson's exercises are in a module of this package, named by :data:`LESSONS`: a function
``check_<number>(lesson, answer)`` for each, which returns ``None`` if the answer is right, and a hint otherwise.
"""

from scraperkit.lessons.lesson import LESSONS, Lesson, begin
from scraperkit.lessons.verdict import Verdict

__all__ = ["LESSONS", "Lesson", "Verdict", "begin"]


def __dir__() -> list[str]:
    return __all__

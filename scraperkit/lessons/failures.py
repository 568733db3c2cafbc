"""Tools and checks of ``05_when_things_fail``: a Redis to kill, a death in the middle of work, marks on a timeline."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from scraperkit.batch import Batch
from scraperkit.deadletters import DeadLetters
from scraperkit.engine.hosting import WorkerProcess
from scraperkit.lessons.answers import unfinished
from scraperkit.lessons.lesson import Lesson
from scraperkit.lessons.own_redis import own_redis
from scraperkit.lua.state import Claim
from scraperkit.models import Month

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "check_1",
    "check_2",
    "check_3",
    "correct_pages",
    "deaths",
    "freeze_at_work",
    "in_hand",
    "kill_at_work",
    "mark",
    "outcomes",
    "own_redis",
    "pending",
]

_ALARM = "#D55E00"
# Colours of scraperkit.plot, and a hatch, so that colour is not the only mark.
_LOOKS = {"done": ("#0072B2", ""), "failed": ("#E69F00", "//"), "lost": ("#D55E00", "xx"), "pending": ("#BBBBBB", "")}


def freeze_at_work(lesson: Lesson, worker: WorkerProcess, batch: Batch, after: int = 6) -> pd.Timestamp:
    """Freeze a worker process once `after` jobs of a batch are done and it holds more; return the time.

    Raises
    ------
    TimeoutError
        If that does not happen in time.
    """

    def caught() -> bool:
        worker.freeze()  # first: a running worker's jobs change between two looks
        held = in_hand(lesson, worker, batch)
        # Redis has processed all that the worker sent, and none of its pages is stored yet.
        if held and in_hand(lesson, worker, batch) == held and not _any_stored(lesson, batch, held):
            return True
        worker.thaw()
        return False

    lesson.wait_until(lambda: batch.status().done >= after)
    lesson.wait_until(caught)
    return pd.Timestamp.now("UTC")


def kill_at_work(lesson: Lesson, worker: WorkerProcess, batch: Batch, after: int = 6) -> pd.Timestamp:
    """Kill a worker process (SIGKILL) once `after` jobs are done and it holds more; return the time.

    Raises
    ------
    TimeoutError
        If that does not happen in time.
    """
    when = freeze_at_work(lesson, worker, batch, after)
    worker.kill()
    return when


def correct_pages(lesson: Lesson, worker: WorkerProcess, batch: Batch, factor: float = 1.01) -> pd.DataFrame:
    """Have the site correct the months that a frozen worker holds, once it has sent the pages that she requested.

    Returns
    -------
    pandas.DataFrame
        The prices before and after, in reais: index ``date``, columns ``old`` and ``new``.

    Raises
    ------
    TimeoutError
        If the pages are not sent in time.
    """
    site: Any = lesson.site
    redis, keys = lesson.redis, lesson.keys

    def are_sent() -> bool:
        rows: Any = redis.xpending_range(keys.jobs, keys.group, "-", "+", 1000, consumername=worker.name)
        return all(row["time_since_delivered"] > 3000 * site.latency for row in rows)

    lesson.wait_until(are_sent)
    (cnpj,) = set(batch.jobs()["cnpj"])
    months = [Month.parse(month).iso for month in in_hand(lesson, worker, batch)]
    changes: list[pd.DataFrame] = [site.restate(cnpj, month, factor) for month in months]
    return pd.concat(changes)


def in_hand(lesson: Lesson, worker: WorkerProcess, batch: Batch) -> list[str]:
    """Return the months (``MM/YYYY``) of a batch that a worker has received but not yet settled."""
    redis: Any = lesson.redis
    jobs = batch.jobs()
    jobs = jobs[jobs["state"].isin(["pending", "running"])]
    claims = redis.mget([lesson.keys.claim(message) for message in jobs.index]) if len(jobs) else []
    claimed = {
        month
        for month, holder in zip(jobs["month"], claims, strict=True)
        if Claim.read(holder or "").instance.partition("/")[0] == worker.name
    }
    return sorted(claimed | set(_unacknowledged(lesson, worker, batch)), key=Month.parse)


def _any_stored(lesson: Lesson, batch: Batch, months: Iterable[str]) -> bool:
    jobs = batch.jobs()
    jobs = jobs[jobs["month"].isin(months)]
    return any(
        lesson.redis.hexists(lesson.keys.months(cnpj), Month.parse(month).iso)
        for cnpj, month in zip(jobs["cnpj"], jobs["month"], strict=True)
    )


def _unacknowledged(lesson: Lesson, worker: WorkerProcess, batch: Batch) -> Iterable[str]:
    redis, keys = lesson.redis, lesson.keys
    rows: Any = (
        redis.xpending_range(keys.jobs, keys.group, "-", "+", 1000, consumername=worker.name)
        if redis.exists(keys.jobs)
        else []
    )
    for row in rows:
        entries: Any = redis.xrange(keys.jobs, row["message_id"], row["message_id"])
        for _, fields in entries:
            message = json.loads(fields["message"])
            if message.get("batch_id") == batch.id:
                yield message["month_year"]


def pending(lesson: Lesson) -> pd.DataFrame:
    """Return the stream entries that workers have received but not acknowledged, as Redis lists them.

    Returns
    -------
    pandas.DataFrame
        A row for each; columns ``worker``, ``month``, ``idle, s`` (since it was handed out, or its lease was last
        renewed) and ``handed out, times``.
    """
    redis, keys = lesson.redis, lesson.keys
    rows: Any = redis.xpending_range(keys.jobs, keys.group, "-", "+", 1000) if redis.exists(keys.jobs) else []
    table = []
    for row in rows:
        entries: Any = redis.xrange(keys.jobs, row["message_id"], row["message_id"])
        month = json.loads(entries[0][1]["message"])["month_year"] if entries else ""
        table.append((row["consumer"], month, row["time_since_delivered"] / 1000, row["times_delivered"]))
    return pd.DataFrame(table, columns=["worker", "month", "idle, s", "handed out, times"])


def mark(ax: Axes, batch: Batch, moments: Mapping[str, pd.Timestamp]) -> Axes:
    """Mark moments on the timeline of a batch with labelled dashed lines.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        From :func:`scraperkit.plot.timeline`.
    batch : Batch
        The batch that `ax` shows.
    moments : mapping of str to pandas.Timestamp
        Label and time of each.
    """
    start = batch.events()["published_at"].min()
    behind: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
    for number, (text, moment) in enumerate(moments.items()):
        second = (moment - start).total_seconds()
        ax.set_xlim(right=max(ax.get_xlim()[1], second * 1.02))
        late = second > 0.8 * ax.get_xlim()[1]
        ax.axvline(second, color=_ALARM, linestyle="--", linewidth=1.5, zorder=5)
        ax.annotate(
            text, (second, 1 - 0.09 * number), (-5 if late else 5, 0), xycoords=("data", "axes fraction"),
            textcoords="offset points", ha="right" if late else "left", va="top", color=_ALARM, bbox=behind, zorder=6,
        )  # fmt: skip
    return ax


def deaths(batches: Mapping[str, tuple[Batch, pd.Timestamp]]) -> Axes:
    """Draw the timelines of batches in which a worker was killed, one below the other, on one scale; return the last.

    Parameters
    ----------
    batches : mapping of str to (Batch, pandas.Timestamp)
        Name of each, the batch, and when its worker was killed.
    """
    from matplotlib import pyplot as plt

    from scraperkit import plot

    figure, places = plt.subplots(
        len(batches), 1, figsize=(10, 3.4 * len(batches)), layout="constrained", squeeze=False
    )
    for ax, (name, (batch, died)) in zip(places.flat, batches.items(), strict=True):
        mark(plot.timeline(batch.events(), ax), batch, {"killed": died})
        ax.set_title(f"{name}: {batch.status()}", loc="left", fontsize="medium", pad=24)
    longest = max(ax.get_xlim()[1] for ax in figure.axes)
    for ax in figure.axes:
        ax.set_xlim(right=longest)
    return figure.axes[-1]


def outcomes(batches: Mapping[str, Batch], ax: Axes | None = None) -> Axes:
    """Draw the outcomes of the messages of each batch as a stacked bar.

    Parameters
    ----------
    batches : mapping of str to Batch
        Name of each.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure if left out.
    """
    from matplotlib import pyplot as plt

    if ax is None:
        _, ax = plt.subplots(figsize=(10, 1.3 + 0.6 * len(batches)), layout="constrained")
    names, left = list(batches), [0] * len(batches)
    statuses = [batch.status() for batch in batches.values()]
    for state, (colour, hatch) in _LOOKS.items():
        counts = [getattr(status, state) for status in statuses]
        if any(counts):
            bars = ax.barh(names, counts, left=left, label=state, color=colour, hatch=hatch, edgecolor="white")
            behind: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
            ax.bar_label(bars, [str(count or "") for count in counts], label_type="center", bbox=behind)
            left = [done + count for done, count in zip(left, counts, strict=True)]
    ax.invert_yaxis()
    ax.set_xlabel("messages of the batch")
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
    ax.set_title("What became of the messages", loc="left", fontsize="medium", pad=28)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=4, frameon=False)
    return ax


# --------------------------------------------------------------------------- the exercises


def check_1(lesson: Lesson, answer: Any) -> str | None:
    """Check the months that were fetched twice, from the event log of the batch with the frozen worker."""
    try:
        months = {str(month) for month in ([answer] if isinstance(answer, str) else answer)}
    except TypeError:
        return f"the answer is a list of months; this is a {type(answer).__name__}."
    if not months:
        return "the list is empty; look for messages that have more than one event."
    twice = _superseded(lesson)
    if months in twice.values():
        return None
    if any(months > each for each in twice.values() if each):
        return "it has too many months; which messages have two events?"
    return "these are not the months whose messages have two events in the batch during which anna was frozen."


def _superseded(lesson: Lesson) -> dict[str, set[str]]:
    """Return the superseded months of each batch."""
    found: dict[str, set[str]] = {}
    for event in _events(lesson):
        if event["outcome"] == "superseded":
            found.setdefault(event.get("batch") or "", set()).add(event.get("month", ""))
    return found


def check_2(lesson: Lesson, answer: Any) -> str | None:
    """Check a batch of the months that a channel lost, and of no others."""
    if not isinstance(answer, Batch):
        return f"the answer is the batch that publish() returns; this is a {type(answer).__name__}."
    if hint := unfinished(answer):
        return hint
    jobs = answer.jobs()
    done = [event for event in _events(lesson) if event["outcome"] == "done" and event.get("cnpj") in set(jobs["cnpj"])]
    spoken = {event["batch"] for event in done if event["delivery"] == "pubsub" and event.get("batch")}
    if not spoken:
        return "that batch is for another fund; take the fund whose months the channel lost."
    counts = Counter(event["month"] for event in done)
    again = [month for month in jobs["month"] if counts[month] > 1]
    if again:
        return f"{len(again)} of these months were done before, such as {again[0]}; publish only the lost ones."
    wanted = {
        month for batch in spoken for month in Batch(lesson.redis, batch, namespace=lesson.namespace).jobs()["month"]
    }
    left = sorted(wanted - counts.keys(), key=Month.parse)
    return f"still missing: {', '.join(left)}." if left else None


def _events(lesson: Lesson) -> list[dict[str, Any]]:
    """Return all events of the lesson, oldest first."""
    entries: Any = lesson.redis.xrange(lesson.keys.events)
    return [json.loads(fields["event"]) | {"outcome": fields["outcome"]} for _, fields in entries]


def check_3(lesson: Lesson, answer: Any) -> str | None:
    """Check the dead letter of a message whose document is not a CNPJ."""
    letters = DeadLetters(lesson.redis, namespace=lesson.namespace).list()
    if not isinstance(answer, str):
        return f"the answer is a dead letter's id, a text such as '1700000000000-0'; this is a {type(answer).__name__}."
    if answer not in letters.index:
        return "there is no dead letter with that id; list() shows all of them."
    error = str(letters.loc[answer, "error"])
    if not error.startswith("BadMessage"):
        return f"this one failed for another reason: {error[:100]}"
    if "document" not in error:
        return f"its error is not about the document: {error[:100]}"
    return None

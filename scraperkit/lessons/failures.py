"""Tools and checks of ``05_when_things_fail``: a Redis to kill, a death in the middle of work, marks on a timeline."""

from __future__ import annotations

import atexit
import contextlib
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from scraperkit.batch import Batch
from scraperkit.deadletters import DeadLetters
from scraperkit.embedded_server import EmbeddedServer
from scraperkit.errors import BatchNotFound, ScraperKitError
from scraperkit.keys import Keys
from scraperkit.worker_process import WorkerProcess

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from scraperkit.lessons.lesson import Lesson

_POLL = 0.02
_TRIES = 200
_servers: list[OwnRedis] = []


class OwnRedis(EmbeddedServer):
    """A Redis in a temporary folder, which nobody else knows; :meth:`close` ends it and deletes the folder.

    It keeps a log of what it was told (an append-only file), so that it can be killed and comes back with its data.
    """

    def __init__(self) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="scraperkit-lesson-")
        super().__init__(Path(self._temporary.name))

    def close(self) -> None:
        """End the server and delete all that it kept; again is harmless."""
        self.stop()
        self._temporary.cleanup()
        if self in _servers:
            _servers.remove(self)

    def __exit__(self, *_: object) -> None:
        self.close()


def own_redis() -> OwnRedis:
    """Start a Redis that belongs to this lesson alone; one that an earlier run has left open is closed.

    Examples
    --------
    >>> with own_redis() as server:
    ...     server.running
    True
    """
    for server in list(_servers):
        server.close()
    server = OwnRedis()
    _servers.append(server)
    server.start()
    return server


@atexit.register
def _close_all() -> None:
    for server in list(_servers):
        with contextlib.suppress(ScraperKitError, OSError):
            server.close()


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until a condition holds; it is looked at fifty times a second.

    Raises
    ------
    TimeoutError
        If it does not hold within `seconds`.

    Examples
    --------
    >>> until(lambda: 1 + 1 == 2)
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"waited {seconds:g} s for something that did not happen; is a worker running? "
                "If a cell was left out, restart the kernel and run all cells from the top"
            )
        time.sleep(_POLL)


def in_hand(batch: Batch, worker: str) -> list[str]:
    """Return the months, as ``MM/YYYY``, of those messages of a batch that a worker holds now."""
    redis: Any = batch.redis
    jobs = batch.jobs()
    jobs = jobs[jobs["state"].isin(["pending", "running"])]
    claims = redis.mget([batch.keys.claim(message) for message in jobs.index]) if len(jobs) else []
    spoken = [month for month, holder in zip(jobs["month"], claims, strict=True) if _name(holder) == worker]
    return sorted({*spoken, *_pending_of(redis, batch, worker)}, key=lambda month: (month[3:], month))


def _name(instance: str | None) -> str:
    return (instance or "").partition("/")[0]


def _pending_of(redis: Any, batch: Batch, worker: str) -> Iterable[str]:
    """The months of stream entries that a consumer has received and not acknowledged."""
    keys = batch.keys
    if not redis.exists(keys.jobs):
        return
    for row in redis.xpending_range(keys.jobs, keys.group, "-", "+", 1000, consumername=worker):
        for _, fields in redis.xrange(keys.jobs, row["message_id"], row["message_id"]):
            message = json.loads(fields["message"])
            if message.get("batch_id") == batch.id:
                yield message["month_year"]


def freeze_at_work(worker: WorkerProcess, batch: Batch, after: int = 6) -> pd.Timestamp:
    """Freeze a worker process once `after` jobs of a batch are done and it holds some more; return when that was.

    Raises
    ------
    TimeoutError
        If it never holds any.
    """
    until(lambda: batch.status().done >= after)
    for _ in range(_TRIES):
        worker.freeze()  # first: or it would be done by the time that one has looked
        if in_hand(batch, worker.name):
            return pd.Timestamp.now("UTC")
        worker.thaw()
        time.sleep(_POLL)
    raise TimeoutError(f"{worker.name} never had a message of this batch in hand: {batch.status()}")


def kill_at_work(worker: WorkerProcess, batch: Batch, after: int = 6) -> pd.Timestamp:
    """Kill a worker process once `after` jobs of a batch are done and it holds some more; return when that was.

    Raises
    ------
    TimeoutError
        If it never holds any.
    """
    when = freeze_at_work(worker, batch, after)
    worker.kill()
    return when


def mark(ax: Axes, batch: Batch, moments: Mapping[str, pd.Timestamp]) -> Axes:
    """Mark moments on the timeline of a batch: a dashed line and what happened there.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        From :func:`scraperkit.plot.timeline`.
    batch : Batch
        The one that is drawn.
    moments : mapping of str to pandas.Timestamp
        What happened, and when.
    """
    start = batch.events()["published_at"].min()
    for text, moment in moments.items():
        second = (moment - start).total_seconds()
        ax.axvline(second, color="#D55E00", linestyle="--", linewidth=1.5, zorder=5)
        ax.annotate(
            f" {text}", (second, 1.0), xycoords=("data", "axes fraction"), color="#D55E00", va="top", zorder=6
        )  # fmt: skip
    return ax


def outcomes(batches: Mapping[str, Batch], ax: Axes | None = None) -> Axes:
    """Draw what became of each batch: a bar for each, as long as it has messages.

    Parameters
    ----------
    batches : mapping of str to Batch
        What to call each.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure if left out.
    """
    from matplotlib import pyplot as plt

    looks = {"done": ("#0072B2", ""), "failed": ("#E69F00", "//"), "lost": ("#D55E00", "xx"), "pending": ("#BBBBBB", "")}
    if ax is None:
        _, ax = plt.subplots(figsize=(10, 0.8 + 0.6 * len(batches)), layout="constrained")
    lefts = dict.fromkeys(batches, 0)
    statuses = {name: batch.status() for name, batch in batches.items()}
    for state, (colour, hatch) in looks.items():
        counts = {name: getattr(status, state) for name, status in statuses.items()}
        if not any(counts.values()):
            continue
        bars = ax.barh(
            list(counts), list(counts.values()), left=list(lefts.values()), label=state,
            color=colour, hatch=hatch, edgecolor="white",
        )  # fmt: skip
        ax.bar_label(bars, [str(count or "") for count in counts.values()], label_type="center", color="black",
                     bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5, "alpha": 0.8})  # fmt: skip
        lefts = {name: lefts[name] + count for name, count in counts.items()}
    ax.invert_yaxis()
    ax.set_xlabel("messages of the batch")
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=4, frameon=False)
    return ax

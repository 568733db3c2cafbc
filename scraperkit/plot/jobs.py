"""Timeline of what workers did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from scraperkit.errors import ConfigError
from scraperkit.plot.style import COLOURS, FAINT, INK, entitle, new_axes, say, unbox

_EVENT_COLUMNS = (
    "message",
    "outcome",
    "attempt",
    "worker",
    "thread",
    "published_at",
    "started_at",
    "fetched_at",
    "stored_at",
)
_WAITING = "#BBBBBB"
_TAKEN_OVER = "////"


class _Look(NamedTuple):
    colour: str
    marker: str


# A marker too: colour alone would be lost in a grey print.
_LOOKS = {
    "done": _Look(COLOURS[0], ""),
    "not_offered": _Look("#777777", "v"),
    "retry": _Look(COLOURS[4], "o"),
    "failed": _Look(COLOURS[1], "X"),
    "dead": _Look(COLOURS[6], "X"),
    "superseded": _Look(COLOURS[3], "s"),
    "ignored": _Look(COLOURS[5], "|"),
    "cancelled": _Look("#777777", "_"),
}
_UNKNOWN = _Look("#777777", "d")


def timeline(events: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw a timeline of workers: a lane for each thread, a bar for each attempt at a message.

    Parameters
    ----------
    events : pandas.DataFrame
        From :meth:`scraperkit.Batch.events`.
    ax : matplotlib.axes.Axes, optional
        Where to draw; if omitted, a new figure, as high as its lanes need.

    Returns
    -------
    matplotlib.axes.Axes
        The x axis is in seconds since the first message was published. The grey area at the top is the number of
        messages published to the stream and not yet begun; a channel keeps none. Workers are sorted by name. A bar
        spans a fetch; its colour, and a marker at its end unless it is done, show the outcome. Bars of jobs that were
        taken over from another worker are hatched. Without events, the chart says so.

    Raises
    ------
    ConfigError
        If the frame does not hold events.

    Examples
    --------
    >>> from matplotlib import pyplot as plt
    >>> second = pd.to_datetime([0.0, 0.1, 0.4, 0.5], unit="s", utc=True)
    >>> times = dict(zip(["published_at", "started_at", "fetched_at", "stored_at"], second))
    >>> event = {"message": "a", "outcome": "done", "attempt": 1, "worker": "lab-1/5", "thread": "scraper-1"}
    >>> ax = timeline(pd.DataFrame([event | times]))
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['scraper-1']
    >>> plt.close(ax.figure)
    """
    drawn = since_publish(events)
    lanes = _lanes(drawn)
    workers = list(dict.fromkeys(worker for worker, _ in lanes))
    rows = 2 + len(workers) + len(lanes)
    ax = new_axes(max(2.6, min(1.4 + 0.27 * rows, 14))) if ax is None else ax
    if drawn.empty:
        return say(ax, "no events")
    end = max(float(drawn["fetched_at"].max()), 1e-3)
    _draw_waiting(ax, drawn)
    ticks = _draw_lanes(ax, drawn, lanes, _names(workers))
    ax.set_yticks(list(ticks), list(ticks.values()), fontsize="small" if rows <= 30 else "xx-small")
    ax.set_ylim(max(ticks) + 0.6, -0.62)
    _seconds(ax, float(drawn["started_at"].min()), end)
    _outcome_legend(ax, drawn)
    entitle(ax, "Who did what, and when", pad=24)
    return ax


def since_publish(events: pd.DataFrame) -> pd.DataFrame:
    """Return the events with their times as seconds since the first message was published, ordered by start."""
    missing = [column for column in _EVENT_COLUMNS if column not in events]
    if missing:
        raise ConfigError(f"events: no column {', '.join(missing)}; give the frame of Batch.events()")
    drawn = events.copy()
    times = [
        column for column in ("published_at", "received_at", "started_at", "fetched_at", "stored_at") if column in drawn
    ]
    stamps = drawn[times].apply(_stamps)
    start = stamps["published_at"].min()
    start = stamps.min().min() if pd.isna(start) else start
    for column in times:
        drawn[column] = (stamps[column] - start).dt.total_seconds()
    drawn = drawn.dropna(subset=["started_at", "fetched_at"])
    return drawn.sort_values(["started_at", "fetched_at"], kind="stable")


def _stamps(column: pd.Series[Any]) -> pd.Series[pd.Timestamp]:
    """Parse times, which are text in a frame read from CSV."""
    try:
        return pd.to_datetime(column, utc=True)
    except (TypeError, ValueError):
        raise ConfigError(
            f"events: the column {column.name} holds no times; give the frame of Batch.events()"
        ) from None


def _lanes(drawn: pd.DataFrame) -> list[tuple[str, str]]:
    """Return worker and thread of each lane, by name and number; restarts of a name in the order of their jobs."""
    lives = {worker: place for place, worker in enumerate(drawn["worker"].unique())}
    pairs = set(zip(drawn["worker"].astype(str), drawn["thread"].astype(str), strict=True))
    return sorted(pairs, key=lambda pair: (_numbered(pair[0].partition("/")[0]), lives[pair[0]], _numbered(pair[1])))


def _numbered(name: str) -> tuple[str, int]:
    """Return a sort key: a name's text, then the number at its end."""
    words = name.rstrip("0123456789")
    return words, int(name[len(words) :] or 0)


def _is_taken_over(drawn: pd.DataFrame) -> pd.Series[bool]:
    """Return which events belong to jobs that were taken over; none in a frame of an older version."""
    told: pd.Series[Any] = drawn.get("taken_from", pd.Series("", index=drawn.index))
    return told.fillna("") != ""


def _names(workers: Sequence[str]) -> dict[str, str]:
    """Return the short name of each worker; the full one if a restart reused a name."""
    short = [worker.partition("/")[0] for worker in workers]
    return {
        worker: name if short.count(name) == 1 and name else worker for worker, name in zip(workers, short, strict=True)
    }


def _draw_lanes(
    ax: Axes, drawn: pd.DataFrame, lanes: Sequence[tuple[str, str]], names: dict[str, str]
) -> dict[float, str]:
    """Draw the bars, and return the label for each height."""
    ticks, row, last = {}, 1.0, None
    shortest = 0.002 * float(drawn["fetched_at"].max())  # a job of 0 s stays visible
    for worker, thread in lanes:
        if worker != last:
            row, last = row + 1, worker
            _head(ax, row, f"{names[worker]}: {_count(int((drawn['worker'] == worker).sum()), 'attempt')}")
        row += 1
        ticks[row] = thread
        own = drawn[(drawn["worker"] == worker) & (drawn["thread"] == thread)]
        for (outcome, is_taken_over), group in own.groupby(["outcome", _is_taken_over(own)], sort=False):
            look = _LOOKS.get(str(outcome), _UNKNOWN)
            widths = np.maximum(group["fetched_at"] - group["started_at"], shortest)
            spans = list(zip(group["started_at"], widths, strict=True))
            hatch = _TAKEN_OVER if is_taken_over else None
            ax.broken_barh(
                spans, (row - 0.36, 0.72), facecolor=look.colour, edgecolor="white", linewidth=0.5, hatch=hatch
            )
            if look.marker:
                ends = group["started_at"] + widths
                ax.plot(ends, [row] * len(ends), **_mark(look), zorder=4)
    return ticks


def _mark(look: _Look) -> dict[str, Any]:
    return {
        "linestyle": "none",
        "marker": look.marker,
        "markersize": 6,
        "markerfacecolor": look.colour,
        "markeredgecolor": INK if look.marker in "|_" else "white",
        "markeredgewidth": 0.8,
        "clip_on": False,
    }


def _draw_waiting(ax: Axes, drawn: pd.DataFrame) -> None:
    """Draw at the top how many messages waited in the stream; a channel keeps none."""
    is_kept = drawn["delivery"] != "pubsub" if "delivery" in drawn else pd.Series(True, drawn.index)
    first = drawn[is_kept].drop_duplicates("message")
    if first.empty:
        _head(ax, 0, "a channel: no message waits in Redis")
        return
    published = first["published_at"].fillna(first["started_at"])
    moments, waiting = _waiting(published.to_numpy(dtype=np.float64), first["started_at"].to_numpy(dtype=np.float64))
    most = int(waiting.max())
    _head(ax, 0, f"published, not yet begun: at most {_count(most, 'message')}")
    ax.fill_between(moments, 1.36 - 0.72 * waiting / max(most, 1), 1.36, step="post", color=_WAITING, linewidth=0)


def _count(number: int, unit: str) -> str:
    return f"{number:,} {unit}{'' if number == 1 else 's'}"


def _head(ax: Axes, row: float, text: str) -> None:
    """Write a heading above lanes."""
    behind = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  # no line runs through it
    ax.text(
        0, row + 0.1, text, fontsize="small", va="center", color=INK, transform=ax.get_yaxis_transform(), bbox=behind,
        zorder=7,
    )  # fmt: skip


def _waiting(published: npt.NDArray[np.float64], started: npt.NDArray[np.float64]) -> tuple[Any, Any]:
    """Return the times at which the number of waiting messages changes, and the number from then on."""
    moments = np.concatenate([published, started])
    steps = np.concatenate([np.ones(len(published)), -np.ones(len(started))])
    order = np.lexsort((-steps, moments))
    return moments[order], steps[order].cumsum()


def _said(outcome: Any) -> str:
    return str(outcome).replace("_", " ")


def _outcome_legend(ax: Axes, drawn: pd.DataFrame) -> None:
    counts = drawn["outcome"].value_counts()
    ranks = list(_LOOKS)
    handles: list[Line2D | Patch] = []
    for outcome in sorted(counts.index, key=lambda name: ranks.index(name) if name in ranks else len(ranks)):
        look = _LOOKS.get(str(outcome), _UNKNOWN)
        handle = Line2D([], [], color=look.colour, linewidth=6, label=f"{_said(outcome)} ({counts[outcome]:,})")
        handle.set_solid_capstyle("butt")
        handles.append(handle)
        if look.marker:
            handle.set(**{name: value for name, value in _mark(look).items() if name != "linestyle"})
    if taken_over := int(_is_taken_over(drawn).sum()):
        label = f"taken over from another worker ({taken_over:,})"
        handles.append(Patch(facecolor="#777777", edgecolor="white", hatch=_TAKEN_OVER, label=label))
    ax.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(0, 1.01), ncols=6, frameon=False, borderaxespad=0,
        fontsize="small", handlelength=1.6,
    )  # fmt: skip


def _seconds(ax: Axes, start: float, end: float) -> None:
    ax.set_xlim(min(0, start), end * 1.01)
    ax.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10], min_n_ticks=2))
    ax.set_xlabel("seconds since the first message was published")
    ax.grid(visible=True, axis="x", color=FAINT, linewidth=0.7)
    ax.set_axisbelow(True)
    unbox(ax)
    ax.margins(x=0)

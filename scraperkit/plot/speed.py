"""Durations of jobs, and throughput by number of threads."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from scraperkit.errors import ConfigError
from scraperkit.plot.jobs import since_publish
from scraperkit.plot.style import COLOURS, FAINT, INK, entitle, new_axes, say, unbox


def latency(events: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw how long messages waited, how long a fetch took and how long storing took, in milliseconds.

    Parameters
    ----------
    events : pandas.DataFrame
        From :meth:`scraperkit.Batch.events`.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure if omitted.

    Returns
    -------
    matplotlib.axes.Axes
        Three histograms on a logarithmic x axis, named with their medians: ``waited`` from publication to first start,
        ``fetched`` from start to the end of the page, ``stored`` from there to the acknowledgement. Times below 0.1 ms
        count as 0.1 ms, even negative ones, which two machines' clocks can cause. Without events, the chart says so.

    Raises
    ------
    ConfigError
        If the frame does not hold events.

    Examples
    --------
    >>> from matplotlib import pyplot as plt
    >>> second = pd.to_datetime([0.0, 0.1, 0.4, 0.42], unit="s", utc=True)
    >>> times = dict(zip(["published_at", "started_at", "fetched_at", "stored_at"], second))
    >>> event = {"message": "a", "outcome": "done", "attempt": 1, "worker": "lab-1/5", "thread": "scraper-1"}
    >>> ax = latency(pd.DataFrame([event | times]))
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['waited, median 100 ms', 'fetched, median 300 ms', 'stored, median 20 ms']
    >>> plt.close(ax.figure)
    """
    drawn = since_publish(events)
    ax = new_axes() if ax is None else ax
    spans = {
        "waited": _span(drawn[drawn["attempt"] == 1], "published_at", "started_at"),
        "fetched": _span(drawn, "started_at", "fetched_at"),
        "stored": _span(drawn, "fetched_at", "stored_at"),
    }
    spans = {name: span for name, span in spans.items() if len(span)}
    if not spans:
        return say(ax, "no events")
    every = np.concatenate(list(spans.values()))
    low, high = np.floor(np.log10(every.min())), np.ceil(np.log10(every.max()) + 1e-9)
    bins = np.logspace(low, high, int((high - low) * 12) + 1).tolist()
    styles = ("solid", (0, (4, 1.5)), (0, (1, 1)))
    for (name, span), colour, style in zip(spans.items(), COLOURS, styles, strict=False):
        text = f"{name}, median {_figure(float(np.median(span)))} ms"
        ax.hist(span, bins=bins, histtype="stepfilled", color=colour, alpha=0.2)
        ax.hist(span, bins=bins, histtype="step", color=colour, linewidth=1.6, linestyle=style, label=text)
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(numticks=12))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _place: _figure(value)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.set_xlabel("milliseconds, logarithmic")
    ax.set_ylabel("messages")
    _quiet(ax)
    entitle(ax, "Time waiting, fetching and storing", pad=24)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1.01), ncols=3, frameon=False, borderaxespad=0, handlelength=2.6)
    return ax


def throughput(frame: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw jobs done per second against the number of threads.

    Parameters
    ----------
    frame : pandas.DataFrame
        Index ``threads``, a column ``jobs_per_second``. A number of threads may occur several times.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure if omitted.

    Returns
    -------
    matplotlib.axes.Axes
        A dot for each row, a line through the medians, and a dashed line in proportion to the number of threads.
        Without rows, the chart says so.

    Raises
    ------
    ConfigError
        If the frame has no column ``jobs_per_second``, or its index does not hold numbers of threads.

    Examples
    --------
    >>> from matplotlib import pyplot as plt
    >>> ax = throughput(pd.DataFrame({"jobs_per_second": [9.5, 19.0, 36.0]}, index=[1, 2, 4]))
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('threads', 'jobs done per second')
    >>> plt.close(ax.figure)
    """
    if "jobs_per_second" not in frame:
        raise ConfigError("frame: no column jobs_per_second; index it by threads, one row for each run")
    if len(frame) and not (pd.api.types.is_numeric_dtype(frame.index.dtype) and frame.index.min() > 0):
        raise ConfigError(
            "frame: its index must hold numbers of threads, 1 or more; read a CSV with pd.read_csv(path, index_col=0)"
        )
    rates = frame["jobs_per_second"].astype("float64").dropna()
    ax = new_axes() if ax is None else ax
    if rates.empty:
        return say(ax, "no runs")
    medians = rates.groupby(level=0).median().sort_index()
    threads = medians.index.to_numpy(dtype=np.float64)
    if len(medians) > 1:
        ideal = threads * medians.iloc[0] / threads[0]
        ax.plot(threads, ideal, color=INK, linewidth=1, linestyle=(0, (4, 3)), label="in proportion to threads")
    ax.plot(threads, medians.to_numpy(), color=COLOURS[0], linewidth=1.6, label="measured")
    ax.plot(rates.index, rates.to_numpy(), color=COLOURS[0], marker="o", markersize=5, linestyle="none")
    ax.set_ylim(0, float(rates.max()) * 1.25)
    ax.set_xlim(0, float(threads[-1]) * 1.05)
    ax.set_xticks(threads, [f"{count:g}" for count in threads])
    ax.set_xlabel("threads")
    ax.set_ylabel("jobs done per second")
    entitle(ax, "Throughput by number of threads")
    _quiet(ax)
    if len(medians) > 1:
        ax.legend(loc="lower right", frameon=False)
    return ax


def _span(drawn: pd.DataFrame, start: str, end: str) -> npt.NDArray[np.float64]:
    seconds: npt.NDArray[np.float64] = (drawn[end] - drawn[start]).dropna().to_numpy(dtype=np.float64)
    return np.maximum(seconds * 1000, 0.1)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _quiet(ax: Axes) -> None:
    ax.grid(visible=True, axis="y", color=FAINT, linewidth=0.7)
    ax.set_axisbelow(True)
    unbox(ax)

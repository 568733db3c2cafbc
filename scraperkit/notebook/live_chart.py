"""A notebook chart that is redrawn as prices are stored."""

from __future__ import annotations

import base64
import io
import logging
import threading
from collections.abc import Callable, Sequence
from html import escape
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import redis as redis_py
from redis.backoff import NoBackoff
from redis.retry import Retry

from scraperkit.cnpj import format_series
from scraperkit.config import Settings
from scraperkit.connection import check_client, sibling
from scraperkit.errors import ConfigError, RedisError, UnknownFund
from scraperkit.models import Fund, Stored
from scraperkit.text import printable
from scraperkit.timeseries.news import StoredListener, on_stored
from scraperkit.view import NotebookRepr, View

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

log = logging.getLogger(__name__)
_MOST_OFTEN = 0.2
_RESPOND_WITHIN = 2.0
_SIZE, _DPI = (10, 5.5), 120


def live_prices(
    redis: redis_py.Redis,
    funds: str | Fund | Sequence[str | Fund],
    start: Any = None,
    end: Any = None,
    *,
    chart: Callable[[pd.DataFrame, Axes], object] | None = None,
    every: float = 0.5,
    namespace: str | None = None,
) -> LivePrices:
    """Show a chart of funds that is redrawn whenever any worker stores prices of theirs.

    It does not poll: the chart listens to the news of :func:`on_stored`. It is drawn in a background thread, so it also
    changes while a cell waits for a batch.

    Parameters
    ----------
    redis : redis.Redis
        From :func:`scraperkit.connect`; the chart opens its own connections.
    funds : str, Fund or sequence of them
        CNPJs, with or without punctuation or a subclass, and names or short names of stored funds. A fund given by CNPJ
        that has no stored prices yet appears with its first ones.
    start, end : str, datetime.date or None
        The days to show, as for :meth:`TimeSeriesReader.prices`.
    chart : callable, optional
        Draws a wide frame of prices on axes, as functions of :mod:`scraperkit.plot` do; default ``plot.prices``.
    every : float
        Minimum seconds between redraws, 0.2 or more.
    namespace : str, optional
        The namespace of the prices; default ``SCRAPERKIT_NAMESPACE``.

    Returns
    -------
    LivePrices
        Close it, or use it in a ``with`` block. Without ipywidgets it is a snapshot, drawn when it is shown.

    Raises
    ------
    ConfigError
        If an argument is invalid.
    UnknownFund
        If a name matches no stored fund, or several.
    RedisUnreachable
        If Redis is unreachable now; later, the chart waits for it.
    RedisRefused
        If this user may not subscribe to the news channel.

    Examples
    --------
    >>> with live_prices(redis, fund, namespace=namespace) as live, Subscriber(redis, source, namespace=namespace):
    ...     status = Publisher(redis, namespace=namespace).publish(fund.months("2022-01", "2022-12")).wait(60)
    >>> live
    <LivePrices of 1 fund: closed; 12 days, to 2022-12-01>
    """
    return LivePrices(redis, funds, start, end, chart, every, namespace)


class LivePrices(NotebookRepr):
    """Chart that is redrawn as prices are stored. Get one from :func:`live_prices`.

    Attributes
    ----------
    widget : ipywidgets.Widget or None
        The widget for JupyterLab; ``None`` if ipywidgets is missing.
    closed : bool
        Whether it was closed; a closed chart shows its last state.
    drawings : int
        Number of times that it was drawn.
    """

    def __init__(
        self,
        redis: redis_py.Redis,
        funds: str | Fund | Sequence[str | Fund],
        start: Any,
        end: Any,
        chart: Callable[[pd.DataFrame, Axes], object] | None,
        every: float,
        namespace: str | None,
    ) -> None:
        # The package root imports this module for workers, too, which need no pandas.
        from scraperkit import plot
        from scraperkit.research.stored_names import stored_series
        from scraperkit.timeseries.frames import window
        from scraperkit.timeseries.reader import TimeSeriesReader

        if not every >= _MOST_OFTEN:
            raise ConfigError(f"every: {every!r} is invalid; give at least {_MOST_OFTEN} seconds")
        window(start, end)
        self._days, self._chart, self._every = (start, end), chart or plot.prices, every
        # A thread must not hang if Redis is unreachable.
        self._redis = sibling(check_client(redis), retry=Retry(NoBackoff(), 0), socket_timeout=_RESPOND_WITHIN)
        self._reader = TimeSeriesReader(self._redis, namespace)
        where = namespace or Settings.load().namespace
        self._series = stored_series(self._redis, self._reader, funds, where)
        self.closed, self.drawings = False, 0
        self._cnpjs = {series.partition(":")[0] for series in self._series}
        self._told, self._picture, self._trouble = "nothing yet", b"", ""
        self._missing: list[str] = []
        self._due, self._ending, self._drawing = threading.Event(), threading.Event(), threading.Lock()
        self._thread: threading.Thread | None = None
        self.widget = _widget()
        # Listen before the first read, so that nothing stored in between is missed.
        self._listener: StoredListener | None = None
        if self.widget is not None:
            self._listener = on_stored(redis, self._note, on_gap=self._due.set, namespace=namespace)
        self.refresh()
        if self._listener is not None:
            self._thread = threading.Thread(target=self._keep_fresh, name="scraperkit-live-prices", daemon=True)
            self._thread.start()

    def refresh(self) -> None:
        """Read the prices and draw them once."""
        with self._drawing:
            try:
                self._draw(self._read())
                self._trouble = ""
            except Exception as error:
                # The last picture stays.
                log.debug("the chart could not be drawn", exc_info=True)
                self._trouble = printable(f"{type(error).__name__}: {error}")
                if isinstance(error, RedisError):
                    self._due.set()
            if self.widget is not None:
                self.widget.value = self._html()

    def close(self) -> None:
        """Draw the last state and stop. Does nothing if already closed."""
        if self._listener is not None:
            self._listener.close()
        self._ending.set()
        self._due.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
        if not self.closed:
            self.closed = True
            self.refresh()
            self._redis.close()

    def _note(self, told: list[Stored]) -> None:
        if any(stored.cnpj in self._cnpjs for stored in told):
            self._due.set()

    def _keep_fresh(self) -> None:
        while not self._ending.is_set():
            self._due.wait()
            self._due.clear()
            if not self._ending.is_set():
                self.refresh()
                self._ending.wait(self._every)

    def _read(self) -> pd.DataFrame | None:
        """Return the prices; ``None`` if none of the funds has any."""
        try:
            return self._reader.prices(self._series, *self._days)
        except UnknownFund:
            return self._those_stored()

    def _those_stored(self) -> pd.DataFrame | None:
        import pandas as pd

        found = []
        for series in self._series:
            try:
                found.append(self._reader.prices(series, *self._days))
            except UnknownFund:
                continue
        return pd.concat(found, axis="columns").sort_index() if found else None

    def _draw(self, prices: pd.DataFrame | None) -> None:
        """Draw the picture without pyplot, which belongs to the main thread."""
        from matplotlib.figure import Figure

        priced = set() if prices is None else set(prices.columns[prices.notna().any()])
        priced |= {series.partition(":")[0] for series in priced}  # a class may appear as its subclasses
        self._missing = [series for series in self._series if series not in priced]
        if prices is None or not priced:
            self._told, self._picture = "no prices yet", b""
            return
        figure = Figure(figsize=_SIZE, layout="constrained")
        self._chart(prices, figure.add_subplot())
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=_DPI)
        self._picture = file.getvalue()
        self._told = f"{len(prices)} day{'s' * (len(prices) != 1)}, to {prices.index[-1].date()}"
        self.drawings += 1

    @property
    def _state(self) -> str:
        if self._listener is None:
            return "snapshot"
        return "closed" if self.closed else "live"

    @property
    def _what(self) -> str:
        return f"{len(self._series)} fund{'s' * (len(self._series) != 1)}"

    def _view(self) -> View:
        missing = (("nothing yet for", ", ".join(map(format_series, self._missing))),) if self._missing else ()
        trouble = (("not drawn anew", self._trouble),) if self._trouble else ()
        return View(f"Prices of {self._what}", self._state, (("prices", self._told), *missing, *trouble))

    def _html(self) -> str:
        if not self._picture:
            return self._view().html()
        told = escape(f"Chart of {self._what}: {self._told}", quote=True)
        source = base64.b64encode(self._picture).decode()
        style = f"width: 100%; max-width: {100 * _SIZE[0]}px"
        return f"{self._view().html()}<img alt='{told}' style='{style}' src='data:image/png;base64,{source}'>"

    def _repr_html_(self) -> str:
        return self._html()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:  # noqa: ARG002
        if self.widget is None:
            self.refresh()
        bundle: dict[str, Any] = self.widget._repr_mimebundle_() if self.widget is not None else {}
        return bundle | {"text/plain": self._view().text(), "text/html": self._html()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<LivePrices of {self._what}: {self._state}; {self._told}>"


def _widget() -> Any:
    try:
        import ipywidgets
    except ImportError:
        return None
    return ipywidgets.HTML()

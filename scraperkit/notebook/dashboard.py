"""A live notebook view of a subscriber: jobs by thread, throughput and failures."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

import redis as redis_py
from redis.backoff import NoBackoff
from redis.retry import Retry

from scraperkit.cnpj import format_cnpj, short_name
from scraperkit.connection import check_client, sibling
from scraperkit.errors import ConfigError, RedisError
from scraperkit.health import Health
from scraperkit.keys import Keys
from scraperkit.subscriber import Subscriber
from scraperkit.view import NotebookRepr, Table, View, duration

_WINDOW = 5.0
_RESPONSE_SECONDS = 2.0
_SOONEST = 0.05


class Dashboard(NotebookRepr):
    """A view that refreshes itself while its subscriber works. Get one from :meth:`Subscriber.dashboard`.

    A background thread with its own connection refreshes it and ends with the subscriber, so the view is live while
    the notebook is idle, and also while a cell waits for a batch.

    Attributes
    ----------
    widget : ipywidgets.Widget or None
        The widget for JupyterLab; ``None`` if ipywidgets is missing.
    closed : bool
        Whether :meth:`close` was called; a closed dashboard no longer refreshes.
    """

    def __init__(self, subscriber: Subscriber, redis: redis_py.Redis, every: float = 0.5) -> None:
        if not every >= _SOONEST:
            raise ConfigError(f"every: {every!r} is invalid; give at least {_SOONEST} seconds")
        self.closed = False
        self._subscriber = subscriber
        self._every = every
        # The thread must not hang if Redis is unreachable.
        self._redis = sibling(check_client(redis), retry=Retry(NoBackoff(), 0), socket_timeout=_RESPONSE_SECONDS)
        self._speed = Speed()
        self._names: dict[str, str] = {}
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()
        self._controls = _controls(self)
        self.widget = self._controls.box if self._controls else None
        self.refresh()
        subscriber.attach(self)

    @property
    def live(self) -> bool:
        """Whether it is refreshing itself now."""
        return self._thread is not None and self._thread.is_alive()

    def follow(self) -> None:
        """Refresh until the subscriber ends; the subscriber calls this when it starts."""
        if self._controls is None or self.closed or self.live:
            return
        self._ending.clear()
        self._thread = threading.Thread(target=self._keep_fresh, name="scraperkit-dashboard", daemon=True)
        self._thread.start()

    def rest(self) -> None:
        """Show the current state, and stop refreshing until the subscriber starts again."""
        self._ending.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
            self.refresh()  # the jobs in hand at the end are settled by now

    def close(self) -> None:
        """Stop refreshing permanently. The last state stays visible."""
        self.closed = True
        self.rest()
        self._redis.close()

    def refresh(self) -> None:
        """Show the current state once."""
        if self._controls is not None:
            self._controls.show(self._view().html(), self._subscriber)

    def _keep_fresh(self) -> None:
        while self._subscriber.running and not self._ending.wait(self._every):
            self.refresh()
        self.refresh()
        self._redis.close()

    def _view(self) -> View:
        now = time.time()
        outcomes = self._subscriber.outcomes
        self._speed.note(now, outcomes.total() - outcomes["ignored"])
        keys = self._subscriber.worker.keys
        try:
            health = Health.read(self._redis, namespace=keys.namespace)
            self._learn_names(keys)
        except (RedisError, redis_py.RedisError, OSError):
            health = None
        return _view(self._subscriber, health, self._speed.per_second, self._names, now)

    def _learn_names(self, keys: Keys) -> None:
        at_work = {job.request.document for job in self._subscriber.worker.busy.values() if job.request is not None}
        for cnpj in at_work - self._names.keys():
            self._names[cnpj] = short_name(str(self._redis.hget(keys.fund(cnpj), "name") or ""))

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        bundle: dict[str, Any] = super()._repr_mimebundle_(include, exclude)
        if self.widget is not None:
            bundle |= self.widget._repr_mimebundle_() | {"text/plain": bundle["text/plain"]}
        return bundle

    def __repr__(self) -> str:
        return f"<Dashboard of a subscriber: {self._subscriber.state}>"


class Speed:
    """Jobs per second over the last few seconds.

    Examples
    --------
    >>> speed = Speed()
    >>> speed.note(10.0, 100)
    >>> speed.note(12.0, 150)
    >>> speed.per_second
    25.0
    """

    def __init__(self, window: float = _WINDOW) -> None:
        self._window = window
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, now: float, settled: int) -> None:
        """Record the number of jobs settled by time `now`, in seconds."""
        self._seen.append((now, settled))
        while len(self._seen) > 2 and self._seen[1][0] <= now - self._window:
            self._seen.popleft()

    @property
    def per_second(self) -> float:
        """Recent throughput; 0 until there are two records."""
        (since, before), (until, after) = self._seen[0], self._seen[-1]
        return (after - before) / (until - since) if until > since else 0.0


def _view(subscriber: Subscriber, health: Health | None, speed: float, names: dict[str, str], now: float) -> View:
    facts = [("speed", f"{speed:.1f} jobs a second")] if subscriber.running else []
    facts.append(("in hand", str(len(subscriber.worker.held))))
    if health is None:
        facts.append(("queue", "Redis does not respond"))
    else:
        lag = f"{health.lag} waiting" + (f", oldest job {duration(health.oldest)}" if health.oldest else "")
        facts += [("queue", lag), ("retries", f"{health.retries} scheduled")]
        facts += [("dead letters", str(health.dead))]
        facts += [(f"{site}", f"circuit open for {duration(left)}") for site, left in health.open_circuits.items()]
    settled = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in sorted(subscriber.outcomes.items()))
    facts.append(("settled", settled or "nothing yet"))
    return View("Subscriber", subscriber.state, tuple(facts), tables=(_threads(subscriber, names, now),))


def _threads(subscriber: Subscriber, names: dict[str, str], now: float) -> Table:
    worker = subscriber.worker
    busy, begun_at = worker.busy, worker.begun_at
    rows = []
    for number in range(1, worker.settings.threads + 1):
        thread = f"scraper-{number}"
        job = busy.get(thread)
        if job is None:
            rows.append((thread, "idle", "", ""))
        elif job.request is None:
            rows.append((thread, "an invalid message", "", ""))
        else:
            fund = f"{format_cnpj(job.request.document)} {names.get(job.request.document, '')}".strip()
            rows.append((thread, fund, job.request.month_year, duration(now - begun_at.get(thread, now))))
    return Table(("thread", "fund", "month", "since"), rows)


class _Controls:
    """The widgets: the view and two buttons."""

    def __init__(self, dashboard: Dashboard, widgets: Any) -> None:
        self._html = widgets.HTML()
        self._pause = widgets.Button(description="Pause", icon="pause", tooltip="Stop receiving and starting jobs")
        self._stop = widgets.Button(
            description="Stop", icon="stop", button_style="danger", tooltip="Finish running jobs, then stop"
        )
        self._pause.on_click(lambda _: _pause_or_resume(dashboard))
        self._stop.on_click(lambda _: _stop(dashboard))
        self.box = widgets.VBox([self._html, widgets.HBox([self._pause, self._stop])])

    def show(self, html: str, subscriber: Subscriber) -> None:
        self._html.value = html
        self._pause.description, self._pause.icon = ("Resume", "play") if subscriber.paused else ("Pause", "pause")
        self._pause.disabled = self._stop.disabled = not subscriber.running


def _controls(dashboard: Dashboard) -> _Controls | None:
    try:
        import ipywidgets
    except ImportError:
        return None
    return _Controls(dashboard, ipywidgets)


def _pause_or_resume(dashboard: Dashboard) -> None:
    subscriber = dashboard._subscriber
    if subscriber.paused:
        subscriber.resume()
    elif subscriber.running:
        subscriber.pause()
    dashboard.refresh()


def _stop(dashboard: Dashboard) -> None:
    # Do not wait: the click may run in the thread that a cell's own stop() waits for.
    dashboard._subscriber.request_stop()


Subscriber._make_dashboard = Dashboard

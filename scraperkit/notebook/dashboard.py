"""A live view of a subscriber for notebooks: who does what, how fast, and what fails."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

import redis as redis_py
from redis.backoff import NoBackoff
from redis.retry import Retry

from scraperkit.cnpj import format_cnpj
from scraperkit.connection import sibling
from scraperkit.errors import ConfigError
from scraperkit.health import Health
from scraperkit.keys import Keys
from scraperkit.subscriber import Subscriber
from scraperkit.view import NotebookRepr, Table, View, duration

_WINDOW = 5.0
_PATIENCE = 2.0
_SOONEST = 0.05


class Dashboard(NotebookRepr):
    """A view that refreshes by itself while its subscriber works. Get one from :meth:`Subscriber.dashboard`.

    A thread of its own looks every so often, through a connection of its own, and ends with the subscriber: so the
    view is live while the notebook is idle, and also while a cell waits for a batch.

    Attributes
    ----------
    widget : ipywidgets.Widget or None
        What JupyterLab shows; ``None`` where ipywidgets is missing.
    closed : bool
        Whether :meth:`close` was called: it does not refresh any more.
    """

    def __init__(self, subscriber: Subscriber, redis: redis_py.Redis, every: float = 0.5) -> None:
        if not every >= _SOONEST:
            raise ConfigError(f"every: {every!r} does not fit; give seconds, {_SOONEST} at the least")
        self.closed = False
        self._subscriber = subscriber
        self._every = every
        # The thread must not hang on a Redis that is away.
        self._redis = sibling(redis, retry=Retry(NoBackoff(), 0), socket_timeout=_PATIENCE)
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
        """Whether it refreshes by itself now."""
        return self._thread is not None and self._thread.is_alive()

    def follow(self) -> None:
        """Refresh until the subscriber ends; the subscriber calls this when it starts."""
        if self._controls is None or self.closed or self.live:
            return
        self._ending.clear()
        self._thread = threading.Thread(target=self._keep_fresh, name="scraperkit-dashboard", daemon=True)
        self._thread.start()

    def rest(self) -> None:
        """Show how things stand, and refresh no more until the subscriber starts again."""
        self._ending.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
            self.refresh()  # what was in hand at the end is settled now

    def close(self) -> None:
        """Refresh no more. What is shown stays, as it was last."""
        self.closed = True
        self.rest()
        self._redis.close()

    def refresh(self) -> None:
        """Look once, and show it."""
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
        self._speed.note(now, sum(outcomes.values()))
        keys = self._subscriber.worker.keys
        try:
            health = Health.read(self._redis, namespace=keys.namespace)
            self._learn_names(keys)
        except (redis_py.RedisError, OSError):
            health = None
        return _view(self._subscriber, health, self._speed.per_second, self._names, now)

    def _learn_names(self, keys: Keys) -> None:
        at_work = {job.request.document for job in self._subscriber.worker.busy.values() if job.request is not None}
        for cnpj in at_work - self._names.keys():
            self._names[cnpj] = str(self._redis.hget(keys.fund(cnpj), "name") or "")

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        bundle: dict[str, Any] = super()._repr_mimebundle_(include, exclude)
        if self.widget is not None:
            bundle |= self.widget._repr_mimebundle_() | {"text/plain": bundle["text/plain"]}
        return bundle

    def __repr__(self) -> str:
        return f"<Dashboard of a subscriber: {self._subscriber.state}>"


class Speed:
    """Jobs a second over the last few seconds.

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
        """Note how many jobs were settled until `now`, in seconds."""
        self._seen.append((now, settled))
        while len(self._seen) > 2 and self._seen[1][0] <= now - self._window:
            self._seen.popleft()

    @property
    def per_second(self) -> float:
        """The speed of late; 0 before anything is known."""
        (since, before), (until, after) = self._seen[0], self._seen[-1]
        return (after - before) / (until - since) if until > since else 0.0


def _view(subscriber: Subscriber, health: Health | None, speed: float, names: dict[str, str], now: float) -> View:
    facts = [("speed", f"{speed:.1f} jobs a second")] if subscriber.running else []
    facts.append(("in hand", str(len(subscriber.worker.held))))
    if health is None:
        facts.append(("queue", "Redis does not answer"))
    else:
        lag = f"{health.lag} waiting" + (f", the oldest job for {duration(health.oldest)}" if health.oldest else "")
        facts += [("queue", lag), ("retries", f"{health.retries} wait for their time")]
        facts += [("dead letters", str(health.dead))]
        facts += [(f"{site}", f"left alone for {duration(left)}") for site, left in health.left_alone.items()]
    settled = ", ".join(f"{count} {outcome}" for outcome, count in sorted(subscriber.outcomes.items()))
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
            rows.append((thread, "a message that does not validate", "", ""))
        else:
            fund = f"{format_cnpj(job.request.document)} {names.get(job.request.document, '')}".strip()
            rows.append((thread, fund, job.request.month_year, duration(now - begun_at.get(thread, now))))
    return Table(("thread", "fund", "month", "since"), rows)


class _Controls:
    """The widgets: what the view shows, and two buttons."""

    def __init__(self, dashboard: Dashboard, widgets: Any) -> None:
        self._html = widgets.HTML()
        self._pause = widgets.Button(description="Pause", icon="pause", tooltip="Receive and begin nothing more")
        self._stop = widgets.Button(
            description="Stop", icon="stop", button_style="danger", tooltip="Finish what is in hand, and end"
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
    # Without waiting: the click may be handled by the thread that a cell's own stop() waits for.
    dashboard._subscriber.request_stop()


Subscriber.dashboard_factory = Dashboard

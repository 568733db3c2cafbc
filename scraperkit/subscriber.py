"""Hosts a worker in a background thread."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any, ClassVar, Protocol, Self

import redis as redis_py

from scraperkit.config import Settings
from scraperkit.engine import hosting
from scraperkit.engine.redis_retry import AWAY
from scraperkit.engine.worker import Listen, Worker
from scraperkit.errors import ConfigError, RedisUnreachable, ScraperKitError, WorkerError
from scraperkit.health import Health
from scraperkit.sources.base import Source
from scraperkit.view import NotebookRepr, View

_PAUSE_SECONDS = 2.0


class LiveView(Protocol):
    """A view that refreshes by itself while its subscriber works.

    Attributes
    ----------
    closed : bool
        Whether it has been closed, so that it does not refresh any more.
    """

    closed: bool

    def follow(self) -> None:
        """Start refreshing: the subscriber has started."""

    def rest(self) -> None:
        """Stop refreshing: the subscriber has stopped."""

    def close(self) -> None:
        """Stop refreshing for good."""


class Subscriber(NotebookRepr):
    """A worker in the background of a notebook or a script.

    Listens to the job stream and to the channel, has threads fetch the pages, and stores the quotes. It opens
    connections of its own; the client it is given stays yours.

    Parameters
    ----------
    redis : redis.Redis
        From :func:`scraperkit.connect`.
    source : Source
        :class:`scraperkit.CvmPages`, or any object with ``fetch(request)``.
    threads : int, optional
        How many pages are fetched at once; default ``SCRAPERKIT_THREADS``, else 8.
    delivery : {"both", "stream", "pubsub"}
        What to listen to.
    claim : bool
        Pub/Sub only: ``True`` lets one of all workers do a message, ``False`` shows the fan-out.
    namespace, name : str, optional
        Where to work, and the consumer's name.

    Examples
    --------
    >>> with Subscriber(redis, source, threads=2, namespace=namespace) as subscriber:
    ...     batch = Publisher(redis, namespace=namespace).publish(fund.months("2022-01", "2022-03"))
    ...     print(batch.wait(60))
    3 published, 3 done
    """

    #: Makes what :meth:`dashboard` returns; :mod:`scraperkit.notebook.dashboard` registers itself here.
    dashboard_factory: ClassVar[Callable[[Subscriber, redis_py.Redis, float], Any] | None] = None

    def __init__(
        self,
        redis: redis_py.Redis,
        source: Source,
        *,
        threads: int | None = None,
        delivery: Listen = "both",
        claim: bool = True,
        namespace: str | None = None,
        name: str | None = None,
        settings: Settings | None = None,
    ) -> None:
        self._redis = redis
        self.worker = Worker(
            redis,
            source,
            threads=threads,
            delivery=delivery,
            claim=claim,
            namespace=namespace,
            name=name,
            settings=settings,
        )
        self.namespace = self.worker.keys.namespace
        self.error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._ended = threading.Event()
        self._given_up = False
        self._views: list[LiveView] = []

    @property
    def running(self) -> bool:
        """Whether it works now, or rests."""
        return self._thread is not None and self._thread.is_alive() and not self.crashed

    @property
    def paused(self) -> bool:
        """Whether it rests."""
        return self.running and self.worker.paused

    @property
    def crashed(self) -> bool:
        """Whether it died because :meth:`crash_next` had asked for that."""
        return bool(self.worker.crashed_as)

    @property
    def name(self) -> str:
        """The consumer's name, known once it has started."""
        return self.worker.name

    @property
    def outcomes(self) -> Counter[str]:
        """How many jobs came to which outcome so far: done, retry, failed, dead, ignored, superseded."""
        return Counter(self.worker.outcomes)

    def start(self) -> Self:
        """Start listening; returns once the server has confirmed the subscription. Does nothing if it runs.

        Raises
        ------
        RedisUnreachable
            If Redis is away now; once started, a subscriber waits for it instead.
        """
        if self.running:
            return self
        if self._thread is not None:
            # One that crashed a moment ago may be on its way out, and would take the new one's connections along.
            self._ended.wait()
            self._thread.join()
        self.error = None
        self._given_up = False
        self._ready.clear()
        self._ended.clear()
        self._thread = threading.Thread(target=self._host, name="scraperkit-engine", daemon=True)
        hosting.add(self)
        self._thread.start()
        try:
            self._ready.wait()
        except BaseException:
            # Else it would begin to work once Redis answers, and nobody would know.
            self._given_up = True
            self.worker.request_stop(0)
            raise
        self._raise()
        for view in self._views:
            view.follow()
        return self

    def request_stop(self, deadline: float | None = None) -> None:
        """Ask it to stop, without waiting; :meth:`stop` waits."""
        self.worker.request_stop(deadline)

    def stop(self, deadline: float | None = None) -> None:
        """Finish what is in hand, hand back the rest, end all threads. Does nothing if it does not run.

        Parameters
        ----------
        deadline : float, optional
            Seconds given to the jobs in hand; default ``SCRAPERKIT_STOP_DEADLINE``, else 10.

        Raises
        ------
        WorkerError
            If the engine had failed.
        """
        thread = self._thread
        if thread is not None and thread.is_alive():
            self.worker.request_stop(deadline)
            # Interrupted here, it can be stopped once more; after an interrupted join, Python 3.11 takes it for ended.
            self._ended.wait()
            thread.join()
        self._thread = None
        for view in self._views:
            view.rest()
        hosting.discard(self)
        self._raise()

    def pause(self) -> None:
        """Receive and begin nothing more, until :meth:`resume`; what is published from now on waits, or goes to others.

        What threads are at is finished. What else is in hand is kept, and the heart beats, so nobody takes it over.
        Returns once no message can arrive here any more. A stop ends the pause.
        """
        self.worker.pause()
        self.worker.wait_until_paused(_PAUSE_SECONDS)

    def resume(self) -> None:
        """End a pause."""
        self.worker.resume()

    def crash_next(self) -> None:
        """Die of the next job that is received, as a killed process would: for lessons.

        Once the page is fetched, and before anything of it is stored, connections are dropped and all falls silent:
        nothing is acknowledged or handed back, nobody is told. Your own process goes on, and ``stop()`` raises
        nothing. Another subscriber takes over what was in hand when its ``lease`` has run out (the stream); what came
        by Pub/Sub is lost, and the batch says so once three heartbeats were missed.

        Examples
        --------
        >>> hasty = Settings.load(namespace=namespace, lease=0.5, heartbeat=0.1)
        >>> doomed = Subscriber(redis, source, threads=1, settings=hasty).start()
        >>> doomed.crash_next()
        >>> batch = Publisher(redis, namespace=namespace).publish(fund.months("2022-05", "2022-06"))
        >>> with Subscriber(redis, source, threads=1, settings=hasty):
        ...     print(batch.wait(60))
        2 published, 2 done
        >>> doomed.stop()
        """
        self.worker.crash_next()

    def attach(self, view: LiveView) -> None:
        """Have a live view follow this subscriber until the view is closed."""
        self._views = [each for each in self._views if not each.closed] + [view]
        if self.running:
            view.follow()

    def dashboard(self, every: float = 0.5) -> Any:
        """Return a :class:`scraperkit.Dashboard`: threads, queue, rate and failures, refreshed while this works.

        It shows what each thread is at and since when, also while a cell waits for a batch, and has buttons to pause
        and to stop. The kernel hears a click once no cell runs; interrupt it to end a wait. It needs ipywidgets: where
        that is missing, what is shown is how things stood at that moment.

        Parameters
        ----------
        every : float
            Seconds between two looks.

        Examples
        --------
        >>> with Subscriber(redis, source, threads=2, namespace=namespace, name="anna") as subscriber:
        ...     dashboard = subscriber.dashboard()
        >>> dashboard
        <Dashboard of a subscriber: stopped>
        """
        make = type(self).dashboard_factory
        if make is None:
            raise ConfigError("dashboard: none is registered; import scraperkit.notebook first")
        return make(self, self._redis, every)

    def health(self) -> Health:
        """Return how this subscriber's namespace is doing: workers, queue, failures."""
        return Health.read(self._redis, namespace=self.namespace)

    @property
    def state(self) -> str:
        """What it does, in a few words."""
        if self.crashed:
            return f"{self.worker.crashed_as} crashed, as it was asked to"
        if not self.running:
            return "stopped"
        return f"{self.name} is paused" if self.paused else f"{self.name} listens"

    def _host(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:  # noqa: BLE001 - kept, and raised where the user can see it
            self.error = error
        else:
            hosting.discard(self)
        finally:
            self._ready.set()
            self._ended.set()

    async def _main(self) -> None:
        await self.worker.start()
        if self._given_up:
            self.worker.request_stop(0)
        self._ready.set()
        await self.worker.run()

    def _raise(self) -> None:
        error, self.error = self.error, None
        if error is None:
            return
        hosting.discard(self)
        if isinstance(error, ScraperKitError):
            raise error
        if isinstance(error, AWAY):
            raise RedisUnreachable(f"the subscriber could not start, Redis does not answer: {error}") from error
        raise WorkerError(f"the subscriber failed: {type(error).__name__}: {error}") from error

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        except ScraperKitError as engine_error:
            if error is None:
                raise
            error.add_note(f"besides, the subscriber's engine had failed: {engine_error}")

    def __repr__(self) -> str:
        settled = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.outcomes.items())) or "nothing yet"
        return f"<Subscriber {self.state}: {settled}>"

    def _view(self) -> View:
        worker = self.worker
        busy = ("threads", f"{len(worker.busy)} busy of {worker.settings.threads}")
        outcomes = [(outcome, str(count)) for outcome, count in sorted(self.outcomes.items())]
        facts = (busy, ("in hand", str(len(worker.held))), *(outcomes or [("settled", "nothing yet")]))
        return View("Subscriber", self.state, facts)

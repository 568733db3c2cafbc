"""Host a worker in a background thread."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, ClassVar, Protocol, Self

import redis as redis_py

from scraperkit.config import Settings
from scraperkit.engine import hosting
from scraperkit.engine.redis_retry import AWAY
from scraperkit.engine.worker import Worker
from scraperkit.errors import ConfigError, RedisUnreachable, ScraperKitError, WorkerError
from scraperkit.health import Health
from scraperkit.keys import Listen
from scraperkit.sources.base import Source
from scraperkit.view import NotebookRepr, View

_PAUSE_SECONDS = 2.0


class LiveView(Protocol):
    """A view that refreshes itself while its subscriber runs.

    Attributes
    ----------
    closed : bool
        Whether it has been closed and no longer refreshes.
    """

    closed: bool

    def follow(self) -> None:
        """Start refreshing: the subscriber has started."""

    def rest(self) -> None:
        """Stop refreshing: the subscriber has stopped."""

    def close(self) -> None:
        """Stop refreshing permanently."""


class Subscriber(NotebookRepr):
    """A background worker for a notebook or a script.

    It listens to the job stream and the channel, fetches pages in threads, and stores the quotes. It opens its own
    connections and leaves your client open.

    Parameters
    ----------
    redis : redis.Redis
        From :func:`scraperkit.connect`.
    source : Source or sequence of Source
        :class:`scraperkit.CvmPages`, or any object with ``fetch(request)``. Of several, each handles its own
        requests on `threads` threads.
    threads : int, optional
        Number of pages to fetch at once; default ``SCRAPERKIT_THREADS``, else 8.
    delivery : {"both", "stream", "pubsub"}
        What to listen to.
    claim : bool
        Pub/Sub only: ``True`` has one worker process each message, ``False`` has every worker do so (fan-out).
    namespace, name : str, optional
        The namespace, and the consumer's name.

    Examples
    --------
    >>> with Subscriber(redis, source, threads=2, namespace=namespace) as subscriber:
    ...     batch = Publisher(redis, namespace=namespace).publish(fund.months("2022-01", "2022-03"))
    ...     print(batch.wait(60))
    3 published, 3 done
    """

    #: Creates the dashboard for :meth:`dashboard`; :mod:`scraperkit.notebook.dashboard` registers itself here.
    _make_dashboard: ClassVar[Callable[[Subscriber, redis_py.Redis, float], Any] | None] = None

    def __init__(
        self,
        redis: redis_py.Redis,
        source: Source | Sequence[Source],
        *,
        threads: int | None = None,
        delivery: Listen = "both",
        claim: bool = True,
        namespace: str | None = None,
        name: str | None = None,
        settings: Settings | None = None,
    ) -> None:
        self._redis = redis
        sources = list(source) if isinstance(source, Sequence) else [source]
        self.workers = tuple(
            Worker(
                redis,
                each,
                threads=threads,
                delivery=delivery,
                claim=claim,
                namespace=namespace,
                name=name,
                settings=settings,
            )
            for each in sources
        )
        names = [worker.keys.source for worker in self.workers]
        if not names or len(set(names)) < len(names):
            told = "none given" if not names else f"two are called {max(names, key=names.count)}"
            raise ConfigError(f"source: {told}; give one or more sources, each with its own name")
        for worker in self.workers:
            worker.on_crash = self._crash
        self.worker = self.workers[0]
        self.namespace = self.worker.keys.namespace
        self.error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._ended = threading.Event()
        self._given_up = False
        self._views: list[LiveView] = []

    @property
    def running(self) -> bool:
        """Whether it is running, paused or not."""
        return self._thread is not None and self._thread.is_alive() and not self.crashed

    @property
    def paused(self) -> bool:
        """Whether it is paused."""
        return self.running and all(worker.paused for worker in self.workers)

    @property
    def crashed(self) -> bool:
        """Whether it crashed, as requested by :meth:`crash_next`."""
        return any(worker.crashed_as for worker in self.workers)

    @property
    def name(self) -> str:
        """The consumer's name, available after the start."""
        return self.worker.name

    @property
    def outcomes(self) -> Counter[str]:
        """Number of jobs by outcome so far: done, not_offered, retry, failed, dead, ignored, superseded."""
        return sum((worker.outcomes for worker in self.workers), Counter())

    def start(self) -> Self:
        """Start listening, and return once the server confirms the subscription. Does nothing if it is running.

        Raises
        ------
        RedisUnreachable
            If Redis is unreachable now; once started, a subscriber waits for it instead.
        """
        if self.running:
            return self
        if self._thread is not None:
            # A worker that has just crashed may still be shutting down, and would close the new one's connections.
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
            # Otherwise it would start working unnoticed once Redis responds.
            self._given_up = True
            self.request_stop(0)
            raise
        self._raise()
        for view in self._views:
            view.follow()
        return self

    def request_stop(self, deadline: float | None = None) -> None:
        """Request a stop without waiting; :meth:`stop` waits."""
        for worker in self.workers:
            worker.request_stop(deadline)

    def stop(self, deadline: float | None = None) -> None:
        """Finish running jobs, return the rest to the queue, and end all threads. Does nothing if it is not running.

        Parameters
        ----------
        deadline : float, optional
            Seconds that running jobs get to finish; default ``SCRAPERKIT_STOP_DEADLINE``, else 10.

        Raises
        ------
        WorkerError
            If the engine failed earlier.
        """
        thread = self._thread
        if thread is not None and thread.is_alive():
            self.request_stop(deadline)
            # Interrupting this wait is harmless; after an interrupted join, Python 3.11 considers the thread ended.
            self._ended.wait()
            thread.join()
        self._thread = None
        for view in self._views:
            view.rest()
        hosting.discard(self)
        self._raise()

    def pause(self) -> None:
        """Stop receiving and starting jobs until :meth:`resume`; new messages wait, or go to other workers.

        Running jobs finish. Other received jobs stay here: heartbeats continue, so no worker takes them over.
        Returns once no more messages can arrive. A stop ends the pause. A pause before the
        first start holds after it; pausing a subscriber that has stopped or crashed has no effect.
        """
        for worker in self.workers:
            worker.pause()
        for worker in self.workers:
            worker.wait_until_paused(_PAUSE_SECONDS)

    def resume(self) -> None:
        """Resume work after a pause."""
        for worker in self.workers:
            worker.resume()

    def crash_next(self) -> None:
        """Crash on the next job received, from any source, as a killed process would; for lessons.

        After fetching the page, but before storing anything, it drops its connections: nothing is acknowledged, handed
        back or reported. Your own process continues, and ``stop()`` raises nothing. After three missed heartbeats,
        another subscriber takes over its stream jobs, and its Pub/Sub jobs count as lost. Started again, it is a new
        worker. This does nothing to a subscriber that has stopped or crashed.

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
        for worker in self.workers:
            worker.crash_next()

    def _crash(self) -> None:
        """Crash all workers along with the one that crashes: they are one process."""
        for worker in self.workers:
            worker.crash()

    def attach(self, view: LiveView) -> None:
        """Attach a live view that follows this subscriber until the view is closed."""
        self._views = [each for each in self._views if not each.closed] + [view]
        if self.running:
            view.follow()

    def dashboard(self, every: float = 0.5) -> Any:
        """Return a live :class:`scraperkit.Dashboard` of threads, queue, rate and failures.

        It shows each thread's job and its duration, even while a cell waits for a batch, and has buttons to pause and
        stop. The kernel handles a click only when no cell is running; interrupt it to end a wait. Without ipywidgets,
        the dashboard is a snapshot.

        Parameters
        ----------
        every : float
            Seconds between refreshes.

        Examples
        --------
        >>> with Subscriber(redis, source, threads=2, namespace=namespace, name="anna") as subscriber:
        ...     dashboard = subscriber.dashboard()
        >>> dashboard
        <Dashboard of a subscriber: stopped>
        """
        make = type(self)._make_dashboard
        if make is None:
            raise ConfigError("dashboard: not loaded; import scraperkit.notebook first")
        return make(self, self._redis, every)

    def health(self) -> Health:
        """Return the health of this subscriber's namespace: workers, queue, failures."""
        return Health.read(self._redis, namespace=self.namespace)

    @property
    def state(self) -> str:
        """Current state, in a few words."""
        if self.crashed:
            return f"{next(worker.crashed_as for worker in self.workers if worker.crashed_as)} crashed on request"
        if not self.running:
            return "stopped"
        return f"{self.name} is paused" if self.paused else f"{self.name} is listening"

    def _host(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:  # noqa: BLE001 - stored, and raised in the user's thread
            self.error = error
        else:
            hosting.discard(self)
        finally:
            self._ready.set()
            self._ended.set()

    async def _main(self) -> None:
        started: list[Worker] = []
        try:
            for worker in self.workers:
                await worker.start()
                started.append(worker)
        except BaseException:
            await asyncio.gather(*(worker.close() for worker in started), return_exceptions=True)
            raise
        if self._given_up:
            self.request_stop(0)
        self._ready.set()
        # All wind up, even after another's error: a cancelled worker would hand nothing back.
        for error in await asyncio.gather(*map(self._run, self.workers), return_exceptions=True):
            if error is not None:
                raise error

    async def _run(self, worker: Worker) -> None:
        """Run one worker; if it fails, stop the others."""
        try:
            await worker.run()
        except BaseException:
            self.request_stop()
            raise

    def _raise(self) -> None:
        error, self.error = self.error, None
        if error is None:
            return
        hosting.discard(self)
        if isinstance(error, ScraperKitError):
            raise error
        if isinstance(error, AWAY):
            raise RedisUnreachable(f"the subscriber could not start; check that Redis is running: {error}") from error
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
            error.add_note(f"the subscriber's engine had failed too: {engine_error}")

    def __repr__(self) -> str:
        settled = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.outcomes.items())) or "nothing yet"
        return f"<Subscriber {self.state}: {settled}>"

    def _view(self) -> View:
        threads = sum(worker.settings.threads for worker in self.workers)
        busy = ("threads", f"{sum(len(worker.busy) for worker in self.workers)} busy of {threads}")
        outcomes = [(outcome, str(count)) for outcome, count in sorted(self.outcomes.items())]
        facts = (
            busy,
            ("in hand", str(sum(len(worker.held) for worker in self.workers))),
            *(outcomes or [("settled", "nothing yet")]),
        )
        return View("Subscriber", self.state, facts)

"""Work without the regulator's site: make a replica the default of this process."""

from __future__ import annotations

import atexit
import datetime as dt
import os
import shutil
import tempfile
import threading
from types import TracebackType
from typing import Self

from scraperkit.config import Settings
from scraperkit.replica import Replica
from scraperkit.view import NotebookRepr, View

_SUFFIX = "-offline"
INVENTED_UNTIL = dt.date(2023, 12, 31)  # of the replica's pages
_guard = threading.Lock()
_current: Offline | None = None


class Offline(NotebookRepr):
    """The replica that this process uses instead of the real sites. Get it from :func:`offline`.

    Attributes
    ----------
    replica : Replica
        Its methods make it slow or faulty, or restate figures.
    """

    def __init__(self) -> None:
        self.replica = Replica.start()
        self.replica.portal.crawl_delay = 0
        self._archive = tempfile.mkdtemp(prefix="scraperkit-offline-")
        # The environment, so that child processes follow.
        self._variables = self.replica.settings | {
            "SCRAPERKIT_OFFLINE": "1",
            "SCRAPERKIT_ARCHIVE": self._archive,
            # Invented figures must never mix with real ones.
            "SCRAPERKIT_NAMESPACE": offline_namespace(Settings.load().namespace),
        }
        self._before = {name: os.environ.get(name) for name in self._variables}
        os.environ |= self._variables

    @property
    def running(self) -> bool:
        """Whether it is still the default of this process."""
        return _current is self

    def stop(self) -> None:
        """Stop the replica and restore the defaults. May be called twice."""
        global _current
        with _guard:
            if _current is not self:
                return
            _current = None
            for name, value in self._before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
            self.replica.stop()
            shutil.rmtree(self._archive, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<Offline: {self.replica.url if self.running else 'stopped'}>"

    def _view(self) -> View:
        if not self.running:
            return View("Offline", "stopped: the regulator's site is the default again")
        facts = (
            ("pages", self.replica.url),
            ("files", self.replica.open_data_url),
            ("namespace", self._variables["SCRAPERKIT_NAMESPACE"]),
        )
        return View("Offline", "invented figures, in place of the regulator's", facts)


def offline_namespace(namespace: str) -> str:
    """Return the namespace for invented figures beside a namespace for real ones."""
    return namespace.removesuffix(_SUFFIX) + _SUFFIX


def is_offline() -> bool:
    """Return whether figures are invented: after :func:`offline`, or in a shell that uses the offline site."""
    return Settings.load().offline


def offline() -> Offline:
    """Work offline: start a replica of the regulator's site, with invented figures, and make it the default.

    From then on, until :meth:`Offline.stop` or the end of the process, this process and its children read the replica's
    pages, files and rates. They use a separate namespace in Redis, which ends in ``-offline``, so that invented figures
    never mix with real ones. Calling it again returns the same object.

    Returns
    -------
    Offline
        For a ``with`` block, or to stop it.

    Examples
    --------
    >>> import scraperkit as sk
    >>> with sk.offline():
    ...     prices = sk.prices("18.993.924/0001-00", "2022-01", "2022-03")
    >>> prices.shape
    (62, 1)
    """
    global _current
    with _guard:
        if _current is None:
            _current = Offline()
            atexit.register(_current.stop)
        return _current

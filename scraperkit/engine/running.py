"""The subscribers of this process: so that none outlives it, and no engine's error stays unseen."""

from __future__ import annotations

import atexit
import contextlib
import threading
import weakref
from typing import Protocol


class Running(Protocol):
    """What is asked of a subscriber here."""

    namespace: str
    error: BaseException | None

    @property
    def name(self) -> str:
        """The consumer's name."""

    def request_stop(self, deadline: float | None = None) -> None:
        """Ask it to end, without waiting."""

    def stop(self, deadline: float | None = None) -> None:
        """End it."""


# Jupyter terminates a kernel two and a half seconds after it asked it to end.
_EXIT_DEADLINE = 1.0
_running: weakref.WeakSet[Running] = weakref.WeakSet()
_lock = threading.Lock()
_registered = False


def add(subscriber: Running) -> None:
    """Remember a subscriber until it is stopped; the first one arranges for a tidy end of the process."""
    global _registered
    with _lock:
        _running.add(subscriber)
        if not _registered:
            atexit.register(_stop_all)
            _registered = True


def discard(subscriber: Running) -> None:
    """Forget a subscriber."""
    with _lock:
        _running.discard(subscriber)


def subscribers_of(namespace: str) -> list[Running]:
    """Return the subscribers of this process that work in a namespace and have not been stopped."""
    with _lock:
        return [each for each in _running if each.namespace == namespace]


def raise_engine_error(namespace: str) -> None:
    """Raise the error of any subscriber of this process and namespace whose engine failed."""
    with _lock:
        errors = [each.error for each in _running if each.namespace == namespace and each.error is not None]
    if errors and errors[0] is not None:
        raise errors[0]


def _stop_all() -> None:
    with _lock:
        subscribers = list(_running)
    for subscriber in subscribers:
        subscriber.request_stop(_EXIT_DEADLINE)
    for subscriber in subscribers:
        with contextlib.suppress(Exception):
            subscriber.stop(_EXIT_DEADLINE)

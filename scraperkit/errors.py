"""Every exception that the kit raises, as one tree.

.. code-block:: text

    ScraperKitError
    ├── ConfigError                invalid setting or argument
    │   └── NothingThere           no stored data to do it with
    ├── RedisError
    │   ├── RedisUnreachable       no response at the address, or wrong password
    │   ├── RedisRefused           Redis responds, but refuses a command
    │   │   └── StoreError         Redis rejected a sample or a key
    │   ├── TimeSeriesMissing      Redis responds, but without TS.* commands
    │   └── EmbeddedRedisError     the embedded server cannot be installed or started
    ├── BadMessage                 a message failed validation
    ├── UnknownFund                nothing is stored for that CNPJ
    ├── SourceError                a page could not be turned into quotes; has ``url``
    │   ├── SiteUnavailable        no response, or 429 and 5xx, after all retries (``retryable``)
    │   ├── NotACvmPage            the response is not the requested page (``retryable``)
    │   ├── PageChanged            the page has an unknown layout
    │   ├── WrongFund              the page shows another fund
    │   ├── WrongMonth             the page shows another month (``retryable``)
    │   ├── MonthNotOffered        the site has no such month for this fund
    │   ├── FundNotFound           the search finds no such CNPJ
    │   ├── FileRefused            a file of the open data is not as expected; stored data remains
    │   └── RateRefused            a service's response about a rate is not as expected; stored data remains
    ├── ArchiveError               the archive of the open data cannot be read or written
    │   └── NotDownloaded          the archive has none of the requested months
    ├── BatchError
    │   ├── BatchNotFound          no such batch, or it has expired
    │   └── BatchTimeout           ``wait(timeout)`` ended before the batch did
    └── WorkerError                the engine itself failed, not a job

:class:`ScraperKitWarning` is issued when work continues but something is lost or ignored.

Every message names the field, the page or the key, and says what to do.
"""

from __future__ import annotations

import sys
import warnings

from scraperkit.text import printable

__all__ = [
    "ArchiveError",
    "BadMessage",
    "BatchError",
    "BatchNotFound",
    "BatchTimeout",
    "ConfigError",
    "EmbeddedRedisError",
    "FileRefused",
    "FundNotFound",
    "MonthNotOffered",
    "NotACvmPage",
    "NotDownloaded",
    "NothingThere",
    "PageChanged",
    "RateRefused",
    "RedisError",
    "RedisRefused",
    "RedisUnreachable",
    "ScraperKitError",
    "ScraperKitWarning",
    "SiteUnavailable",
    "SourceError",
    "StoreError",
    "TimeSeriesMissing",
    "UnknownFund",
    "WorkerError",
    "WrongFund",
    "WrongMonth",
]


class _Printable:
    """Mixin that escapes control characters, since an error may quote a page or a message."""

    args: tuple[object, ...]

    def __str__(self) -> str:
        text = str(self.args[0]) if len(self.args) == 1 else super().__str__()
        return printable(text, keep="\n\t")


class ScraperKitError(_Printable, Exception):
    """Base class: ``except ScraperKitError`` catches everything the kit raises on purpose."""


class ScraperKitWarning(_Printable, UserWarning):
    """Work continues, but something is lost or ignored."""


class ConfigError(ScraperKitError, ValueError):
    """A setting, an environment variable or an argument is invalid."""


class NothingThere(ConfigError, LookupError):
    """No stored data is there, or is left, for the request."""


class RedisError(ScraperKitError):
    """Redis is unreachable, lacks something, or rejected a command."""


class RedisUnreachable(RedisError, ConnectionError):
    """No Redis responds at the address, or the password is wrong."""


class RedisRefused(RedisError):
    """Redis responds but refuses: it is full or a replica, or this user lacks a right; the message says what helps."""


class TimeSeriesMissing(RedisError):
    """The server responds, but has no ``TS.*`` commands."""


class EmbeddedRedisError(RedisError):
    """The embedded server cannot be installed, started or stopped."""


class StoreError(RedisRefused):
    """Redis rejected a sample; the message names the series."""


class BadMessage(ScraperKitError, ValueError):
    """A message failed validation; the error lists every invalid field."""


class UnknownFund(ScraperKitError, KeyError):
    """Nothing is stored for that CNPJ."""


class SourceError(ScraperKitError):
    """A page could not be turned into quotes.

    Attributes
    ----------
    url : str
        The page's address, nothing else.
    retryable : bool
        Whether a later retry may succeed; ``False`` ends a job at once.
    """

    retryable = False

    def __init__(self, message: str, url: str = "") -> None:
        super().__init__(f"{message} [{url}]" if url else message)
        self.url = url


WITHOUT_SITE = "to work without the site, call sk.offline() first; in a shell, see `scraperkit replica --help`"


class SiteUnavailable(SourceError):
    """No response, or 429 and 5xx, after all retries; a note below the traceback says how to work without the site."""

    retryable = True

    def __init__(self, message: str, url: str = "") -> None:
        super().__init__(message, url)
        self.add_note(WITHOUT_SITE)


class NotACvmPage(SourceError):
    """The response lacks the element ids of the requested page."""

    retryable = True


class PageChanged(SourceError):
    """The page has an unknown layout: a heading or a cell is not as expected."""


class WrongFund(SourceError):
    """The page shows a different fund from the one requested."""


class WrongMonth(SourceError):
    """The page shows a different month from the one requested."""

    retryable = True


class MonthNotOffered(SourceError):
    """The site has no such month for this fund."""


class FundNotFound(SourceError):
    """The site's search finds no such CNPJ."""


class FileRefused(SourceError):
    """A file of the open data is not as expected; none of it is used, and stored data remains."""


class RateRefused(SourceError):
    """A service's response about a rate is not as expected; none of it is used, and stored data remains."""


class ArchiveError(ScraperKitError):
    """The archive of the open data cannot be read or written; the message names the folder."""


class NotDownloaded(ArchiveError, LookupError):
    """The archive has none of the requested months; download them first."""


class BatchError(ScraperKitError):
    """Base class for errors about a batch."""


class BatchNotFound(BatchError, LookupError):
    """No such batch in this namespace, or it has expired."""


class BatchTimeout(BatchError, TimeoutError):
    """``wait(timeout)`` ended before the batch did."""


class WorkerError(ScraperKitError):
    """The engine itself failed; an error in a job only fails that job."""


def __dir__() -> list[str]:
    return __all__


_INNER = ("scraperkit.", "contextlib")
_FULL = "Redis is full: raise its maxmemory, or delete what is no longer needed, then try again"
_RIGHTS = "grant this user the right (ACL SETUSER), or use another user"
_LEAVE_REPLICA = "connect to the primary of this replica"
# By the first word of a refusal, or by redis-py's class for it, since redis-py cuts that word off.
_WAYS_BY_CODE = {
    "OOM": _FULL,
    "OutOfMemoryError": _FULL,
    "NOPERM": _RIGHTS,
    "NoPermissionError": _RIGHTS,
    "READONLY": _LEAVE_REPLICA,
    "ReadOnlyError": _LEAVE_REPLICA,
    "Demoted": _LEAVE_REPLICA,
    "MASTERDOWN": "connect to the primary: this is a replica that has lost it",
    "MISCONF": "free space on the disk of Redis, or correct its save settings, then try again",
    "NOREPLICAS": "bring its replicas back, or lower min-replicas-to-write, then try again",
    "BUSY": "a script hangs there: end it with SCRIPT KILL",
    "WRONGTYPE": "that key is not the kit's: rename it, or choose another SCRAPERKIT_NAMESPACE",
}


def warn(text: str) -> None:
    """Issue a warning at the line of user code that called the kit."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).startswith(_INNER):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, ScraperKitWarning, stacklevel=level)


def notes_of(error: Exception) -> list[str]:
    """Return the notes of an error, which say what to do about it."""
    return getattr(error, "__notes__", [])


def way_out_of(refusal: Exception) -> str:
    """Return the remedy for a refusal of Redis, as the second half of a sentence; empty if none is known.

    Examples
    --------
    >>> way_out_of(Exception("READONLY You can't write against a read only replica."))
    '; connect to the primary of this replica'
    """
    why = str(refusal).rpartition("caused error: ")[2]  # redis-py's prefix for a command in a pipeline
    way = _WAYS_BY_CODE.get(type(refusal).__name__) or _WAYS_BY_CODE.get(why.partition(" ")[0])
    return f"; {way}" if way else ""

"""Everything that the kit raises, as one tree.

.. code-block:: text

    ScraperKitError
    ├── ConfigError                a setting or an argument does not fit
    ├── RedisError
    │   ├── RedisUnreachable       nobody answers at the address
    │   ├── TimeSeriesMissing      Redis answers, but without TS.* commands
    │   ├── EmbeddedRedisError     the embedded server cannot be installed or started
    │   └── StoreError             Redis refused a sample or a key
    ├── BadMessage                 a message that does not validate
    ├── UnknownFund                nothing is stored for that CNPJ
    ├── SourceError                a page could not be turned into quotes; has ``url``
    │   ├── SiteUnavailable        no answer, or 429 and 5xx, after all retries (``retryable``)
    │   ├── NotACvmPage            the answer is not the page that was asked for (``retryable``)
    │   ├── PageChanged            the page is there, but its table is not as known
    │   ├── WrongFund              the page shows another fund
    │   ├── WrongMonth             the page shows another month (``retryable``)
    │   ├── MonthNotOffered        the site has no such month for this fund
    │   └── FundNotFound           the search knows no such CNPJ
    ├── BatchError
    │   ├── BatchNotFound          no such batch, or it has expired
    │   └── BatchTimeout           ``wait(timeout)`` ended before the batch did
    └── WorkerError                the engine itself failed, not a job

Besides, :class:`ScraperKitWarning` is warned where work goes on but something is lost or ignored.

Every message names the field, the page or the key, and says what to do.
"""

from __future__ import annotations

__all__ = [
    "BadMessage",
    "BatchError",
    "BatchNotFound",
    "BatchTimeout",
    "ConfigError",
    "EmbeddedRedisError",
    "FundNotFound",
    "MonthNotOffered",
    "NotACvmPage",
    "PageChanged",
    "RedisError",
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


class ScraperKitError(Exception):
    """The root: ``except ScraperKitError`` catches all that the kit raises on purpose."""


class ScraperKitWarning(UserWarning):
    """Work goes on, but something is lost or ignored."""


class ConfigError(ScraperKitError, ValueError):
    """A setting, an environment variable or an argument does not fit."""


class RedisError(ScraperKitError):
    """Redis is away, lacks something, or refused a command."""


class RedisUnreachable(RedisError, ConnectionError):
    """Nobody answers at the address, or the password is wrong."""


class TimeSeriesMissing(RedisError):
    """The server answers, but has no ``TS.*`` commands."""


class EmbeddedRedisError(RedisError):
    """The embedded server cannot be installed, started or stopped."""


class StoreError(RedisError):
    """Redis refused a sample; the message names the series."""


class BadMessage(ScraperKitError, ValueError):
    """A message that does not validate; the text lists every field that is wrong."""


class UnknownFund(ScraperKitError, KeyError):
    """Nothing is stored for that CNPJ."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class SourceError(ScraperKitError):
    """A page could not be turned into quotes.

    Attributes
    ----------
    url : str
        The page. Never holds anything but the address.
    retryable : bool
        Whether asking again later may help. ``False`` sends a job straight to the dead letters.
    """

    retryable = False

    def __init__(self, message: str, url: str = "") -> None:
        super().__init__(f"{message} [{url}]" if url else message)
        self.url = url


class SiteUnavailable(SourceError):
    """No answer, or 429 and 5xx, after all retries."""

    retryable = True


class NotACvmPage(SourceError):
    """The answer lacks the ids that make it the page that was asked for."""

    retryable = True


class PageChanged(SourceError):
    """The page is there, but a heading or a cell is not as known."""


class WrongFund(SourceError):
    """The page shows another fund than the one asked for."""


class WrongMonth(SourceError):
    """The page shows another month than the one asked for."""

    retryable = True


class MonthNotOffered(SourceError):
    """The site has no such month for this fund."""


class FundNotFound(SourceError):
    """The site's search knows no such CNPJ."""


class BatchError(ScraperKitError):
    """Something about a batch."""


class BatchNotFound(BatchError, LookupError):
    """No such batch in this namespace, or it has expired."""


class BatchTimeout(BatchError, TimeoutError):
    """``wait(timeout)`` ended before the batch did."""


class WorkerError(ScraperKitError):
    """The engine itself failed: not a job, whose errors only fail that job."""


def __dir__() -> list[str]:
    return __all__

"""The only place that builds the names of channels, streams and keys."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal, Self

from scraperkit.errors import ConfigError

DEFAULT_NAMESPACE = "scraperkit"
CHANNEL = "fund_parser"
RATE_LIMITS = "scraperkit:rate"
# The source of requests that name none: the regulator's pages.
DEFAULT_SOURCE = "cvm_pages"
# How a message is delivered, and what a worker listens to.
DeliveryName = Literal["stream", "pubsub"]
Listen = Literal["both", "stream", "pubsub"]
SOURCE_NAME = r"[A-Za-z0-9_-]{1,100}"
_NAMESPACE_TEXT = re.compile(r"[A-Za-z0-9_.-]{1,100}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Keys:
    """Names of everything that the kit keeps in Redis for one namespace, as one source sees it.

    Each source has its own job stream, retries and workers, so no worker receives a job that it cannot do. The sources
    of a namespace share everything else. The default namespace's channel is plain ``fund_parser``, so you can
    publish by hand. Redis shares channels across all databases, so every other namespace has its own channel.

    Examples
    --------
    >>> Keys("lesson").series("18993924000100", "quota")
    'lesson:{18993924000100}:quota'
    >>> Keys("lesson").series("18993924000100:Z2HFZ1734468953", "quota")
    'lesson:{18993924000100}:Z2HFZ1734468953:quota'
    >>> Keys("lesson").jobs, Keys("lesson", "open_data").jobs
    ('lesson:jobs', 'lesson:jobs:open_data')
    >>> Keys("lesson").channel, Keys().channel
    ('lesson:fund_parser', 'fund_parser')
    """

    namespace: str = DEFAULT_NAMESPACE
    source: str = DEFAULT_SOURCE

    def __post_init__(self) -> None:
        if not isinstance(self.namespace, str) or not _NAMESPACE_TEXT.fullmatch(self.namespace):
            raise ConfigError(
                f"namespace {str(self.namespace)[:40]!r} is invalid; use 1 to 100 letters, digits and _ . - "
                "(it becomes the prefix of every key and a label in Redis)"
            )
        if not isinstance(self.source, str) or not re.fullmatch(SOURCE_NAME, self.source):
            raise ConfigError(f"source: {str(self.source)[:40]!r} is not a name; use letters, digits, _ and - only")

    def of(self, source: str) -> Self:
        """Return the same names as another source sees them."""
        return replace(self, source=source)

    def _own(self, name: str) -> str:
        """The key of something that each source has separately."""
        of_source = "" if self.source == DEFAULT_SOURCE else f":{self.source}"
        return f"{self.namespace}:{name}{of_source}"

    @property
    def sources(self) -> str:
        """The set of sources other than the default that have been used."""
        return f"{self.namespace}:sources"

    @property
    def channel(self) -> str:
        """The Pub/Sub channel that workers listen to."""
        return CHANNEL if self.namespace == DEFAULT_NAMESPACE else f"{self.namespace}:{CHANNEL}"

    @property
    def stored(self) -> str:
        """The Pub/Sub channel that announces which months have been stored."""
        return f"{self.namespace}:stored"

    @property
    def group(self) -> str:
        """The consumer group of the job stream."""
        return self.namespace

    @property
    def jobs(self) -> str:
        """The job stream of the source."""
        return self._own("jobs")

    @property
    def dead(self) -> str:
        """The stream of dead letters."""
        return f"{self.namespace}:dead"

    @property
    def events(self) -> str:
        """The capped stream of events, one for each attempt."""
        return f"{self.namespace}:events"

    @property
    def retries(self) -> str:
        """The sorted set of messages that wait for a retry, by due time."""
        return self._own("retries")

    @property
    def history(self) -> str:
        """The hash of failed messages, with one JSON line for each attempt."""
        return f"{self.namespace}:history"

    @property
    def workers(self) -> str:
        """The sorted set of worker names by time of last heartbeat."""
        return self._own("workers")

    @property
    def names(self) -> str:
        """The hash of fund names that were requested, and the series that each was found to mean."""
        return self._own("names")

    @staticmethod
    def site(site: str) -> str:
        """The hash of a site's shared state. It has no namespace: limits hold for everyone who uses this Redis."""
        return f"scraperkit:site:{site}"

    @staticmethod
    def sites() -> str:
        """The sorted set of sites whose circuit is open, by the time of the next attempt."""
        return "scraperkit:sites"

    @staticmethod
    def robots(site: str) -> str:
        """The crawl delay in a site's robots.txt, cached for a day."""
        return f"scraperkit:robots:{site}"

    @staticmethod
    def turn(site: str) -> str:
        """The last turn reserved at a site, in microseconds by the clock of Redis."""
        return f"scraperkit:turn:{site}"

    def worker(self, name: str) -> str:
        """A worker's card about itself, as JSON; it expires after the heartbeat stops."""
        return f"{self._own('worker')}:{name}"

    def batch(self, batch_id: str) -> str:
        """The hash of a batch: its counts, and one field for each message."""
        return f"{self.namespace}:batch:{batch_id}"

    def claim(self, message_id: str) -> str:
        """The key by which one worker claims a Pub/Sub message."""
        return f"{self.namespace}:claim:{message_id}"

    def fund(self, cnpj: str) -> str:
        """The fund card: a hash with name, pk, status and dates."""
        return f"{self.namespace}:{{{cnpj}}}:fund"

    def months(self, cnpj: str) -> str:
        """The hash of a fund's months: when each was last stored and fetched, and from which source."""
        return f"{self.namespace}:{{{cnpj}}}:months"

    def changes(self, cnpj: str) -> str:
        """The capped stream of a fund's figures that were restated or withdrawn after they had been stored."""
        return f"{self.namespace}:{{{cnpj}}}:changes"

    def not_offered(self, cnpj: str) -> str:
        """The hash of the months that a source does not offer: when it was last asked for each."""
        return f"{self.namespace}:{{{cnpj}}}:not_offered"

    def series(self, series: str, metric: str) -> str:
        """The time series of one metric of ``CNPJ`` or ``CNPJ:SUBCLASS``.

        The braces keep a fund's keys in one slot of a Redis Cluster.
        """
        cnpj, colon, subclass = series.partition(":")
        return f"{self.namespace}:{{{cnpj}}}{colon}{subclass}:{metric}"

    def index(self, name: str) -> str:
        """The time series of a rate or an index; its labels say which days were requested, and when."""
        return f"{self.namespace}:index:{name}"

    @property
    def pattern(self) -> str:
        """A SCAN pattern that matches every key of this namespace and no others."""
        return f"{self.namespace}:*"


def series_in(key: str) -> str:
    """Return the series, as ``CNPJ`` or ``CNPJ:SUBCLASS``, in the key of one of its metrics.

    Examples
    --------
    >>> series_in(Keys("lesson").series("18993924000100:Z2HFZ1734468953", "quota"))
    '18993924000100:Z2HFZ1734468953'
    """
    cnpj, _, rest = key.partition("{")[2].partition("}")
    return cnpj + rest.rpartition(":")[0]

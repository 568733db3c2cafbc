"""The only place where the name of a channel, a stream or a key is built."""

from __future__ import annotations

import re
from dataclasses import dataclass

from scraperkit.errors import ConfigError

DEFAULT_NAMESPACE = "scraperkit"
CHANNEL = "fund_parser"
RATES = "scraperkit:rate"
_NAMESPACE = re.compile(r"[A-Za-z0-9_.-]{1,100}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Keys:
    """Names of everything that the kit keeps in Redis, for one namespace.

    The channel of the default namespace is plain ``fund_parser``, so that a message typed by hand works. Channels
    are shared by a whole Redis, whatever the database, so every other namespace has one of its own.

    Examples
    --------
    >>> Keys("lesson").series("18993924000100", "quota")
    'lesson:{18993924000100}:quota'
    >>> Keys("lesson").channel, Keys().channel
    ('lesson:fund_parser', 'fund_parser')
    """

    namespace: str = DEFAULT_NAMESPACE

    def __post_init__(self) -> None:
        if not isinstance(self.namespace, str) or not _NAMESPACE.fullmatch(self.namespace):
            raise ConfigError(
                f"namespace {str(self.namespace)[:40]!r} does not fit: 1 to 100 letters, digits and _ . - "
                "(it becomes the start of every key and a label in Redis)"
            )

    @property
    def channel(self) -> str:
        """The Pub/Sub channel that workers listen to."""
        return CHANNEL if self.namespace == DEFAULT_NAMESPACE else f"{self.namespace}:{CHANNEL}"

    @property
    def group(self) -> str:
        """The consumer group of the job stream."""
        return self.namespace

    @property
    def jobs(self) -> str:
        """The job stream."""
        return f"{self.namespace}:jobs"

    @property
    def dead(self) -> str:
        """The stream of dead letters."""
        return f"{self.namespace}:dead"

    @property
    def events(self) -> str:
        """The capped stream of events, one for each job."""
        return f"{self.namespace}:events"

    @property
    def retries(self) -> str:
        """The sorted set of messages that wait for their next attempt, by the time it is due."""
        return f"{self.namespace}:retries"

    @property
    def history(self) -> str:
        """The hash that holds, for each message that failed before, one JSON line an attempt."""
        return f"{self.namespace}:history"

    @property
    def workers(self) -> str:
        """The sorted set of worker names by the time of their last heartbeat."""
        return f"{self.namespace}:workers"

    @staticmethod
    def site(site: str) -> str:
        """The hash of what is agreed on about a site. It has no namespace: the site does not care who asks."""
        return f"scraperkit:site:{site}"

    @staticmethod
    def sites() -> str:
        """The sorted set of the sites that are left alone now, by the time until which they are."""
        return "scraperkit:sites"

    @staticmethod
    def robots(site: str) -> str:
        """What a site's robots.txt asks for, for a day."""
        return f"scraperkit:robots:{site}"

    def worker(self, name: str) -> str:
        """The hash that one worker keeps about itself; it expires when the heartbeat stops."""
        return f"{self.namespace}:worker:{name}"

    def batch(self, batch_id: str) -> str:
        """The hash of a batch: its counts, and a field for each message."""
        return f"{self.namespace}:batch:{batch_id}"

    def claim(self, message_id: str) -> str:
        """The claim that one worker lays on a Pub/Sub message."""
        return f"{self.namespace}:claim:{message_id}"

    def fund(self, cnpj: str) -> str:
        """The fund card: a hash with name, pk, status and dates."""
        return f"{self.namespace}:{{{cnpj}}}:fund"

    def months(self, cnpj: str) -> str:
        """The hash that tells when each month of a fund was last stored."""
        return f"{self.namespace}:{{{cnpj}}}:months"

    def series(self, cnpj: str, metric: str) -> str:
        """A time series of one fund. The braces keep all keys of a fund in one slot of a Redis Cluster."""
        return f"{self.namespace}:{{{cnpj}}}:{metric}"

    @property
    def pattern(self) -> str:
        """A glob for SCAN that matches every key of this namespace and no other."""
        return f"{self.namespace}:*"

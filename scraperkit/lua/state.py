"""The grammar of values that scripts write for a message, a claim and a month of a fund, as in ``state.lua``."""

from __future__ import annotations

import math
import re
from typing import NamedTuple, Self

# Fields of a batch's hash; every other field is the id of a message.
COUNTERS = ("published", "done", "failed", "lost", "cancelled", "not_offered")
BATCH_FIELDS = frozenset({*COUNTERS, "delivery", "source", "published_at", "claim_ms"})

_STATE = re.compile(r"([A-Za-z_]+) (\S+) (\S+)(?: (.*))?", re.ASCII | re.DOTALL)
_HELD = re.compile(r"held (\S+)(?: ([0-9]{1,15}) ([0-9]{1,15})\Z)?", re.ASCII)
_TIME = r"([0-9]+(?:\.[0-9]+)?)"
_RECORD = re.compile(rf"{_TIME}(?: {_TIME} (\S+) (\S+) [0-9]+ [0-9]+)?", re.ASCII)
_NEVER = 2.0**33  # seconds: in the year 2242


class MessageState(NamedTuple):
    """The state of one message of a batch.

    Attributes
    ----------
    state : str
        pending, running, done, failed, lost, cancelled or not_offered; empty if the kit did not write it.
    cnpj, month : str
        The fund and the month, as ``MM/YYYY``, of the message.
    why : str
        Why it failed or was lost, or which months are offered instead.
    """

    state: str
    cnpj: str
    month: str
    why: str

    @classmethod
    def read(cls, text: str) -> Self:
        """Read a field of a batch's hash.

        Examples
        --------
        >>> MessageState.read("failed 18993924000100 12/2022 OSError: reset by peer")
        MessageState(state='failed', cnpj='18993924000100', month='12/2022', why='OSError: reset by peer')
        """
        found = _STATE.fullmatch(text)
        return cls(*found.groups("")) if found else cls("", "", "", "")


class Claim(NamedTuple):
    """The mark by which one worker takes a Pub/Sub message.

    Attributes
    ----------
    instance : str
        The worker's life that holds it; empty if the message is finished.
    lease, silence : float
        Seconds that the claim lasts without a renewal, and seconds without a heartbeat after which its holder counts
        as dead; both from the holder's settings.
    batch : str
        The key of the batch that the message is finished for.
    """

    instance: str = ""
    lease: float = 0.0
    silence: float = 0.0
    batch: str = ""

    @classmethod
    def read(cls, text: str) -> Self:
        """Read the value of a claim.

        Examples
        --------
        >>> Claim.read("held anna/1f2e3d4c 60000 6000")
        Claim(instance='anna/1f2e3d4c', lease=60.0, silence=6.0, batch='')
        >>> Claim.read("finished lesson:batch:7")
        Claim(instance='', lease=0.0, silence=0.0, batch='lesson:batch:7')
        """
        if text.startswith("finished "):
            return cls(batch=text.removeprefix("finished "))
        found = _HELD.match(text)
        if found is None:
            return cls(text)  # from another version: held until the lease expires
        return cls(found[1], float(found[2] or 0) / 1000, float(found[3] or 0) / 1000)


class MonthRecord(NamedTuple):
    """The record of a fetched month of a fund.

    Attributes
    ----------
    stored_at, fetched_at : float
        When it was last stored, and when that fetch began, in seconds since 1970 by the clock of Redis.
    source : str
        The source that it was fetched from.
    digest : str
        A hash of the fetched figures.
    """

    stored_at: float = math.nan
    fetched_at: float = math.nan
    source: str = ""
    digest: str = ""

    @property
    def text(self) -> str:
        """The field of the hash of a fund's months, for a month without changed or withdrawn figures."""
        return f"{self.stored_at:.0f} {self.fetched_at:.6f} {self.source} {self.digest} 0 0"

    @classmethod
    def read(cls, text: str) -> Self:
        """Read a field of the hash of a fund's months.

        Examples
        --------
        >>> MonthRecord.read("1700000003 1700000001.250000 cvm_pages 8ab2c3d4e5f60718 0 0")
        MonthRecord(stored_at=1700000003.0, fetched_at=1700000001.25, source='cvm_pages', digest='8ab2c3d4e5f60718')
        >>> MonthRecord.read("1700000003").source  # as version 1 wrote it
        ''
        """
        found = _RECORD.fullmatch(text)
        if found is None or not all(float(time) < _NEVER for time in found.group(1, 2) if time):
            return cls()  # the kit did not write it
        stored_at, fetched_at, source, digest = found.groups("")
        return cls(float(stored_at), float(fetched_at or math.nan), source, digest)

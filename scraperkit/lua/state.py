"""The grammar of what scripts write of a message, a claim and a month of a fund; ``state.lua`` has the same."""

from __future__ import annotations

import math
import re
from typing import NamedTuple, Self

# What else is in the hash of a batch; every other field is the id of a message.
COUNTERS = ("published", "done", "failed", "lost", "cancelled", "not_offered")
BATCH_FIELDS = frozenset({*COUNTERS, "delivery", "source", "published_at", "claim_ms"})

_STATE = re.compile(r"([A-Za-z_]+) (\S+) (\S+)(?: (.*))?", re.ASCII | re.DOTALL)
_HELD = re.compile(r"held (\S+)(?: ([0-9]{1,15}) ([0-9]{1,15})\Z)?", re.ASCII)
_TIME = r"([0-9]+(?:\.[0-9]+)?)"
_RECORD = re.compile(rf"{_TIME}(?: {_TIME} (\S+) (\S+) [0-9]+ [0-9]+)?", re.ASCII)
_NEVER = 2.0**33  # seconds: in the year 2242


class MessageState(NamedTuple):
    """What a batch knows of one message.

    Attributes
    ----------
    state : str
        pending, running, done, failed, lost, cancelled or not_offered; empty if somebody else wrote it.
    cnpj, month : str
        What the message is about; the month as ``MM/YYYY``.
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
    """The mark by which one worker does a Pub/Sub message.

    Attributes
    ----------
    instance : str
        The life of a worker that holds it; empty if the message is finished.
    lease, silence : float
        Seconds that the claim lasts without a renewal, and seconds without a heartbeat after which its holder counts
        as dead; both as the holder was set.
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
            return cls(text)  # of another version: nobody else's until the lease is over
        return cls(found[1], float(found[2] or 0) / 1000, float(found[3] or 0) / 1000)


class MonthRecord(NamedTuple):
    """What is known of a month of a fund that was fetched.

    Attributes
    ----------
    stored_at, fetched_at : float
        When it was last stored, and when the fetch of that began; in seconds by the clock of Redis.
    source : str
        Who said so.
    digest : str
        A hash of what was fetched.
    """

    stored_at: float = math.nan
    fetched_at: float = math.nan
    source: str = ""
    digest: str = ""

    @property
    def text(self) -> str:
        """A field of the hash of a fund's months, of a month in which nothing was changed or withdrawn."""
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
            return cls()  # somebody else wrote it: nothing is known
        stored_at, fetched_at, source, digest = found.groups("")
        return cls(float(stored_at), float(fetched_at or math.nan), source, digest)

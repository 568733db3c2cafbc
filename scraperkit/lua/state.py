"""The grammar of a message's state in its batch and of a claim; ``state.lua`` writes what is read here."""

from __future__ import annotations

from typing import NamedTuple, Self

# What else is in the hash of a batch; every other field is the id of a message.
COUNTERS = ("published", "done", "failed", "lost", "cancelled")
BATCH_FIELDS = frozenset({*COUNTERS, "delivery", "published_at", "claim_ms"})


class MessageState(NamedTuple):
    """What a batch knows of one message.

    Attributes
    ----------
    state : str
        pending, running, done, failed, lost or cancelled.
    cnpj, month : str
        What the message is about; the month as ``MM/YYYY``.
    why : str
        Why it failed or was lost.
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
        return cls(*[*text.split(" ", 3), "", "", ""][:4])


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
        word, _, rest = text.partition(" ")
        if word == "finished":
            return cls(batch=rest)
        held = rest.split(" ")
        if word != "held" or len(held) != 3 or not (held[1] + held[2]).isdecimal():
            return cls(text)  # of another version: its holder's until the lease is over
        return cls(held[0], int(held[1]) / 1000, int(held[2]) / 1000)


def label(cnpj: str, month: str) -> str:
    """Return what a message is about, as it stands in its state."""
    return f"{cnpj} {month}"

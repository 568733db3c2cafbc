"""The hidden fields of the replica's forms: opaque to a client, and valid for one page and one session only."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

# The beginnings of ASP.NET's own fields, so that these look as on the site: /wEP… and /wEd….
_STATE_MAGIC = b"\xff\x01\x0f"
_EVENTS_MAGIC = b"\xff\x01\x1d"
_SIGNING_KEY = b"scraperkit replica"  # Keeps mistakes out, not attackers: everything here is public.
_STATE_BYTES = 2_600
_EVENTS_BYTES = 700
_SEAL_BYTES = 21  # A multiple of three, so that a seal can follow a state in Base64.
UNSEALED = "~" * (_SEAL_BYTES * 4 // 3)


def hidden_fields(page: str, key: str, detail: str = "") -> dict[str, str]:
    """Return the hidden fields of one form, by name; the view state has :data:`UNSEALED` where a seal must go.

    Parameters
    ----------
    page, key : str
        The page, and its fund or search; a postback must match both.
    detail : str
        What else the page shows, so that two months of one fund have different fields.

    Examples
    --------
    >>> fields = hidden_fields("daily", "132922", "12/2022")
    >>> list(fields), fields["__VIEWSTATE"][:4], len(fields["__VIEWSTATE"]) > 2_000
    (['__VIEWSTATE', '__VIEWSTATEGENERATOR', '__EVENTVALIDATION'], '/wEP', True)
    """
    payload = "\x1f".join((page, key, detail)).encode("utf-8")
    content = _STATE_MAGIC + len(payload).to_bytes(2, "big") + payload
    length = _STATE_BYTES - (len(content) + _STATE_BYTES) % 3
    content += hashlib.shake_256(payload).digest(length)
    events = _EVENTS_MAGIC + hashlib.shake_256(b"events" + payload).digest(_EVENTS_BYTES)
    return {
        "__VIEWSTATE": base64.b64encode(content).decode("ascii") + UNSEALED,
        "__VIEWSTATEGENERATOR": hashlib.sha256(page.encode("utf-8")).hexdigest()[:8].upper(),
        "__EVENTVALIDATION": base64.b64encode(events).decode("ascii"),
    }


def seal(page: str, key: str, session: str) -> str:
    """Return the seal that makes a view state valid for one session, as long as :data:`UNSEALED`.

    Examples
    --------
    >>> len(seal("daily", "132922", "k3")) == len(UNSEALED), seal("daily", "1", "a") == seal("daily", "1", "b")
    (True, False)
    """
    words = "\x1f".join((page, key, session)).encode("utf-8")
    return base64.b64encode(hashlib.blake2b(words, digest_size=_SEAL_BYTES, key=_SIGNING_KEY).digest()).decode("ascii")


def belongs(form: dict[str, str], page: str, key: str, session: str) -> bool:
    """Return whether a postback holds, unchanged, the hidden fields of a form of that page and session.

    Examples
    --------
    >>> form = hidden_fields("daily", "132922", "12/2022")
    >>> form["__VIEWSTATE"] = form["__VIEWSTATE"].replace(UNSEALED, seal("daily", "132922", "k3"))
    >>> [belongs(form, "daily", key, session) for key, session in (("132922", "k3"), ("132922", "k4"), ("9", "k3"))]
    [True, False, False]
    """
    state = form.get("__VIEWSTATE", "")
    content, sealed = state[: -len(UNSEALED)], state[-len(UNSEALED) :]
    try:
        raw = base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        return False
    good = seal(page, key, session)
    if not raw.startswith(_STATE_MAGIC) or not hmac.compare_digest(sealed.encode(), good.encode()):
        return False
    start = len(_STATE_MAGIC) + 2
    length = int.from_bytes(raw[start - 2 : start], "big")
    payload, prefix = raw[start : start + length].decode("utf-8", "replace"), f"{page}\x1f{key}\x1f"
    fields = hidden_fields(page, key, payload.removeprefix(prefix))
    return payload.startswith(prefix) and form | {"__VIEWSTATE": content + UNSEALED} == form | fields

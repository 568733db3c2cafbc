"""The hidden fields of the replica's forms: opaque to a client, and good for one page only."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping

# How ASP.NET's own fields begin, so that they look as they do on the site: /wEP… and /wEd….
_STATE_MAGIC = b"\xff\x01\x0f"
_EVENTS_MAGIC = b"\xff\x01\x1d"
_SIGNING_KEY = b"scraperkit replica"  # Keeps mistakes out, not attackers: everything here is public.
_SEAL_BYTES = 20
_STATE_BYTES = 2_600
_EVENTS_BYTES = 700


def hidden_fields(page: str, key: str, detail: str = "") -> dict[str, str]:
    """Return the hidden fields of one form, by name.

    Parameters
    ----------
    page, key : str
        Which page it is, and of whom; a postback has to fit both.
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
    content += hashlib.shake_256(payload).digest(_STATE_BYTES)
    events = _EVENTS_MAGIC + hashlib.shake_256(b"events" + payload).digest(_EVENTS_BYTES)
    return {
        "__VIEWSTATE": base64.b64encode(content + _seal(content)).decode("ascii"),
        "__VIEWSTATEGENERATOR": hashlib.sha256(page.encode("utf-8")).hexdigest()[:8].upper(),
        "__EVENTVALIDATION": base64.b64encode(events).decode("ascii"),
    }


def belongs(form: Mapping[str, str], page: str, key: str) -> bool:
    """Tell whether a postback brings back, untouched, the hidden fields of one form of that page.

    Examples
    --------
    >>> form = hidden_fields("daily", "132922", "12/2022")
    >>> belongs(form, "daily", "132922"), belongs(form, "daily", "901101"), belongs({}, "daily", "132922")
    (True, False, False)
    """
    try:
        raw = base64.b64decode(form.get("__VIEWSTATE", ""), validate=True)
    except (binascii.Error, ValueError):
        return False
    content, seal = raw[:-_SEAL_BYTES], raw[-_SEAL_BYTES:]
    if not content.startswith(_STATE_MAGIC) or not hmac.compare_digest(seal, _seal(content)):
        return False
    start = len(_STATE_MAGIC) + 2
    length = int.from_bytes(content[start - 2 : start], "big")
    found_page, found_key, detail = content[start : start + length].decode("utf-8").split("\x1f", 2)
    fields = hidden_fields(page, key, detail)
    return (found_page, found_key) == (page, key) and all(form.get(name) == fields[name] for name in fields)


def _seal(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_SEAL_BYTES, key=_SIGNING_KEY).digest()

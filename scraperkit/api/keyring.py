"""The API keys: reading them, and finding the owner of one."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import threading
from collections.abc import Iterable

from scraperkit.config import Settings
from scraperkit.errors import ConfigError

log = logging.getLogger(__name__)
_API_KEY = re.compile(r"[!-+\--~]{16,200}", re.ASCII)
_LONGEST_FILE = 100_000


class Keyring:
    """The accepted keys, kept as hashes only.

    Parameters
    ----------
    settings : Settings
        ``api_keys`` and ``api_keys_file``. The file is read again when it changes: keys can be added and withdrawn
        without a restart. While it is unreadable, the previous keys stay valid.

    Raises
    ------
    ConfigError
        If a key is too short, or the file is unreadable or has no key; the message never contains a key.

    Examples
    --------
    >>> keyring = Keyring(Settings.load(api_keys="correct-horse-battery"))
    >>> keyring.owner("correct-horse-battery") is not None, keyring.owner("wrong")
    (True, None)
    """

    def __init__(self, settings: Settings) -> None:
        listed = settings.api_keys.get_secret_value().split(",") if settings.api_keys else []
        self._fixed = _hashes((key.strip() for key in listed if key.strip()), "SCRAPERKIT_API_KEYS")
        self._file = settings.api_keys_file
        self._from_file: list[bytes] = []
        self._seen: tuple[int, ...] | None = None
        self._guard = threading.Lock()
        if self._file is not None:
            self._read()
            if not self._from_file:
                raise ConfigError(f"SCRAPERKIT_API_KEYS_FILE: {self._file} holds no key; write one a line")

    @property
    def configured(self) -> bool:
        """Whether callers need a key. An emptied file admits nobody, rather than everybody."""
        return bool(self._fixed or self._file)

    def owner(self, key: str) -> str | None:
        """Return a name for the owner of this key, or ``None`` if it is unknown. The name does not reveal the key."""
        if self._file is not None:
            with self._guard:
                self._read_if_changed()
        given = _hash(key)
        found = None
        # Every key is compared, in constant time, so that the time reveals nothing.
        for known in (*self._fixed, *self._from_file):
            if hmac.compare_digest(given, known):
                found = known
        return found.hex()[:16] if found else None

    def _read_if_changed(self) -> None:
        try:
            if self._signature() != self._seen:
                self._read()
                log.info("reloaded the API keys: %d in the file", len(self._from_file))
        except (ConfigError, OSError) as error:
            log.warning("kept the previous API keys: %s", error)

    def _signature(self) -> tuple[int, ...]:
        assert self._file is not None  # noqa: S101
        found = self._file.stat()
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _read(self) -> None:
        assert self._file is not None  # noqa: S101
        try:
            self._seen = self._signature()
            with self._file.open(encoding="utf-8") as file:
                text = file.read(_LONGEST_FILE)
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise ConfigError(f"SCRAPERKIT_API_KEYS_FILE: cannot read {self._file}: {why}") from None
        lines = (line.partition("#")[0].strip() for line in text.splitlines())
        self._from_file = _hashes((line for line in lines if line), "SCRAPERKIT_API_KEYS_FILE")

    def __repr__(self) -> str:
        return f"<Keyring of {len(self._fixed) + len(self._from_file)} keys>"


def _hashes(keys: Iterable[str], setting: str) -> list[bytes]:
    keys = list(keys)
    if not all(_API_KEY.fullmatch(key) for key in keys):
        raise ConfigError(
            f"{setting}: a key has 16 to 200 letters, digits and punctuation, and no space or comma; "
            "make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
    return [_hash(key) for key in keys]


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()

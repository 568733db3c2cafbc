"""Secrets that are kept in files: neither the environment nor a command line shows them."""

from __future__ import annotations

import contextlib
from pathlib import Path

from redis.credentials import CredentialProvider

from scraperkit.errors import ConfigError

_LONGEST = 4096


def read_secret(path: Path, setting: str) -> str:
    r"""Return the one line that a file holds.

    Parameters
    ----------
    path : Path
        The file; white space around the line does not count.
    setting : str
        The setting that names the file, for the error.

    Raises
    ------
    ConfigError
        If the file cannot be read, is empty, or holds more than one line. Never tells what it holds.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile("w+") as file:
    ...     _ = file.write("correct horse\n"), file.flush()
    ...     read_secret(Path(file.name), "SCRAPERKIT_REDIS_PASSWORD_FILE")
    'correct horse'
    """
    try:
        with path.open("rb") as file:
            text = file.read(_LONGEST + 1).decode("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError(f"{setting}: cannot read {path}: {reason}") from None
    if not text or len(text) > _LONGEST or len(text.splitlines()) > 1:
        raise ConfigError(f"{setting}: {path} must hold one line, the secret itself")
    return text


class PasswordFile(CredentialProvider):
    """Gives Redis the password that a file holds at that moment: a new one needs no restart.

    Parameters
    ----------
    path : Path
        The file.
    username : str, optional
        The user of Redis; left out, its default user.

    Raises
    ------
    ConfigError
        If the file cannot be read now. Later, while it is being replaced, the last known password serves.
    """

    def __init__(self, path: Path, username: str | None = None) -> None:
        self._path = path
        self._username = username or "default"
        self._password = read_secret(path, "SCRAPERKIT_REDIS_PASSWORD_FILE")

    def get_credentials(self) -> tuple[str, str]:
        """Return user and password."""
        with contextlib.suppress(ConfigError):
            self._password = read_secret(self._path, "SCRAPERKIT_REDIS_PASSWORD_FILE")
        return self._username, self._password

    async def get_credentials_async(self) -> tuple[str, str]:
        """Return user and password; a file of one line blocks nobody."""
        return self.get_credentials()

    def redacted(self, text: str) -> str:
        """Return a text without the password."""
        return text.replace(self._password, "***")

    def __repr__(self) -> str:
        return f"PasswordFile({str(self._path)!r}, {self._username!r})"

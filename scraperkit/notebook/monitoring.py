"""Show the commands that Redis receives for one namespace, from MONITOR, as a table."""

from __future__ import annotations

import contextlib
import re
import threading
import time
import uuid
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self, overload

import redis as redis_py

from scraperkit.config import Settings
from scraperkit.connection import check_client, sibling
from scraperkit.errors import ConfigError, RedisRefused, RedisUnreachable, warn, way_out_of
from scraperkit.keys import Keys
from scraperkit.lua import scripts
from scraperkit.view import NotebookRepr, Table, View

if TYPE_CHECKING:
    import pandas as pd

_LONGEST_RECORDING = 600.0  # seconds
_MOST = 10_000
_LISTEN_AT_MOST = 0.1
_LAST_WORD = 2.0
_LINE = re.compile(r'([0-9.]+) \[[0-9]+ (.*?)\] (".*)', re.DOTALL)
_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL)
_PLAIN = {"n": "\n", "r": "\r", "t": "\t", "a": "\a", "b": "\b"}
# These carry passwords. Redis hides most of them itself, but not in every version.
_SECRET = frozenset({"AUTH", "HELLO", "ACL", "CONFIG", "MIGRATE"})
_WORD_LENGTH = 40
_TEXT_LENGTH = 160


class SeenCommand(NamedTuple):
    """One command that Redis received."""

    time: float
    client: str
    command: str
    key: str
    arguments: str


@overload
def monitor(redis: redis_py.Redis, *, seconds: float, namespace: str | None = None) -> pd.DataFrame: ...


@overload
def monitor(redis: redis_py.Redis, *, seconds: None = None, namespace: str | None = None) -> Monitor: ...


def monitor(
    redis: redis_py.Redis, *, seconds: float | None = None, namespace: str | None = None
) -> pd.DataFrame | Monitor:
    """Record the commands that Redis receives for a namespace, from any client.

    For lessons and debugging on your own machine: while it records, Redis is markedly slower for everyone.

    Parameters
    ----------
    redis : redis.Redis
        From :func:`scraperkit.connect`; the monitor opens its own connection.
    seconds : float, optional
        Record for this long, and return the table. If omitted, return a monitor for a ``with`` block.
    namespace : str, optional
        The namespace of the keys and channel; default ``SCRAPERKIT_NAMESPACE``.

    Returns
    -------
    pandas.DataFrame or Monitor
        For the columns, see :meth:`Monitor.table`.

    Raises
    ------
    ConfigError
        If an argument is invalid.
    RedisUnreachable
        If Redis is unreachable at the start.
    RedisRefused
        If this user may not use MONITOR.

    Examples
    --------
    >>> with monitor(redis, namespace=namespace) as seen:
    ...     batch = Publisher(redis, namespace=namespace).publish(fund.months("2022-01", "2022-02"))
    >>> table = seen.table()
    >>> list(table["command"][table["client"] == "lua"]).count("XADD")
    2
    """
    seen = Monitor(redis, namespace=namespace)
    if seconds is None:
        return seen
    if not 0 < seconds <= _LONGEST_RECORDING:
        raise ConfigError(f"seconds: {seconds!r} is out of range; give more than 0 and at most {_LONGEST_RECORDING:g}")
    with seen:
        seen.wait(seconds)
    return seen.table()


class Monitor(NotebookRepr):
    """Recorder of a namespace's commands during a ``with`` block. Get one from :func:`monitor`.

    It keeps the newest 10,000 commands, and stops after ten minutes even if the block has not ended.

    Attributes
    ----------
    dropped : int
        Number of commands seen but not kept.
    """

    def __init__(self, redis: redis_py.Redis, *, namespace: str | None = None, most: int = _MOST) -> None:
        self.keys = Keys(namespace or Settings.load().namespace)
        self.dropped = 0
        self._redis = sibling(check_client(redis))
        self._seen: deque[SeenCommand] = deque(maxlen=most)
        self._thread: threading.Thread | None = None
        self._ends_at = 0.0
        self._last_word = ""
        self._broken: Exception | None = None

    def table(self) -> pd.DataFrame:
        """Return the commands seen so far, oldest first.

        Returns
        -------
        pandas.DataFrame
            RangeIndex; ``time`` (UTC, microseconds), and as text ``client`` (its address, or ``lua`` for a command
            from a server-side script), ``command``, ``key`` (the namespace's first) and ``arguments`` (the others,
            shortened). Empty if there were none.
        """
        import pandas as pd

        frame = pd.DataFrame(list(self._seen), columns=list(SeenCommand._fields))
        text = dict.fromkeys(("client", "command", "key", "arguments"), "str")
        frame["time"] = pd.to_datetime(frame["time"].astype("float64"), unit="s", utc=True)
        return frame.astype({"time": "datetime64[us, UTC]", **text})

    def wait(self, seconds: float) -> None:
        """Keep recording for some seconds; return earlier if recording stops."""
        if self._thread is not None:
            self._thread.join(seconds)

    def __enter__(self) -> Self:
        if self._thread is not None:
            raise ConfigError("monitor: already recording; call sk.monitor(redis) for another recording")
        try:
            connection = self._redis.connection_pool.get_connection()
            connection.send_command("MONITOR")  # type: ignore[no-untyped-call]
            connection.read_response()
        except (redis_py.ConnectionError, redis_py.TimeoutError) as error:
            self._redis.close()
            raise RedisUnreachable(f"monitor: Redis does not respond; check that it is running: {error}") from None
        except redis_py.ResponseError as error:
            self._redis.close()
            raise RedisRefused(f"monitor: Redis refused MONITOR: {error}{way_out_of(error)}") from None
        self._last_word = uuid.uuid4().hex
        self._ends_at = time.monotonic() + _LONGEST_RECORDING
        self._thread = threading.Thread(target=self._look, args=(connection,), name="scraperkit-monitor", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        thread, self._thread = self._thread, None
        if thread is None:
            return
        # MONITOR reports commands in order: when this one arrives, all the block's commands have arrived.
        with contextlib.suppress(redis_py.RedisError, OSError):
            self._redis.echo(self._last_word)
        self._ends_at = time.monotonic() + _LAST_WORD
        thread.join()
        self._redis.close()
        if self._broken is not None:
            warn(f"monitor: connection lost, later commands are missing: {self._broken}")

    def _look(self, connection: Any) -> None:
        try:
            while time.monotonic() < self._ends_at:
                if not connection.can_read(timeout=_LISTEN_AT_MOST):
                    continue
                line = connection.read_response()
                if self._last_word in line:
                    return
                command = read_line(line, self.keys)
                if command is not None:
                    self.dropped += len(self._seen) == self._seen.maxlen
                    self._seen.append(command)
        except (redis_py.RedisError, OSError) as error:
            self._broken = error
        finally:
            connection.disconnect()
            self._redis.connection_pool.release(connection)

    def _view(self) -> View:
        rows = [(row.client, row.command, row.key, row.arguments) for row in list(self._seen)]
        table = Table(("client", "command", "key", "arguments"), rows)
        return View("Monitor", f"{self!r}".strip("<>").partition(" ")[2], tables=(table,) if rows else ())

    def __repr__(self) -> str:
        dropped = f", {self.dropped} older ones dropped" if self.dropped else ""
        looking = "recording" if self._thread is not None else "stopped"
        return f"<Monitor of {self.keys.namespace}: {len(self._seen)} commands{dropped}; {looking}>"


def read_line(line: str, keys: Keys) -> SeenCommand | None:
    r"""Parse a line of MONITOR; ``None`` if it is not about the namespace, or may carry a password.

    Examples
    --------
    >>> line = '1700000000.123456 [0 127.0.0.1:5000] "XADD" "lesson:jobs" "*" "message" "{\\"a\\": 1}"'
    >>> read_line(line, Keys("lesson"))
    SeenCommand(time=1700000000.123456, client='127.0.0.1:5000', command='XADD', key='lesson:jobs',
            arguments='* message {"a": 1}')
    >>> read_line(line, Keys("another"))
    """
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    words = [_unescaped(word) for word in _WORD.findall(match[3])]
    name, arguments = words[0].upper(), words[1:]
    key = next((word for word in arguments if word == keys.channel or word.startswith(f"{keys.namespace}:")), None)
    if key is None or name in _SECRET:
        return None
    arguments.remove(key)
    if name == "EVALSHA" and arguments:
        arguments[0] = f"{scripts.names()[arguments[0]]}.lua" if arguments[0] in scripts.names() else arguments[0]
    return SeenCommand(float(match[1]), match[2], name, key, _shortened(arguments))


def _unescaped(word: str) -> str:
    plain = _ESCAPE.sub(
        lambda escape: chr(int(escape[1][1:], 16)) if len(escape[1]) == 3 else _PLAIN.get(escape[1], escape[1]), word
    )
    with contextlib.suppress(UnicodeError):  # Redis writes UTF-8 byte by byte
        return plain.encode("latin-1").decode()
    return plain


def _shortened(words: Sequence[str]) -> str:
    short = [word if len(word) <= _WORD_LENGTH else word[: _WORD_LENGTH - 1] + "…" for word in words]
    text = " ".join(short)
    return text if len(text) <= _TEXT_LENGTH else text[: _TEXT_LENGTH - 1] + "…"

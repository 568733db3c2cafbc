"""Private Redis servers for tests."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from scraperkit.config import Settings
from scraperkit.embedded import install
from support.waiting import wait_until


@contextlib.contextmanager
def redis_server(folder: Path, *options: str, timeseries: bool = True, policy: Sequence[str] = ()) -> Iterator[None]:
    """Run a bare redis-server with these options, `policy` for TimeSeries, and a socket that shows when it is ready."""
    home = install.install(Settings.load().cache)
    ready = folder / "ready.sock"
    module = ["--loadmodule", home / "lib" / "redistimeseries.so", *policy] if timeseries else []
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [home / "bin" / "redis-server", "--dir", folder, "--save", "", "--unixsocket", ready, *options, *module],
            stdout=log,
            stderr=log,
        )
    try:
        assert wait_until(lambda: listens(ready)), (folder / "log").read_text()
        yield
    finally:
        process.terminate()
        process.wait(60)


def listens(path: Path) -> bool:
    """Return whether a server responds on the socket; the file exists a little earlier."""
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
        probe.connect(str(path))
        return True
    return False


def connections(redis) -> set[str]:
    """Return the ids of a server's connections: a count would include those of earlier tests that are still closing."""
    return {client["id"] for client in redis.client_list()}

"""Ports for servers that take a number: unlike a free port of the system's choice, no other connection takes them."""

from __future__ import annotations

import itertools
import os
import re
import socket

# Below the ports from which systems serve outgoing connections; each process of a test run has a block of its own.
_FIRST, _BLOCK = 20_000, 1_000
_WORKER = int(re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "")) or 0) % 8
_numbers = itertools.count(os.getpid() * 37)


def unused_port() -> int:
    """Return a port on which nothing listens, and which this process has not returned lately."""
    while True:
        port = _FIRST + _WORKER * _BLOCK + next(_numbers) % _BLOCK
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port

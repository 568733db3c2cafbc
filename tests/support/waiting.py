"""Wait for conditions, never for fixed times."""

from __future__ import annotations

import time
from pathlib import Path

import psutil

# Seconds after which a wait counts as a hang; far longer than any wait takes on a busy machine.
PATIENCE = 60.0


def wait_until(condition, seconds: float = PATIENCE) -> bool:
    """Wait for a condition; return whether it came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def servers_below(folder: Path) -> list[str]:
    """Return the Redis servers and keepers with data below a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            ours = str(folder) in " ".join(words) and "embedded.keeper" in " ".join(words)
            if ours or ("redis-server" in "".join(words[:1]) and Path(process.cwd()).is_relative_to(folder)):
                found.append(f"{process.pid} {' '.join(words)}")
        except psutil.Error:
            continue
    return found


def written_down(redis) -> None:
    """Wait until Redis has written everything to disk; on a busy disk, that may take a second."""
    with redis.client() as one:
        one.incr("written-down")
        assert one.execute_command("WAITAOF", 1, 0, 60_000)[0] == 1

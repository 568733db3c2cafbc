"""Build the project's environment, ``.venv``, with uv: a lock's packages, the project itself, the embedded Redis.

``python3.12 tools/setup.py dev`` installs locks/dev.txt. ``make`` runs it first; it does nothing if nothing changed.
Every Python since 3.8 must get far enough to name the ones that work, so keep this file's syntax that old.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from uv_tool import BASE_PYTHON, ROOT, IndexProblem, SetupError, environment, meaning, say, uv

PYTHONS = ((3, 11), (3, 12), (3, 13))
LOCKS = ("base", "api", "lab", "dev")  # each contains the ones before it
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "setup.json"


def main(lock: str = "base") -> str | None:
    """Set up, and return the problem if there is one."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        check_python()
        with one_at_a_time():
            set_up(lock)
    except SetupError as error:
        return f"set-up: {error}."
    except KeyboardInterrupt:
        return "set-up: interrupted; the next run finishes it."
    except OSError as error:
        return f"set-up: {error.filename or ROOT}: {meaning(str(error))}."
    return None


def check_python() -> None:
    """Refuse a system or a Python that the packages do not support."""
    if os.name != "posix":
        raise SetupError("Linux or macOS is required; on Windows, use the Windows Subsystem for Linux")
    if sys.version_info[:2] not in PYTHONS:
        raise SetupError(
            f"Python 3.11, 3.12 or 3.13 is required, but {sys.executable} is {platform.python_version()}; "
            "install one of them, or name it: make demo PYTHON=/path/to/python3.12"
        )


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Wait until no other set-up of this folder is running."""
    import fcntl  # not on Windows, which check_python refuses in a sentence

    folder = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("waiting for another set-up of this folder")
        fcntl.flock(folder, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(folder)


def set_up(lock: str) -> None:
    """Install what is missing: the packages, and the embedded Redis unless there is a Redis already."""
    stamp = read_stamp()
    if not is_complete(stamp, lock):
        stamp = build(lock, stamp)
    cache = os.environ.get("SCRAPERKIT_CACHE", "")
    if not os.environ.get("REDIS_URL") and stamp.get("redis") != cache:
        install_redis()
        write_stamp({**stamp, "redis": cache})


def is_complete(stamp: dict[str, Any], lock: str) -> bool:
    """Return whether the environment has the packages of a lock."""
    return stamp.get("inputs") == inputs() and stamp["lock"] in LOCKS[LOCKS.index(lock) :] and PYTHON.exists()


def inputs() -> str:
    """Return a hash of everything that decides what belongs into the environment, except the lock's name."""
    files = [ROOT / "pyproject.toml", *(ROOT / "locks" / f"{lock}.txt" for lock in LOCKS)]
    return hashlib.sha256(b"\0".join([interpreter().encode(), *(file.read_bytes() for file in files)])).hexdigest()


def interpreter() -> str:
    """Return what identifies the Python below the environment; a bug-fix release in the same place is the same."""
    return "{}.{} {}".format(*sys.version_info[:2], sys.base_prefix)


def read_stamp() -> dict[str, Any]:
    """Return what the last complete set-up left; empty if it was interrupted or there was none."""
    try:
        return dict(json.loads(STAMP.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def write_stamp(stamp: dict[str, Any]) -> None:
    """Record what is installed, in one step: a full disk must not leave half a stamp."""
    new = STAMP.with_suffix(".new")
    new.write_text(json.dumps(stamp), encoding="utf-8")
    new.replace(STAMP)


def build(lock: str, stamp: dict[str, Any]) -> dict[str, Any]:
    """Bring the environment to a lock, in a new folder if the present one is half-made or of another Python."""
    started = time.monotonic()
    if stamp.get("python") != interpreter() or not PYTHON.exists():
        stamp = {}
        make_environment()
    try:
        install_packages(lock)
    except IndexProblem:
        if stamp:
            write_stamp(stamp)  # the environment is as it was, so it still serves the locks that it has
        raise
    stamp = {"inputs": inputs(), "python": interpreter(), "lock": lock}
    write_stamp(stamp)
    say(f"the environment is ready, after {time.monotonic() - started:.0f} s")
    return stamp


def make_environment() -> None:
    """Replace ``.venv`` by an empty environment."""
    if VENV.exists():
        say("replacing .venv, which is incomplete or was made with another Python")
        shutil.rmtree(VENV)
    say(f"making .venv with Python {platform.python_version()} ({BASE_PYTHON})")
    uv("venv", "--python", BASE_PYTHON, VENV)


def install_packages(lock: str) -> None:
    """Install the packages of a lock and, editable, the project; it is built offline, by the lock's hatchling."""
    STAMP.unlink(missing_ok=True)
    say("getting the packages, which takes up to a minute the first time")
    install = ["pip", "install", "--python", PYTHON]
    if lock != "base" and os.environ.get("PYTHONDONTWRITEBYTECODE"):
        install.append("--compile-bytecode")  # Python will not; a first look does not wait for it
    uv(*install, "--require-hashes", "--requirement", f"locks/{lock}.txt")
    uv(*install, "--no-deps", "--no-build-isolation", "--editable", ".")


def install_redis() -> None:
    """Fetch the embedded Redis; the module itself reports what it does, and why it failed."""
    command = [PYTHON, "-m", "scraperkit.embedded_install"]
    if subprocess.run(command, cwd=ROOT, env=environment()).returncode:
        raise SystemExit(1)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

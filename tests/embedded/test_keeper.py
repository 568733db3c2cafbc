"""The keeper's own steps, inside this process; test_shared.py has it among real processes."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from scraperkit.config import Settings
from scraperkit.embedded import install
from scraperkit.embedded import keeper as keeper_module
from scraperkit.embedded.keeper import BootError, Keeper, free_port, last_words, redis_config
from scraperkit.embedded.state import LOG, PINNED, State, ask, info, is_locked, lock, open_lock


@pytest.fixture
def home() -> Path:
    return install.install(Settings.load().cache)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A data folder, with this process's signals and open files put back afterwards."""
    opened, sockets = [], []

    def open_and_remember(path):
        opened.append(open_lock(path))
        return opened[-1]

    monkeypatch.setattr(keeper_module, "open_lock", open_and_remember)
    monkeypatch.setattr(keeper_module, "report", lambda _outcome: None)
    pair = keeper_module.socket.socketpair
    monkeypatch.setattr(keeper_module.socket, "socketpair", lambda: sockets.extend(pair()) or sockets[-2:])
    (tmp_path / LOG).touch()
    numbers = (signal.SIGTERM, signal.SIGCHLD, signal.SIGINT, signal.SIGHUP)
    handlers = {number: signal.getsignal(number) for number in numbers}
    yield tmp_path
    signal.set_wakeup_fd(-1)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    for one in sockets:
        one.close()
    for descriptor in opened:
        # What the keeper closed itself may be another file by now.
        if str(tmp_path) in os.path.realpath(f"/proc/self/fd/{descriptor}"):
            os.close(descriptor)


class Scripted(Keeper):
    """A keeper that has no users after a list of actions."""

    def __init__(self, folder: Path, home: Path, *doings) -> None:
        super().__init__(folder, home, owned=False)
        self.doings = list(doings)

    def _idle(self) -> bool:
        if not self.doings:
            return True
        self.doings.pop(0)(self)
        return False


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks at its open files in /proc")
class TestKeeper:
    def test_with_no_users_it_starts_and_ends(self, folder, home):
        Keeper(folder, home, owned=False).run()
        state = State.load(folder)
        assert state.port
        assert state.version == "7.4.1"
        assert not state.ready
        assert "Ready to accept connections" not in (folder / LOG).read_text(), "this process's own stderr has it"

    def test_a_server_that_dies_is_started_again_at_the_same_port(self, folder, home):
        seen = []

        def look(keeper: Keeper) -> None:
            seen.append(State.load(folder))
            keeper._child.kill()

        Scripted(folder, home, look, look).run()
        first, second = seen
        assert first.ready
        assert second.ready
        assert (first.port, first.password) == (second.port, second.password)
        assert first.pid != second.pid

    def test_it_tries_again_if_the_server_does_not_restart(self, folder, home, monkeypatch):
        def lose(keeper: Keeper) -> None:
            keeper._child.kill()
            keeper.home = folder / "nowhere"

        def find(keeper: Keeper) -> None:
            assert not State.load(folder).ready
            keeper.home = home

        def look(_keeper: Keeper) -> None:
            assert State.load(folder).ready

        Scripted(folder, home, lose, find, look).run()

    def test_a_lost_race_for_the_port_is_retried(self, folder, home, monkeypatch):
        asked = []
        real = Keeper._boot_here

        def lose_twice(keeper):
            asked.append(keeper._state.port)
            if len(asked) < 3:
                raise BootError("bind: Address already in use / Failed listening")
            real(keeper)

        monkeypatch.setattr(Keeper, "_boot_here", lose_twice)
        Keeper(folder, home, owned=False).run()
        assert len(set(asked)) == 3

    def test_another_error_ends_it(self, folder, home, monkeypatch):
        def fail(_keeper):
            raise BootError("no")

        monkeypatch.setattr(Keeper, "_boot_here", fail)
        with pytest.raises(BootError, match="no"):
            Keeper(folder, home, owned=False).run()
        assert not State.load(folder).ready

    def test_it_can_be_stopped_while_it_starts(self, folder, home, monkeypatch):
        keeper = Keeper(folder, home, owned=False)
        monkeypatch.setattr(keeper_module, "info", lambda *_: os.kill(os.getpid(), signal.SIGTERM) or {})
        with pytest.raises(BootError, match="asked to stop"):
            keeper.run()
        assert keeper._child.poll() is not None

    def test_only_one_keeper_runs_in_a_folder(self, folder, home, monkeypatch):
        monkeypatch.setattr(keeper_module, "QUIET_END", 0.0)
        held = keeper_module.open_lock(folder / "keeper.lock")
        assert lock(held)
        with pytest.raises(BootError, match="another keeper"):
            Keeper(folder, home, owned=False).run()

    def test_it_is_idle_without_users_unless_pinned(self, folder, home):
        keeper = Keeper(folder, home, owned=False)
        (folder / PINNED).touch()
        assert not keeper._idle()
        (folder / PINNED).unlink()
        user = keeper_module.open_lock(folder / "users.lock")
        assert lock(user, shared=True)
        assert not keeper._idle()
        os.close(user)
        assert keeper._idle()
        assert is_locked(folder / "users.lock"), "who comes now waits for its end"


class TestParts:
    def test_paths_are_quoted(self):
        text = redis_config(Path('/a b/"c\\d"'), Path("/e"), 1, "p")
        assert 'dir "/a b/\\"c\\\\d\\""' in text.splitlines()

    def test_a_bulk_load_does_not_trigger_a_log_rewrite(self, redis):
        """A month of the whole market is 290 MB of commands."""
        assert int(redis.config_get()["auto-aof-rewrite-min-size"]) > 300 * 2**20

    def test_a_free_port_is_used_and_a_taken_one_is_replaced(self, redis):
        port = free_port(0)
        assert free_port(port) == port
        taken = redis.get_connection_kwargs()["port"]
        assert free_port(taken) not in {taken, 0}
        assert free_port(99_999_999)

    def test_last_words_are_the_new_lines_of_the_log(self, tmp_path):
        (tmp_path / "log").write_text("before\none\n\ntwo\nthree\n")
        assert last_words(tmp_path / "log", 7) == "two / three"
        assert last_words(tmp_path / "log", 1000) == "it ended without a message"
        assert last_words(tmp_path / "gone", 0) == "it ended without a message"

    def test_state_is_private_and_loads_unchanged(self, tmp_path):
        state = State(port=1, password="secret", ready=True, keeper=2, pid=3, version="7", host="h")
        state.save(tmp_path)
        assert State.load(tmp_path) == state
        assert (tmp_path / "state.json").stat().st_mode & 0o077 == 0
        assert [path.name for path in tmp_path.iterdir()] == ["state.json"]

    def test_a_wrong_password_gets_an_empty_reply(self, redis):
        port = redis.get_connection_kwargs()["port"]
        assert ask(port, "wrong", "PING") == b""
        assert info(port, "wrong") == {}
        assert info(1, "x") == {}

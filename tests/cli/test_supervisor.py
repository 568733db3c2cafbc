"""Workers as processes: their supervisor, exit codes and health checks."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import psutil
import pytest
from chaos.processes import COMMAND, WORK, Child, environment
from support.waiting import wait_until
from typer.testing import CliRunner

import scraperkit as sk
from scraperkit.cli import app
from scraperkit.cli import supervisor as supervisor_module
from scraperkit.cli.exits import CONFIG, SOFTWARE, UNAVAILABLE
from scraperkit.errors import RedisUnreachable
from scraperkit.health import Health

HEALTH = (COMMAND, "health")
CNPJ = "18.993.924/0001-00"
NOBODY = "redis://:hunter2@127.0.0.1:9"


@pytest.fixture
def around(redis_url, namespace, site):
    return environment(redis_url, namespace, cvm_url=site.url, heartbeat=2.0)


def ended(command, around, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=around | changes, capture_output=True, text=True, timeout=120)


class TestTheCommand:
    def test_a_worker_process_that_dies_is_replaced_and_nothing_is_lost(self, around, redis, namespace, site, tmp_path):
        # The dead worker's name expires before its replacement starts, which then inherits the name and the jobs.
        around |= {"SCRAPERKIT_HEARTBEAT": "0.3", "SCRAPERKIT_LEASE": "20"}

        def workers():
            return Health.read(redis, namespace=namespace).workers

        with Child((*WORK, "--threads", "2", "--processes", "3"), around, tmp_path / "log") as parent:
            parent.ready()
            names = next(line for line in parent.output.splitlines() if line.startswith("READY")).split()[1:]
            assert wait_until(lambda: sorted(names) == [worker.name for worker in workers()])
            assert len(set(names)) == 3
            children = {child.pid for child in psutil.Process(parent.pid).children()}
            assert wait_until(lambda: {worker.pid for worker in workers()} == children)

            site.latency = 0.05
            with sk.CvmPages(site.url) as source:
                months = source.find_fund(CNPJ).months("2022-01", "2023-12")
            batch = sk.Publisher(redis, namespace=namespace).publish(months)
            assert wait_until(lambda: batch.status().done >= 2)
            os.kill(next(iter(children)), signal.SIGKILL)
            assert parent.says("replacing it")
            site.latency = 0
            assert batch.wait(60).done == 24
            assert wait_until(
                lambda: (
                    {worker.pid for worker in workers()}
                    == {child.pid for child in psutil.Process(parent.pid).children()}
                    and len(psutil.Process(parent.pid).children()) == 3
                )
            )

            left = psutil.Process(parent.pid).children()
            assert parent.stop(60) == 0
            assert not [child for child in left if child.is_running()]
            assert not workers()
            assert parent.output.count("READY") == 1, "one line when all listen, none later"

    @pytest.mark.parametrize("processes", ["1", "2"])
    def test_the_command_has_its_exit_codes(self, around, processes):
        work = (*WORK, "--processes", processes)
        misconfigured = ended(work, around, SCRAPERKIT_THREADS="none")
        assert (misconfigured.returncode, misconfigured.stdout) == (CONFIG, "")
        assert "SCRAPERKIT_THREADS" in misconfigured.stderr
        misnamed = ended((*work, "--namespace", "a:b"), around)
        assert misnamed.returncode == CONFIG
        assert "namespace 'a:b'" in misnamed.stderr
        away = ended(work, around, REDIS_URL=NOBODY)
        assert away.returncode == UNAVAILABLE
        assert "127.0.0.1:9" in away.stderr
        assert "hunter2" not in away.stderr

    def test_the_pricer_has_the_same_exit_codes(self, around):
        refused = ended((COMMAND, "api", "--host", "0.0.0.0"), around)
        assert refused.returncode == CONFIG
        assert "without API keys" in refused.stderr

    def test_the_help_lists_the_exit_codes(self, around):
        told = ended((*WORK, "--help"), around, COLUMNS="300").stdout
        for code in (CONFIG, UNAVAILABLE, SOFTWARE):
            assert str(code) in told

    def test_a_stop_during_the_start_is_clean(self, around, tmp_path):
        with socket.create_server(("127.0.0.1", 0)) as silent:  # a Redis that accepts connections and never responds
            url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
            with Child(WORK, around | {"REDIS_URL": url}, tmp_path / "log") as worker:
                silent.settimeout(60)
                connection, _ = silent.accept()
                with connection:
                    assert worker.stop() == 0
        assert "Traceback" not in worker.output

    def test_workers_stop_when_their_parent_is_gone(self, around, redis, namespace, tmp_path):
        with Child((*WORK, "--processes", "2", "--name", "orphan"), around, tmp_path / "log") as parent:
            parent.ready()
            children = psutil.Process(parent.pid).children()
            os.kill(parent.pid, signal.SIGKILL)
            assert wait_until(lambda: not any(map(alive, children)))
        assert not Health.read(redis, namespace=namespace).workers, "each has said farewell"
        assert {"orphan-1", "orphan-2"} <= set(parent.output.split())


class TestHealth:
    def test_health_reports_whether_a_worker_here_is_alive(self, around, redis, namespace, tmp_path):
        nobody = ended(HEALTH, around)
        assert (nobody.returncode, nobody.stderr) == (1, "no worker is alive here\n")
        with Child((*WORK, "--threads", "3", "--name", "one"), around, tmp_path / "log") as worker:
            worker.ready()
            good = ended(HEALTH, around)
            assert (good.returncode, good.stdout) == (0, "one is alive: 3 threads, 0 in hand\n")
            worker.pause()
            assert wait_until(lambda: not Health.read(redis, namespace=namespace).workers)
            assert ended(HEALTH, around).returncode == 1
            worker.resume()
            assert wait_until(lambda: ended(HEALTH, around).returncode == 0)
            assert worker.stop() == 0
        assert ended(HEALTH, around).returncode == 1

    def test_health_ignores_workers_on_other_machines(self, around, redis, namespace):
        from dataclasses import asdict, replace
        from json import dumps

        from scraperkit.engine.registry import WorkerCard, this_host
        from scraperkit.keys import Keys

        keys, card = Keys(namespace), WorkerCard("w", "w/1", this_host(), os.getpid(), 1, "both", 0.0)
        redis.zadd(keys.workers, {"w": 1})
        for other, code in ((card, 0), (replace(card, host="elsewhere"), 1), (replace(card, pid=2**22 + 1), 1)):
            redis.set(keys.worker("w"), dumps(asdict(other)))
            assert ended(HEALTH, around).returncode == code

    def test_an_unreachable_redis_has_its_own_code_and_needs_no_restart(self, around):
        away = ended(HEALTH, around, REDIS_URL=NOBODY)
        assert away.returncode == UNAVAILABLE
        assert "127.0.0.1:9" in away.stderr
        live = ended((*HEALTH, "--live"), around, REDIS_URL=NOBODY)
        assert live.returncode == 0
        assert "hunter2" not in away.stderr + live.stdout

    def test_health_imports_no_heavy_modules(self, around):
        script = (
            "import sys\nfrom scraperkit.cli import app\ntry:\n    app(['health'])\nexcept SystemExit:\n    pass\n"
            "print([name for name in ('pandas', 'numpy', 'matplotlib', 'lxml', 'requests') if name in sys.modules])"
        )
        assert ended([sys.executable, "-c", script], around).stdout == "[]\n"


class TestSupervisor:
    """The parent alone, with children scripted by the test."""

    @pytest.fixture(autouse=True)
    def _quick(self, monkeypatch):
        monkeypatch.setattr(supervisor_module, "_FIRST_RESTART_AFTER", 0.01)
        monkeypatch.setattr(supervisor_module, "_TICK", 0.02)
        monkeypatch.setattr(supervisor_module, "_SHORTEST_LIFE", 60.0)

    def child(self, script: str) -> list[str]:
        start = "import os, signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
        return [sys.executable, "-S", "-c", start + textwrap.dedent(script)]

    def run(self, *scripts: str, until=lambda: False, stop_deadline: float = 60.0, hung_after: float = 60.0) -> int:
        """Run a supervisor here; once `until` holds, this process gets a SIGTERM."""
        over = threading.Event()

        def end() -> None:
            if wait_until(lambda: over.is_set() or until()) and not over.is_set():
                os.kill(os.getpid(), signal.SIGTERM)

        self.supervisor = supervisor_module.Supervisor(
            [self.child(script) for script in scripts], stop_deadline=stop_deadline, hung_after=hung_after
        )
        ender = threading.Thread(target=end)
        ender.start()
        try:
            return self.supervisor.run()
        finally:
            over.set()
            ender.join()

    def test_it_gives_up_on_a_worker_that_keeps_dying_at_its_start(self, tmp_path, caplog):
        code = self.run(f"open({str(tmp_path / 'lives')!r}, 'a').write('x'); sys.exit(3)", WAITS)
        assert code == SOFTWARE
        assert (tmp_path / "lives").read_text() == "xxxxx"
        assert "giving up with exit code 70" in caplog.text

    def test_pauses_grow_and_a_long_life_resets_them(self, tmp_path, caplog, monkeypatch):
        monkeypatch.setattr(supervisor_module, "_SHORTEST_LIFE", 0.0)
        lives = tmp_path / "lives"
        assert self.run(f"open({str(lives)!r}, 'a').write('x'); sys.exit(3)", until=lambda: told(lives) > 6) == 0
        assert "in 0.0 s" in caplog.text

    def test_once_all_are_ready_an_unreachable_redis_is_waited_for(self, tmp_path):
        lives = tmp_path / "lives"
        script = f"""
            lives = {str(lives)!r}
            print("READY x", flush=True)
            with open(lives, "a") as file:
                file.write("x")
            os._exit(69)  # at once: Python ignores signals while it exits
            """
        assert self.run(script, until=lambda: told(lives) > 5) == 0

    def test_a_ready_worker_counts_as_ready_even_if_it_dies_at_once(self):
        script = "print('READY x', flush=True); os._exit(69)"
        supervisor = supervisor_module.Supervisor([self.child(script)], stop_deadline=60, hung_after=60)
        try:
            supervisor._start_those_due()
            supervisor._children[0].process.wait(60)
            supervisor._bury()
            assert supervisor._given_up is None
        finally:
            supervisor._kill_all()
            supervisor._selector.close()

    def test_a_worker_whose_loop_hangs_is_killed_and_replaced(self, tmp_path, caplog):
        lives = tmp_path / "lives"
        script = f"""
            open({str(lives)!r}, "a").write("x")
            print("READY still", flush=True)
            time.sleep(60)
            """
        assert self.run(script, until=lambda: told(lives) > 1, hung_after=0.2) == 0
        assert "still has been silent" in caplog.text
        assert "ended by SIGKILL" in caplog.text

    def test_a_worker_that_prints_regularly_is_not_killed(self, caplog):
        script = """
            print("READY well", flush=True)
            while True:
                print("ALIVE", flush=True)
                time.sleep(0.05)
            """
        heard = set()

        def heard_often() -> bool:
            heard.add(self.supervisor._children[0].heard_at)
            return len(heard) > 5

        assert self.run(script, until=heard_often) == 0
        assert "silent" not in caplog.text

    def test_no_worker_is_killed_for_a_pause_of_the_parent(self, tmp_path, caplog, monkeypatch):
        monkeypatch.setattr(supervisor_module, "_STOOD_STILL", 0.3)
        supervisor = supervisor_module.Supervisor([["true"]], stop_deadline=1, hung_after=10)
        (child,) = supervisor._children
        with subprocess.Popen(self.child(WAITS), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            child.process, child.name, child.heard_at = process, "w", time.monotonic() - 100
            supervisor._kill_the_silent(time.monotonic(), excused=True)
            supervisor._kill_the_silent(time.monotonic(), excused=False)
            assert process.poll() is None
            child.heard_at -= 100
            supervisor._kill_the_silent(time.monotonic(), excused=False)
            assert process.wait(60) == -signal.SIGKILL

    def test_a_worker_that_does_not_stop_is_killed_at_the_deadline(self, tmp_path, monkeypatch, caplog):
        monkeypatch.setattr(supervisor_module, "SLACK", 0.3)
        script = f"""
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            print("READY deaf", flush=True)
            open({str(tmp_path / "there")!r}, "w").close()
            time.sleep(60)
            """
        assert self.run(script, until=(tmp_path / "there").exists, stop_deadline=0.0) == SOFTWARE
        assert "deaf did not stop within" in caplog.text

    def test_a_worker_that_fails_during_a_stop_changes_the_exit_code(self, tmp_path):
        script = f"""
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(70))
            print("READY bad", flush=True)
            open({str(tmp_path / "there")!r}, "w").close()
            time.sleep(60)
            """
        assert self.run(script, until=(tmp_path / "there").exists) == SOFTWARE

    def test_systemd_is_notified(self, tmp_path, monkeypatch, capsys):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.bind(str(tmp_path / "notify"))
            systemd.setblocking(False)
            monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
            script = """
                assert "NOTIFY_SOCKET" not in os.environ
                print("READY one", flush=True)
                time.sleep(60)
                """
            heard: list[str] = []

            def ready() -> bool:
                with contextlib.suppress(BlockingIOError):
                    while True:
                        heard.append(systemd.recv(100).decode())
                return "READY=1" in heard

            assert self.run(script, until=ready) == 0
            with contextlib.suppress(BlockingIOError):
                while True:
                    heard.append(systemd.recv(100).decode())
        assert {"READY=1", "WATCHDOG=1"} <= set(heard)
        assert heard[-1] == "WATCHDOG=1" or heard[-1] == "STOPPING=1"
        assert heard.index("READY=1") < heard.index("STOPPING=1")
        assert capsys.readouterr().out == "READY one\n"


WAITS = "print('READY waits', flush=True); time.sleep(60)"


def told(path: Path) -> int:
    """Return how often a child has written to a file."""
    return len(path.read_text()) if path.exists() else 0


def alive(process: psutil.Process) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_hung_redis_does_not_delay_a_health_check(monkeypatch):
    """It accepts connections and never responds, like a stopped process."""
    monkeypatch.setattr(supervisor_module, "HEALTH_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        began = time.monotonic()
        with pytest.raises(RedisUnreachable, match="hangs"):
            supervisor_module.workers_here_in_time()
        assert time.monotonic() - began < 4
        checked = CliRunner().invoke(app, ["health", "--live"])
        assert (checked.exit_code, "assuming alive" in checked.output) == (0, True)

"""A worker in its own process: killed, frozen, stopped, and never left behind."""

from __future__ import annotations

import subprocess
import sys

import psutil
import pytest
from support.waiting import wait_until

from scraperkit.config import Settings
from scraperkit.engine.hosting import WorkerProcess
from scraperkit.engine.registry import live_workers
from scraperkit.errors import WorkerError
from scraperkit.keys import Keys
from scraperkit.models import Fund
from scraperkit.publisher import Publisher
from scraperkit.replica import Replica

# A short lease makes upkeep frequent; the longer heartbeat keeps a name through a second in which a worker is starved.
QUICK = {"lease": 1.0, "heartbeat": 2.0, "threads": 2, "http_retries": 0}
AN_HOUR = 3600.0
MONTHS = Fund("18993924000100", "132922").months("2022-01", "2022-06")


@pytest.fixture
def site():
    with Replica.start() as site:
        yield site


@pytest.fixture
def make(redis_url, namespace, site):
    """Make worker processes of this test's namespace; none outlives the test."""
    made = []

    def make_process(name: str, **settings) -> WorkerProcess:
        given = Settings.load(namespace=namespace, **QUICK | settings)
        made.append(WorkerProcess(redis_url, site.url, name=name, settings=given).start())
        return made[-1]

    yield make_process
    for process in made:
        process.kill()


def names(redis, namespace) -> list[str]:
    return [worker.name for worker in live_workers(redis, Keys(namespace))]


def test_works_and_gives_its_name_back_when_it_is_stopped(redis, redis_url, namespace, site):
    settings = Settings.load(**QUICK)
    with WorkerProcess(redis_url, site.url, namespace=namespace, settings=settings) as process:
        assert names(redis, namespace) == [process.name]
        assert Publisher(redis, namespace=namespace).publish(MONTHS).wait(60).done == 6
        assert repr(process) == f"<WorkerProcess {process.name}: process {process.pid}>"
    assert names(redis, namespace) == []
    assert not process.running
    assert process.pid is None


def test_another_worker_does_the_jobs_of_a_killed_one(redis, namespace, site, make):
    site.latency = AN_HOUR
    anna = make("anna")
    batch = Publisher(redis, namespace=namespace).publish(MONTHS)
    assert wait_until(lambda: redis.xpending(Keys(namespace).jobs, namespace)["pending"])
    anna.kill()
    assert not anna.running
    site.latency = 0.0
    make("bruno")
    assert batch.wait(60).done == 6
    assert set(batch.events()["worker"].str.partition("/")[0]) == {"bruno"}


def test_a_frozen_worker_wakes_to_find_its_work_done(redis, namespace, site, make):
    site.latency = 3.0
    anna = make("anna")
    batch = Publisher(redis, namespace=namespace).publish(MONTHS)
    assert wait_until(lambda: redis.xpending(Keys(namespace).jobs, namespace)["pending"])
    anna.freeze()
    assert anna.running
    site.latency = 0.0
    make("bruno")
    assert batch.wait(60).done == 6
    anna.thaw()
    assert wait_until(lambda: "superseded" in set(batch.events()["outcome"]))
    assert batch.status().done == 6


def test_a_frozen_worker_can_be_stopped(make):
    anna = make("anna")
    anna.freeze()
    anna.freeze()
    anna.stop()
    assert not anna.running


def test_restarts_under_the_same_name(redis, namespace, make):
    anna = make("anna")
    before = anna.pid
    assert anna.start().pid == before
    anna.kill()
    assert anna.start().pid != before
    assert names(redis, namespace) == ["anna"]


def test_a_worker_that_cannot_start_says_why(site, namespace):
    process = WorkerProcess("redis://127.0.0.1:1", site.url, namespace=namespace)
    with pytest.raises(WorkerError, match="the worker process did not start: .*no Redis responds at 127.0.0.1:1"):
        process.start()
    assert not process.running
    process.stop()


@pytest.mark.parametrize("frozen", [False, True])
def test_ends_with_the_process_that_started_it(redis_url, namespace, site, frozen):
    """Even if that process is killed and cannot clean up."""
    program = f"""
import os, signal
from scraperkit.engine.hosting import WorkerProcess
process = WorkerProcess({redis_url!r}, {site.url!r}, namespace={namespace!r}).start()
if {frozen}:
    process.freeze()
print(process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    # A new session, as in a terminal: when the parent dies, the child's process group is orphaned.
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, start_new_session=True, timeout=60
    )
    pid = int(ended.stdout)
    assert wait_until(lambda: not psutil.pid_exists(pid))
    assert ended.returncode == -9, ended.stderr

"""A kernel that is interrupted or restarted hands its jobs to other workers, and nothing hangs."""

from __future__ import annotations

import textwrap

from support.fakes import FakeSite
from support.kernels import reply_to
from support.waiting import wait_until
from support.workers import subscriber

from scraperkit.batch import Batch
from scraperkit.health import Health
from scraperkit.keys import Keys

CELL = """
import threading
import scraperkit as sk

class StuckSite:
    def fetch(self, request):
        threading.Event().wait(600)

redis = sk.connect()
fund = sk.Fund("18993924000100", "132922")
subscriber = sk.Subscriber(redis, StuckSite(), threads=2)
"""
WITH = """
with subscriber:
    batch = sk.Publisher(redis).publish(fund.months("2021-01", "2021-12"))
    print(batch.id, flush=True)
    batch.wait()
"""
WITHOUT = """
subscriber.start()
batch = sk.Publisher(redis).publish(fund.months("2021-01", "2021-12"))
print(batch.id, flush=True)
"""


def printed(client) -> str:
    """Return the first output of the running cell."""
    while True:
        message = client.get_iopub_msg(timeout=60)
        assert message["msg_type"] != "error", message["content"]["traceback"]
        if message["msg_type"] == "stream" and message["content"]["name"] == "stdout":
            return message["content"]["text"].strip()


def wait_for_work(redis, namespace):
    assert wait_until(lambda: Health.read(redis, namespace=namespace).pending >= 2)


def everything_is_handed_back(redis, namespace, batch_id) -> None:
    keys = Keys(namespace)
    assert wait_until(lambda: not Health.read(redis, namespace=namespace).workers)
    assert redis.xpending(keys.jobs, keys.group)["pending"] == 0
    assert redis.xlen(keys.jobs) == 12
    with subscriber(redis, namespace, FakeSite()):
        assert Batch.find(redis, batch_id, namespace=namespace).wait(60).done == 12


def test_an_interrupted_cell_hands_its_jobs_back(kernel, redis, namespace):
    manager, client = kernel
    asked = client.execute(textwrap.dedent(CELL + WITH))
    batch_id = printed(client)
    wait_for_work(redis, namespace)
    manager.interrupt_kernel()
    reply = reply_to(client, asked)
    assert reply["content"].get("ename") == "KeyboardInterrupt", reply["content"]
    everything_is_handed_back(redis, namespace, batch_id)


def test_a_restarted_kernel_hands_its_jobs_back(kernel, redis, namespace):
    manager, client = kernel
    client.execute(textwrap.dedent(CELL + WITHOUT))
    batch_id = printed(client)
    wait_for_work(redis, namespace)
    manager.restart_kernel(now=False)
    everything_is_handed_back(redis, namespace, batch_id)

"""The replica in its blocking form, for a command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import requests

import scraperkit
from scraperkit.replica import Replica

BLOCKING = """
import signal, threading
from scraperkit.replica import Replica

replica = Replica.start()

def tell():
    while signal.getsignal(signal.SIGTERM) is not signal.default_int_handler:
        pass
    print(replica.url, flush=True)

threading.Thread(target=tell).start()
replica.serve_forever()
print(threading.active_count(), flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_forever_ends_cleanly_on_a_signal(session: requests.Session, number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", BLOCKING],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(scraperkit.__file__).parent.parent)},
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert session.get(url, timeout=60).status_code == 200
        process.send_signal(number)
        rest, errors = process.communicate(timeout=60)
    assert (process.returncode, rest.strip(), errors) == (0, "1", "")


def test_serve_forever_in_a_thread_is_ended_by_stop() -> None:
    replica = Replica.start()
    thread = threading.Thread(target=replica.serve_forever)
    thread.start()
    replica.stop()
    thread.join(timeout=60)
    assert not thread.is_alive()

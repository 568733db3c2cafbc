"""The command as a process, with a replica of the site and a listening worker."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest
from chaos.processes import COMMAND

import scraperkit as sk


@pytest.fixture
def site():
    with sk.Replica.start() as replica:
        yield replica


@pytest.fixture
def environment(redis_url, namespace, site):
    return os.environ | {
        "REDIS_URL": redis_url,
        "SCRAPERKIT_NAMESPACE": namespace,
        "SCRAPERKIT_CVM_URL": site.url,
        "COLUMNS": "120",
        "NO_COLOR": "1",
    }


@pytest.fixture
def end(environment, tmp_path):
    """Run a command to its end."""

    def end(*words: str, **changes: str) -> subprocess.CompletedProcess[str]:
        ended = subprocess.run(
            [COMMAND, *words],
            env=environment | changes,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert "Traceback" not in ended.stderr
        return ended

    return end


@pytest.fixture
def worker(environment):
    """A listening worker process."""
    with subprocess.Popen(
        [COMMAND, "work", "--threads", "4"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline().startswith("READY ")
        yield process
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=60)
    assert process.returncode == 0, log
    assert "Traceback" not in log

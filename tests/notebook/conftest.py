"""A notebook's kernel, without a notebook."""

from __future__ import annotations

import tempfile

import pytest
from jupyter_client.manager import KernelManager


@pytest.fixture
def kernel(redis_url, namespace, monkeypatch):
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("SCRAPERKIT_NAMESPACE", namespace)
    monkeypatch.setenv("SCRAPERKIT_STOP_DEADLINE", "0.5")
    # Unix sockets, with short paths: another kernel may take a free port first.
    sockets = tempfile.TemporaryDirectory(prefix="kernel-")
    manager = KernelManager(kernel_name="python3", transport="ipc", ip=f"{sockets.name}/k")
    manager.shutdown_wait_time = 60  # lets a kernel hand back its jobs before it is killed
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=120)
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    manager.cleanup_resources()
    sockets.cleanup()

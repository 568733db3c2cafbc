"""Run docker-compose.yml as plain processes: same commands, environment and health checks, without a Docker engine.

This module does the engine's work: it maps host names, ports and volume paths to this machine, and uses the embedded
server in place of the image redis:8. Each stack's `bin` has its own `docker compose`, with the commands of
compose_exec.py.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import pytest
import yaml
from chaos.processes import Child

from scraperkit.config import Settings
from scraperkit.embedded import install
from scraperkit.embedded.keeper import free_port
from support.tree import ROOT
from support.waiting import wait_until

FILE = ROOT / "docker-compose.yml"
EXEC = Path(__file__).with_name("compose_exec.py")
PATHS = re.compile(r"(?<![\w./-])/(?:run/secrets|data|deploy|archive|home/scraperkit)\b")  # what containers mount
SENTINELS = ("sentinel-1", "sentinel-2", "sentinel-3")
SERVERS = ("redis", "redis-replica")
PORTS = {
    **dict.fromkeys(SERVERS, 6379),
    **dict.fromkeys(SENTINELS, 26379),
    **{"pricer": 8000, "lab": 8888, "replica": 8765, "portal": 8766, "rates": 8767},
}
# The environment of the profile `ha`.
GUARDED = {
    "SCRAPERKIT_REDIS_SCHEME": "redis+sentinel",
    "SCRAPERKIT_REDIS_HOSTS": "sentinel-1:26379,sentinel-2:26379,sentinel-3:26379/prices",
}
REPLICA = "http://replica:8765/SWB/Sistemas/SCW/CPublica/"
RATES = {
    "SCRAPERKIT_SGS_URL": "http://replica:8767/dados/serie/",
    "SCRAPERKIT_B3_URL": "http://replica:8767/indexStatisticsProxy/IndexCall/",
}


def interpolated(text: str, variables: Mapping[str, str]) -> str:
    """Return the text with each ${NAME:-default} replaced."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: variables.get(found[1]) or found[2], text)


def services(**variables: str) -> dict[str, Any]:
    """Return the services of docker-compose.yml; an environment variable without a value is passed on if it is set."""
    found: dict[str, Any] = yaml.safe_load(interpolated(FILE.read_text(encoding="utf-8"), variables))["services"]
    for service in found.values():
        given = service.get("environment", {})
        passed_on = {name: variables[name] for name, value in given.items() if value is None and name in variables}
        service["environment"] = {name: value for name, value in given.items() if value is not None} | passed_on
    return found


class Stack:
    """The services as processes in a folder; leaving the block ends them all.

    Parameters
    ----------
    lease : float
        Seconds after which a killed worker's jobs are taken over: the only setting that differs from the file, where it
        is a minute.
    **variables
        Variables set before `docker compose up`.

    Attributes
    ----------
    ports : dict
        The port of each service on this machine; ``rates`` is the second one of the replica.
    """

    def __init__(self, folder: Path, *, lease: float = 2.0, **variables: str) -> None:
        for tool in ("bash", "curl", "od", "sha256sum"):
            if shutil.which(tool) is None:
                pytest.skip(f"{tool} is not installed")
        self.folder = folder
        self._lease = lease
        # Below the ephemeral ports, one of which could be taken before its service starts.
        numbers = random.SystemRandom().sample(range(20_000, 32_000), len(PORTS))
        self.ports = {service: free_port(number) for service, number in zip(PORTS, numbers, strict=True)}
        self.services = services(**variables)
        self._running: dict[str, list[Child]] = {name: [] for name in self.services}
        self._started = 0
        home = install.install(Settings.load().cache)
        for name in ("bin", "logs", "tmp"):
            (folder / name).mkdir(parents=True)
        for name in self.services:
            self._mount(name)
        self._modules = ["--loadmodule", str(home / "lib" / "redistimeseries.so")]
        self._write_commands(home)

    def _mount(self, service: str) -> None:
        """Make a container's folder, with each volume as a link to a shared folder."""
        for volume in ["home:/home/scraperkit", *self.services[service].get("volumes", [])]:
            source, target, *_ = volume.split(":")
            shared = ROOT / source if source.startswith(".") else self.folder / "volumes" / source
            if not source.startswith("."):
                shared.mkdir(parents=True, exist_ok=True)
            place = self.container(service) / target.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.unlink(missing_ok=True)
            place.symlink_to(shared)

    def container(self, service: str) -> Path:
        """Return the folder that emulates the root folder of a service's container."""
        return self.folder / "containers" / service

    def _write_commands(self, home: Path) -> None:
        """Write the commands that come first in PATH: redis-cli as in the container, and docker-compose."""
        wrapper = (ROOT / "deploy/redis/redis-cli").read_text(encoding="utf-8")
        real = f"{home}/bin/redis-cli -p {self.ports['redis']}"
        commands = {
            "redis-server": f'#!/bin/sh\nexec {home}/bin/redis-server "$@"\n',
            "redis-cli": self.here(wrapper.replace("/usr/local/bin/redis-cli", real), "redis"),
            "docker": f'#!/bin/sh\nshift  # compose\nexec {sys.executable} -I -S {EXEC} {self.folder} "$@"\n',
        }
        for name, text in commands.items():
            path = self.folder / "bin" / name
            path.write_text(text, encoding="utf-8")
            path.chmod(0o755)
        state = {name: self.environment(name) for name in self.services}
        (self.folder / "stack.json").write_text(json.dumps(state), encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for children in self._running.values():
            for child in children:
                child.kill()

    # ------------------------------------------------------------------ from a container to this machine

    def here(self, text: str, service: str) -> str:
        """Return a command word or environment value of a service with names mapped to this machine."""
        if text in (*SERVERS, *SENTINELS):
            return "127.0.0.1"
        if service in PORTS and text == str(PORTS[service]):
            return str(self.ports[service])
        text = PATHS.sub(lambda found: f"{self.container(service)}{found[0]}", text)
        text = text.replace("redis 6379", f"127.0.0.1 {self.ports['redis']}")
        for name, port in PORTS.items():
            hosts = ("replica", "127.0.0.1") if name in ("portal", "rates") else (name, "127.0.0.1")
            for host in hosts:
                text = text.replace(f"{host}:{port}", f"127.0.0.1:{self.ports[name]}")
            text = text.replace(f"('127.0.0.1', {port})", f"('127.0.0.1', {self.ports[name]})")
            text = str(self.ports[name]) if text == str(port) else text
        return "127.0.0.1" if text == "0.0.0.0" else text

    def environment(self, service: str) -> dict[str, str]:
        """Return a service's whole environment, without this process's own."""
        path = [self.folder / "bin", Path(sys.executable).parent, "/usr/bin", "/bin"]
        own = {name: value for name, value in os.environ.items() if name.startswith("COV")}
        given = self.services[service].get("environment", {})
        return {
            **own,
            "PATH": ":".join(map(str, path)),
            "HOME": self.here("/home/scraperkit", service),
            "TMPDIR": str(self.folder / "tmp"),
            "PYTHONUNBUFFERED": "1",
            "SCRAPERKIT_LEASE": str(self._lease),
            **{name: self.here(str(value), service) for name, value in given.items()},
        }

    def command(self, service: str) -> list[str]:
        """Return the command of a service."""
        words = [self.here(word, service) for word in self.services[service]["command"]]
        if words[0] == "redis-server":
            # The image's entry point adds its modules; without a container network, only this machine may connect.
            port = str(self.ports[service])
            words += ["--port", port, "--replica-announce-port", port, "--bind", "127.0.0.1", *self._modules]
        if words[0] == "jupyter" and os.geteuid() == 0:
            words.append("--allow-root")  # the container does not run as root
        return words

    # ------------------------------------------------------------------ docker compose up, exec

    def up(self, *names: str, **scale: int) -> None:
        """Start or scale services, dependencies first; return when all are healthy."""
        for name in names:
            self._need(name)
        for name in names:
            self._scale(name, scale.get(name, max(1, len(self._running[name]))))
        for name in names:
            assert wait_until(lambda name=name: self.healthy(name)), self.logs(name)

    def _need(self, name: str) -> None:
        for needed, how in self.services[name].get("depends_on", {}).items():
            self._need(needed)
            if how["condition"] == "service_completed_successfully":
                self.run(needed)
            elif not self._running[needed]:
                self.up(needed)

    def run(self, name: str) -> None:
        """Run a one-off service to its end."""
        subprocess.run(self.command(name), env=self.environment(name), check=True, timeout=60)

    def _scale(self, name: str, wanted: int) -> None:
        children = self._running[name] = [child for child in self._running[name] if child.code is None]
        while len(children) < wanted:
            self._started += 1
            log = self.folder / "logs" / f"{name}-{self._started}"
            children.append(Child(tuple(self.command(name)), self.environment(name), log))
        for child in children:
            if self.services[name]["command"][0] == "scraperkit":
                child.ready()
        leaving, self._running[name] = children[wanted:], children[:wanted]
        for child in leaving:
            child.ask_to_stop()
        for child in leaving:
            assert child.wait(60) == 0, child.output

    def down(self) -> None:
        """Stop all services, dependents first; each must exit cleanly by itself."""
        for name in reversed(list(self.services)):
            # JupyterLab ends with its own signal after it shuts down its kernels.
            self._scale(name, 0)

    def children(self, name: str) -> list[Child]:
        """Return the processes of a service."""
        return self._running[name]

    def healthy(self, name: str) -> bool:
        """Run a service's health check once, and return whether it passed."""
        test = self.services[name]["healthcheck"]["test"]
        words = ["/bin/sh", "-c", test[1]] if test[0] == "CMD-SHELL" else test[1:]
        return self.exec(name, *words).returncode == 0

    def exec(self, name: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command as if in a service's container."""
        return subprocess.run(
            [self.here(word, name) for word in words],
            env=self.environment(name),
            capture_output=True,
            text=True,
            timeout=60,
        )

    def logs(self, name: str) -> str:
        """Return the output of all processes of a service."""
        return "".join(path.read_text(errors="replace") for path in sorted(self.folder.glob(f"logs/{name}-*")))

    def redis_url(self, user: str = "scraperkit") -> str:
        """Return the Redis address for one of its users."""
        files = {"scraperkit": "queue/redis-password", "lab": "lab/redis-password", "default": "redis/admin-password"}
        return f"redis://{user}:{self.secrets()[files[user]]}@127.0.0.1:{self.ports['redis']}"

    def secrets(self) -> dict[str, str]:
        """Return the secrets by service and file name, as `pricer/api-keys`."""
        made = self.container("secrets") / "run" / "secrets"
        files = [path for path in made.glob("*/*") if path.name != "users.acl"]
        return {f"{path.parent.name}/{path.name}": path.read_text().strip() for path in files}

"""Every command of docs/service.md and of the README's section on the service runs with the documented output."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.compose import PORTS, RATES, REPLICA, ROOT, Stack
from support.ports import unused_port
from support.waiting import wait_until

import scraperkit as sk
from scraperkit.config import Settings

SERVICE = (ROOT / "docs" / "service.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTION = re.search(r"^## As a service\n(.*?)^## ", README, re.DOTALL | re.MULTILINE)[1]
ENDLESS = ("logs -f", "MONITOR", "scraperkit work", "scraperkit api")


def commands(text: str) -> list[tuple[str, list[str]]]:
    """Return each command with the output shown below it."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


class Reader:
    """A reader who types one command after another in one shell."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.environment = stack.environment("replica")
        self.started: list[subprocess.Popen[str]] = []
        self.own_port = unused_port()

    def types(self, command: str) -> str:
        """Run a command; return its output."""
        if command.startswith("docker compose") and " up " in f"{command} ":
            self._up(shlex.split(command)[2:])
            return ""
        if command.startswith("docker compose start"):
            self._start(shlex.split(command)[3:])
            return ""
        line = self._here(command)
        if any(word in command for word in ENDLESS):
            return self._watch(line)
        # Later commands see the variables that it sets, as in one shell.
        names = re.findall(r"(?:^|\s)([A-Z0-9_]+)=", command) if re.match(r"export |[A-Z]+=", command) else []
        told = self._bash("\n".join([line, *(f'printf "%s\\n" "${name}"' for name in names)]))
        assert told.returncode == 0, f"{command}\n{told.stdout}{told.stderr}"
        self.environment |= dict(zip(names, told.stdout.splitlines(), strict=False))
        return told.stdout

    def _up(self, words: list[str]) -> None:
        assert {word for word in words if word.startswith("-")} <= {"--build", "-d", "--scale", "--profile"}
        scale = dict(word.split("=") for word in words if "=" in word)
        if "replica" in words:
            self.stack.up("replica")
        self.stack.up("pricer", "queue", **{name: int(number) for name, number in scale.items()})

    def _start(self, names: list[str]) -> None:
        """Kill a container of each service, and start it again."""
        for name in names:
            killed, *others = self.stack.children(name)
            killed.kill()
            self.stack.up(name, **{name: 1 + len(others)})

    def _here(self, command: str) -> str:
        if "scraperkit api" in command:
            return command.replace("8000", str(self.own_port))
        for service, port in PORTS.items():
            for host in ("127.0.0.1", "replica"):
                command = command.replace(f"{host}:{port}", f"127.0.0.1:{self.stack.ports[service]}")
        return command

    def _bash(self, script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-ec", script], env=self.environment, capture_output=True, text=True, timeout=120
        )

    def _watch(self, line: str) -> str:
        """Start a command that does not end, and return its first line."""
        process = subprocess.Popen(
            ["bash", "-c", f"exec {line}"],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.started.append(process)
        return process.stdout.readline()

    def leaves(self) -> None:
        """Interrupt all running commands."""
        for process in self.started:
            process.terminate()
        for process in self.started:
            process.communicate(timeout=60)


@pytest.fixture
def reader(tmp_path) -> Iterator[Reader]:
    with Stack(tmp_path / "stack", SCRAPERKIT_CVM_URL=REPLICA, SCRAPERKIT_RATE="60", **RATES) as stack:
        stack.up("replica")
        with sk.Replica.start() as site:
            site.portal.crawl_delay = 0
            with sk.OpenData(site.open_data_url, archive=stack.container("pricer") / "archive") as market:
                market.download("2024-12", "2024-12")  # what the profile `market` would fetch
        reader = Reader(stack)
        try:
            yield reader
        finally:
            reader.leaves()


def test_every_documented_command_has_the_documented_output(reader):
    run = 0
    for command, shown in commands(SERVICE):
        said = reader.types(command)
        for line in shown:
            assert line in said, f"{command}\n{said}"
        if "redis-cli PUBLISH" in command:
            assert int(said) >= 1
            with sk.connect(reader.stack.redis_url()) as redis:
                assert wait_until(lambda: redis.exists("scraperkit:{18993924000100}:quota"))
        if any(word in command for word in ENDLESS):
            assert said, command
        run += 1
    assert run >= 25
    # Some commands replaced a key and a password: the old key is invalid, the new password works, and all services
    # still run without a restart.
    asked = 'curl -s -o /dev/null -w "%{http_code}" -H "X-API-Key: $KEY" http://127.0.0.1:8000/v1/funds'
    assert wait_until(lambda: reader.types(asked) == "401")
    reader.types("KEY=$(docker compose exec -T pricer cat /run/secrets/api-keys)")
    assert wait_until(lambda: reader.types(asked) == "200")
    sk.connect(reader.stack.redis_url()).close()
    listening = "docker compose exec redis redis-cli PUBSUB NUMSUB fund_parser"
    assert wait_until(lambda: reader.types(listening).split() == ["fund_parser", "5"]), (
        "three queues, and two beside them"
    )
    said = reader.types("docker compose exec redis redis-cli ACL LOG")
    assert "command" not in said, f"Redis has refused something: {said}"


def test_the_document_says_how_to_restart_a_killed_queue():
    paragraph = next(text for text in SERVICE.split("\n\n") if "`docker kill`" in text)
    after = SERVICE.partition(paragraph)[2]
    assert commands(after)[0] == ("docker compose start queue", [])


def test_the_readmes_commands_for_the_service_work(reader):
    for command, _ in commands(SECTION):
        said = reader.types(command)
        if command.startswith("curl"):
            assert '"status":4' not in said, said
            assert '"status":5' not in said, said
        if "/v1/funds" in command and "-d" in command:
            batch = re.search('"batch_id":"([^"]+)"', said)[1]
            with sk.connect(reader.stack.redis_url()) as redis:
                assert sk.Batch.find(redis, batch).wait(60).done == 12
    assert '"quotas":"257.20819272"' in said


@pytest.mark.parametrize("name", ["service.md", "scaling.md"])
class TestWhatIsSaid:
    def test_links_resolve(self, name):
        text = (ROOT / "docs" / name).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#]*)(?:#[^)]*)?\)", text):
            assert (ROOT / "docs" / target).exists(), target

    def test_documented_settings_exist(self, name):
        text = (ROOT / "docs" / name).read_text(encoding="utf-8")
        variables = set(re.findall(r"SCRAPERKIT_([A-Z0-9_]+)", text)) - {
            *("REDIS_PORT", "API_PORT", "LAB_PORT", "REDIS_SCHEME", "REDIS_HOSTS")  # of Compose alone
        }
        assert variables <= {field.upper() for field in Settings.model_fields}

    def test_documented_commands_exist(self, name):
        text = (ROOT / "docs" / name).read_text(encoding="utf-8")
        for command in set(re.findall(r"`scraperkit (\w+)", text)):
            told = subprocess.run([Path(sys.executable).parent / "scraperkit", command, "--help"], capture_output=True)
            assert told.returncode == 0, command


def test_documented_exit_codes_match_the_code():
    from scraperkit.cli.exits import TABLE

    table = re.findall(r"^\| (\d+) \|", SERVICE, re.MULTILINE)
    assert sorted(map(int, table)) == sorted(TABLE)

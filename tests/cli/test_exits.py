"""One table of exit codes: the same kind of failure ends every command with the same code."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
import typer
from support.tree import ROOT

from scraperkit import cli
from scraperkit.cli.exits import CONFIG, INCOMPLETE, INTERRUPTED, SOFTWARE, TABLE, UNAVAILABLE, USAGE, code_of
from scraperkit.errors import RedisUnreachable, ScraperKitError, SiteUnavailable, UnknownFund, WorkerError

NOWHERE = "127.0.0.1:9"
A, ABSENT, NO_CNPJ = "18993924000100", "99.101.011/0001-25", "18.993.924/0001-01"
# Each command's valid and invalid arguments; None if no argument is invalid.
COMMANDS: dict[str, tuple[list[str], list[str] | None]] = {
    "redis start": ([], None),
    "redis stop": ([], None),
    "redis status": ([], None),
    "redis url": ([], None),
    "redis cli": ([], None),
    "batch status": (["5a7e"], None),
    "batch wait": (["5a7e"], None),
    "batch cancel": (["5a7e"], None),
    "dead list": ([], ["--namespace", "a b"]),
    "dead retry": ([], ["--namespace", "a b"]),
    "dead drop": (["--all"], ["--all", "--namespace", "a b"]),
    "market download": ([], ["--start", "soon"]),
    "market find": (["ipê"], ["ipê", "--out", "x.xls"]),
    "market load": ([], ["--start", "soon"]),
    "market changes": ([], ["--start", "soon"]),
    "market completeness": ([], ["--start", "soon"]),
    "market rejected": ([], ["--start", "soon"]),
    "market info": ([], ["--out", "x.xls"]),
    "market prune": (["--keep", "1"], None),
    "api": ([], ["--namespace", "a b"]),
    "rates": (["cdi"], ["ouro"]),
    "summary": ([], [NO_CNPJ]),
    "jumps": ([], ["--smallest", "5"]),
    "export": (["-o", "x.csv"], [NO_CNPJ, "-o", "x.csv"]),
    "update": ([], [NO_CNPJ]),
    "work": ([], ["--namespace", "a b"]),
    "health": ([], ["--namespace", "a b"]),
    "demo": ([], None),
    "publish": ([A], [NO_CNPJ]),
    "prices": ([], [NO_CNPJ]),
    "replica": ([], None),
    "doctor": ([], None),
}
ROOMS = ("batch", "dead", "summary", "jumps", "prices")
NEED_REDIS = [name for name in COMMANDS if name.partition(" ")[0] in ROOMS] + [
    *("market load", "export", "update", "work", "health", "publish", "rates", "demo")
]
# On a screen, they are sentences on stderr.
pytestmark = pytest.mark.filterwarnings("ignore::scraperkit.errors.ScraperKitWarning")


def leaves(command: click.Command, path: str = "") -> Iterator[str]:
    if not hasattr(command, "commands"):
        yield path.strip()
        return
    for name, inner in command.commands.items():
        yield from leaves(inner, f"{path} {name}")


@pytest.fixture
def ends(monkeypatch, tmp_path, capsys, redis_url, namespace):
    """Return a function that runs a command line in this process and returns its exit code."""
    for name, value in {
        "REDIS_URL": redis_url,
        "SCRAPERKIT_NAMESPACE": namespace,
        "SCRAPERKIT_ARCHIVE": str(tmp_path / "archive"),
        "SCRAPERKIT_HTTP_RETRIES": "0",
        "SCRAPERKIT_CVM_URL": f"http://{NOWHERE}/",
        "SCRAPERKIT_OPEN_DATA_URL": f"http://{NOWHERE}/",
        "SCRAPERKIT_SGS_URL": f"http://{NOWHERE}/",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("warnings.showwarning", lambda *_: None)
    # What a command sets in this process would outlive the test.
    monkeypatch.setattr("signal.signal", lambda *_: None)

    def ends(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["scraperkit", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert "Traceback" not in capsys.readouterr().err
        return int(ended.value.code or 0)

    return ends


def test_every_command_is_covered_here():
    assert sorted(leaves(typer.main.get_command(cli.app))) == sorted(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_option_is_a_usage_error(ends, command):
    if command == "redis cli":
        pytest.skip("it passes its options on")
    assert ends(*command.split(), "--no-such-option") == USAGE


@pytest.mark.parametrize("command", [name for name, (_, wrong) in COMMANDS.items() if wrong])
def test_an_invalid_argument_exits_with_the_configuration_code(ends, command):
    wrong = COMMANDS[command][1]
    assert ends(*command.split(), *(wrong or [])) == CONFIG


@pytest.mark.parametrize("command", NEED_REDIS)
def test_an_unreachable_redis_exits_with_the_unavailable_code(ends, monkeypatch, command):
    monkeypatch.setenv("REDIS_URL", f"redis://{NOWHERE}")
    words = [ABSENT] if command == "update" else COMMANDS[command][0]
    assert ends(*command.split(), *words) == UNAVAILABLE


@pytest.mark.parametrize(
    "words",
    [
        ["publish", A],
        ["rates", "cdi"],
        ["export", A, "-o", "x.csv"],
        ["update", A],
        ["market", "find", "ipê"],
        ["market", "download", "--start", "2024-12", "--end", "2024-12"],
    ],
    ids=lambda words: words[0] if words[0] != "market" else words[1],
)
def test_an_unreachable_site_exits_with_1(ends, words):
    assert ends(*words) == INCOMPLETE


@pytest.mark.parametrize(
    "words",
    [
        *(["prices"], ["prices", ABSENT], ["prices", "no such name"]),
        *(["summary"], ["summary", ABSENT], ["summary", "no such name"], ["jumps", ABSENT], ["jumps", "no such name"]),
        *(["export", "-o", "x.csv"], ["update"], ["batch", "status", "5a7e"], ["batch", "wait", "5a7e"]),
        *(["market", "changes"], ["health"]),
    ],
    ids=" ".join,
)
def test_finding_nothing_exits_with_1(ends, words):
    assert ends(*words) == INCOMPLETE


def test_every_error_of_the_kit_has_a_documented_exit_code():
    kinds = [ScraperKitError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    assert {code_of(kind("x")) for kind in kinds} <= set(TABLE)
    assert code_of(SiteUnavailable("x")) == code_of(UnknownFund("x")) == INCOMPLETE
    assert (code_of(RedisUnreachable("x")), code_of(WorkerError("x"))) == (UNAVAILABLE, SOFTWARE)


def test_help_and_documentation_have_the_table_of_exit_codes():
    ended = subprocess.run([sys.executable, "-m", "scraperkit", "--help"], capture_output=True, text=True, check=True)
    shown = " ".join(ended.stdout.replace("│", " ").split())
    page = (ROOT / "docs" / "service.md").read_text(encoding="utf-8")
    for code, what in TABLE.items():
        assert f"{code} {what}" in shown
        assert f"| {code} | {what} |" in page
    assert INTERRUPTED in TABLE

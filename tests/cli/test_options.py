"""Every command has the same options for days and months, under two pairs of names."""

from __future__ import annotations

import re

import pytest
import typer.main
from typer.testing import CliRunner

from scraperkit.cli import app
from scraperkit.cli.options import option_name

PAIRS = {"--start": "--from", "--end": "--to"}


def commands(group, *words):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, *words, name)
        else:
            yield (*words, name), command


DATED = [
    words
    for words, command in commands(typer.main.get_command(app))
    if any("--start" in getattr(option, "opts", ()) for option in command.params)
]


def test_no_command_declares_the_aliases_itself():
    assert len(DATED) > 8
    for words, command in commands(typer.main.get_command(app)):
        names = {name for option in command.params for name in option.opts}
        assert not names & {"--from", "--to"}, words
        assert ("--start" in names) == ("--end" in names), words
    assert [option_name(word) for word in ("from", "to", "start", "out")] == ["start", "end", "start", "out"]


@pytest.mark.parametrize("words", DATED, ids=" ".join)
def test_both_names_of_an_option_work_and_help_shows_one(words):
    runner = CliRunner()
    told = runner.invoke(app, [*words, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"}).stdout
    for shown, other in PAIRS.items():
        assert re.search(rf"{shown}\b", told)
        assert not re.search(rf"{other}\b", told)
        # Both fail for lack of a value, so both are options of the command.
        errors = {name: runner.invoke(app, [*words, name]) for name in (shown, other)}
        assert all(error.exit_code == 2 for error in errors.values())
        assert all("requires an argument" in error.output for error in errors.values()), errors[other].output
    assert "YYYY-MM" in told

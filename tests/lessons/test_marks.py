"""A number or a claim about an output in a lesson's text is checked during the run."""

from __future__ import annotations

import asyncio
from types import ModuleType

import nbformat
import pytest
from support.tree import load_tool


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    return load_tool("notebooks.py")


@pytest.mark.parametrize(
    ("said", "value"),
    [
        *[("24", 24), ("Four", 4), ("**none**", "none"), ("28.6 %", 0.28604), ("−0.74", -0.7412), ("+0.21", 0.2149)],
        *[("1,324", 1323.6), ("`4,0498`", "4,0498"), ("twice", True), ("7 %", 0.0697), ("3.6", 3.633)],
    ],
)
def test_a_text_that_agrees_with_the_value_passes(tool, said, value):
    assert tool.agrees(said, value)


@pytest.mark.parametrize(
    ("said", "value"),
    [
        *[("24", 25), ("Four", 3), ("+0.21", -0.21), ("28.6 %", 28.6), ("0.2", 0.26), ("twice", False), ("twice", 2)],
        ("3,5012", "4,0498"),
    ],
)
def test_a_text_that_disagrees_with_the_value_fails(tool, said, value):
    assert not tool.agrees(said, value)


def test_a_run_reports_what_is_untrue(tool, tmp_path):
    code, text = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell
    notebook = nbformat.v4.new_notebook(
        cells=[
            code("class lesson: namespace = 'none'\nfound = [3, 4]"),
            text("It has two<!--= len(found) --> values, and the last is 5<!--= found[-1] -->."),
            code("found = []"),
            text("Now it is empty<!--= not found -->; it is full\n<!--= bool(found) -->."),
        ]
    )
    path = tmp_path / "lesson.ipynb"
    nbformat.write(notebook, path)
    run = asyncio.run(tool.run(path))
    assert run.untrue == ["'5', but found[-1] is 4", "'full', but bool(found) is False"]
    assert [cell.source for cell in run.notebook.cells] == [cell.source for cell in notebook.cells]

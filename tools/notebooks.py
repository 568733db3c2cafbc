"""Execute the lessons from top to bottom, each in a new kernel, into out/notebooks.

::

    python tools/notebooks.py             # each once, without solutions
    python tools/notebooks.py --twice     # each twice, at the same time on one Redis: without and with solutions
    python tools/notebooks.py 01 02       # only lessons whose names begin with 01 or 02

The notebooks in the repository are not changed, and stay without outputs.

The run checks statements of the text about outputs. An HTML comment, invisible to readers, follows a number or a claim:
``24<!--= kept.status().done -->``, ``twice as fast<!--= fast > 1.8 * slow -->``. Its expression is evaluated at that
point of the lesson. A number must agree with the value to the decimals written, a text must equal it, and a claim must
be true.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from traitlets.config import Config

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "notebooks"
OUT = ROOT / "out" / "notebooks"
LONGEST = 60  # seconds, on a quiet computer
_SOLUTION = re.compile(r"<details><summary>Solution</summary>\s+```python\n(.*?)```", re.DOTALL)
_CHECK = re.compile(r"^lesson\.check\((\d+), \w+\)$")
_MARK = re.compile(r"(\S+(?: %)?)\s*<!--= (.+?) -->")
_NUMBER = re.compile(r"[+\-−]?\d[\d,]*(?:\.(\d+))?(?: ?(%))?$")
_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_BEFORE = "import threading as _threading; _threads_before = set(_threading.enumerate())"
# On a large output, zmq starts a thread, which does not belong to the lesson.
_AFTER = """
import json as _json
_left = [t for t in set(_threading.enumerate()) - _threads_before if not type(t).__module__.startswith("zmq")]
print("LEFT " + _json.dumps({"namespace": lesson.namespace, "threads": sorted(t.name for t in _left)}))
"""


@dataclass(frozen=True, slots=True)
class Run:
    """Result of one run of a notebook.

    Attributes
    ----------
    notebook : nbformat.NotebookNode
        The notebook with its outputs.
    seconds : float
        Duration, including the start of the kernel.
    namespace : str
        The lesson's namespace.
    threads : list of str
        Names of the threads still running at the end.
    unsolved, solved : dict
        Output of each exercise's check before and after its solution ran; `solved` is empty without solutions.
    untrue : list of str
        False statements of the text about outputs; not checked with a live site.
    """

    notebook: Any
    seconds: float
    namespace: str
    threads: list[str]
    unsolved: dict[int, str]
    solved: dict[int, str]
    untrue: list[str]


def lessons(names: Iterable[str] = ()) -> list[Path]:
    """Return the notebooks whose names begin with one of `names`; without names, all notebooks."""
    beginnings = tuple(names) or ("",)
    return sorted(path for path in FOLDER.glob("*.ipynb") if path.name.startswith(beginnings))


def solutions(notebook: Any) -> dict[int, str]:
    """Return the code of each exercise's folded solution, by the exercise's number."""
    found: dict[int, str] = {}
    number = 0
    for cell in notebook.cells:
        check = _CHECK.match(cell.source) if cell.cell_type == "code" else None
        number = int(check[1]) if check else number
        code = _SOLUTION.search(cell.source) if cell.cell_type == "markdown" else None
        if code:
            found[number] = code[1]
    return found


def agrees(said: str, value: Any) -> bool:
    """Return whether a text agrees with the value of an expression.

    Examples
    --------
    >>> agrees("28.6 %", 0.2861), agrees("**Four**", 4), agrees("+0.21", 0.226), agrees("faster", False)
    (True, True, False, False)
    """
    said = said.strip("*_`'\"(")
    if isinstance(value, bool | str):
        return value is True or value == said
    if said.lower() in _WORDS:
        return bool(_WORDS.index(said.lower()) == value)
    number = _NUMBER.fullmatch(said)
    if number is None:
        return False
    written = float(re.sub(r"[,% ]", "", said).replace("−", "-"))
    decimals = len(number[1] or "")
    return bool(abs(value * (100 if number[2] else 1) - written) <= 0.5 * 10**-decimals + 1e-9)


async def _untrue(client: NotebookClient, text: str) -> list[str]:
    """Return the false statements of a text about outputs."""
    marks = _MARK.findall(text)
    if not marks:
        return []
    values = ", ".join(f"({expression})" for _, expression in marks)
    code = f"print('SAID ' + __import__('json').dumps([getattr(v, 'item', lambda v=v: v)() for v in [{values}]]))"
    actual = _read("SAID", await _aside(client, code))
    return [
        f"{said!r}, but {expression} is {value!r}"
        for (said, expression), value in zip(marks, actual, strict=True)
        if value is None or not agrees(said, value)
    ]


async def run(
    path: Path,
    *,
    solve: bool = False,
    live: bool = False,
    redis_url: str | None = None,
    folder: Path | None = None,
) -> Run:
    """Execute a notebook in a new kernel.

    Parameters
    ----------
    path : pathlib.Path
        The notebook, which is not changed.
    solve : bool
        After each exercise's check, run the solution, and then the check again.
    live, redis_url
        Values of the two variables in the first cell.
    folder : pathlib.Path, optional
        Working folder of the kernel; by default, the notebook's folder.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        If a cell raises.
    """
    started = time.monotonic()
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    first.source = first.source.replace("LIVE = False", f"LIVE = {live}", 1)
    first.source = first.source.replace("REDIS_URL = None", f"REDIS_URL = {redis_url!r}", 1)
    answers = solutions(notebook) if solve else {}
    unsolved: dict[int, str] = {}
    solved: dict[int, str] = {}
    untrue: list[str] = []
    # With a backend that draws to files, charts would not appear in the notebook.
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    with tempfile.TemporaryDirectory(prefix="lesson-") as sockets:
        client = _client(notebook, folder or path.parent, Path(sockets))
        async with client.async_setup_kernel(env=environment):
            await _aside(client, _BEFORE)
            for index, cell in enumerate(list(notebook.cells)):
                if cell.cell_type == "markdown" and not live:
                    untrue += await _untrue(client, cell.source)
                await client.async_execute_cell(cell, index, execution_count=client.code_cells_executed + 1)
                check = _CHECK.match(cell.source) if cell.cell_type == "code" else None
                if check:
                    number = int(check[1])
                    unsolved[number] = _text(cell)
                    if number in answers:
                        await _aside(client, answers[number])
                        solved[number] = await _aside(client, cell.source)
            left = _read("LEFT", await _aside(client, _AFTER))
            client.set_widgets_metadata()
    return Run(notebook, time.monotonic() - started, left["namespace"], left["threads"], unsolved, solved, untrue)


def _client(notebook: Any, folder: Path, sockets: Path) -> NotebookClient:
    """Return a client whose kernel uses sockets in a folder: another kernel could take its TCP ports."""
    config = Config({"KernelManager": {"transport": "ipc", "ip": str(sockets / "kernel")}})
    config.NotebookClient.iopub_timeout = 60  # outputs may be late on a busy machine
    config.NotebookClient.coalesce_streams = True  # printed text may arrive in pieces
    resources = {"metadata": {"path": str(folder)}}
    return NotebookClient(notebook, timeout=120, kernel_name="python3", resources=resources, config=config)


async def _aside(client: NotebookClient, code: str) -> str:
    """Run code that is not in the notebook, and return its output."""
    cells = client.nb.cells
    cells.append(nbformat.v4.new_code_cell(code))  # type: ignore[no-untyped-call]
    try:
        return _text(await client.async_execute_cell(cells[-1], len(cells) - 1, store_history=False))
    finally:
        cells.pop()


def _read(word: str, shown: str) -> Any:
    """Read the JSON that code printed after a word; the kernel may have printed other text, too."""
    found = re.search(rf"{word} (.*)$", shown, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"the kernel did not print {word} and a value, but: {shown[:2000]!r}")
    return json.loads(found[1])


def _text(cell: Any) -> str:
    """Return all output of a cell as text."""
    shown = [str(output.get("text") or output.get("data", {}).get("text/plain", "")) for output in cell.outputs]
    return "\n".join(shown).strip()


async def _all(paths: list[Path], *, twice: bool) -> int:
    failed = 0
    for path in paths:
        jobs = [run(path), run(path, solve=True)] if twice else [run(path)]
        for number, result in enumerate(await asyncio.gather(*jobs, return_exceptions=True)):
            failed += not _report(path, number, result)
    return failed


def _report(path: Path, number: int, result: Run | BaseException) -> bool:
    """Print the result of a run, and save a run without solutions; return whether it succeeded."""
    if not isinstance(result, Run):
        why = result.traceback if isinstance(result, CellExecutionError) else repr(result)
        print(f"FAILED  {path.stem}\n{why}", file=sys.stderr)
        return False
    wrong = [text for text in result.solved.values() if not text.endswith("is done.")]
    if result.threads or wrong or result.untrue:
        print(
            f"FAILED  {path.stem}: threads left: {result.threads}; failing solutions: {wrong}; "
            f"false statements: {'; '.join(result.untrue) or 'none'}",
            file=sys.stderr,
        )
        return False
    if number == 0:
        OUT.mkdir(parents=True, exist_ok=True)
        nbformat.write(result.notebook, OUT / path.name)  # type: ignore[no-untyped-call]
    how = f"{len(result.solved)} exercises solved" if result.solved else "without solutions"
    slow = f" (longer than {LONGEST} s: is the computer busy?)" if result.seconds > LONGEST else ""
    print(f"ok      {path.stem}  {result.seconds:.1f} s, {how}{slow}")
    return True


def main() -> int:
    """Execute the requested lessons."""
    parser = argparse.ArgumentParser(description="Execute the lessons into out/notebooks.")
    parser.add_argument("names", nargs="*", help="beginnings of names, such as: 01 02; default: all lessons")
    parser.add_argument("--twice", action="store_true", help="each twice, at the same time: without and with solutions")
    options = parser.parse_args()
    paths = lessons(options.names)
    if not paths:
        print(f"no notebook in {FOLDER} has a name that begins with {' or '.join(options.names)}.", file=sys.stderr)
        return 1
    return 1 if asyncio.run(_all(paths, twice=options.twice)) else 0


if __name__ == "__main__":
    sys.exit(main())

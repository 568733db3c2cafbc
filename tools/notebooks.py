"""Execute the lessons, each in a fresh kernel and from top to bottom, into out/notebooks.

::

    python tools/notebooks.py             # each once, unsolved
    python tools/notebooks.py --twice     # each twice, two at a time on one Redis: unsolved, and with its solutions
    python tools/notebooks.py 01 02       # only those whose names begin like this

The notebooks themselves stay as they are, without outputs.

The run checks what the text says about outputs. An HTML comment, which readers do not see, follows a number or a claim:
``24<!--= kept.status().done -->``, ``twice as fast<!--= fast > 1.8 * slow -->``. The expression is evaluated at that
place in the notebook. A number must agree with it to the decimals written, a text must be equal, and a claim must be
true.
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
LONGEST = 60  # seconds
_SOLUTION = re.compile(r"<details><summary>Solution</summary>\s+```python\n(.*?)```", re.DOTALL)
_CHECK = re.compile(r"^lesson\.check\((\d+), \w+\)$")
_MARK = re.compile(r"(\S+(?: %)?)\s*<!--= (.+?) -->")
_NUMBER = re.compile(r"[+\-−]?\d[\d,]*(?:\.(\d+))?(?: ?(%))?$")
_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_BEFORE = "import threading as _threading; _threads_before = set(_threading.enumerate())"
# With a large output, Jupyter's own zmq starts a thread, which does not concern the lesson.
_AFTER = """
import json as _json
_left = [t for t in set(_threading.enumerate()) - _threads_before if not type(t).__module__.startswith("zmq")]
print("LEFT", _json.dumps({"namespace": lesson.namespace, "threads": sorted(t.name for t in _left)}))
"""


@dataclass(frozen=True, slots=True)
class Run:
    """The result of one run of a notebook.

    Attributes
    ----------
    notebook : nbformat.NotebookNode
        With its outputs.
    seconds : float
        Duration, including the kernel's start.
    namespace : str
        The lesson's.
    threads : list of str
        Names of the threads still running at the end.
    unsolved, solved : dict
        The message of each exercise's check before and after its solution was run; `solved` is empty for a plain run.
    untrue : list of str
        False claims of the text about outputs; not checked with a live site.
    """

    notebook: Any
    seconds: float
    namespace: str
    threads: list[str]
    unsolved: dict[int, str]
    solved: dict[int, str]
    untrue: list[str]


def lessons(names: Iterable[str] = ()) -> list[Path]:
    """Return the notebooks whose names begin with one of `names`; all if `names` is empty."""
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
    told = float(re.sub(r"[,% ]", "", said).replace("−", "-"))
    decimals = len(number[1] or "")
    return bool(abs(value * (100 if number[2] else 1) - told) <= 0.5 * 10**-decimals + 1e-9)


async def _untrue(client: NotebookClient, text: str) -> list[str]:
    """Return the claims of a text about outputs that are false now."""
    marks = _MARK.findall(text)
    if not marks:
        return []
    values = ", ".join(f"({expression})" for _, expression in marks)
    code = f"print('SAID', __import__('json').dumps([getattr(v, 'item', lambda v=v: v)() for v in [{values}]]))"
    found = re.search(r"^SAID (.*)$", await _aside(client, code), re.MULTILINE)
    told = json.loads(found[1]) if found else [None] * len(marks)
    return [
        f"{said!r}, but {expression} is {value!r}"
        for (said, expression), value in zip(marks, told, strict=True)
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
    """Execute a notebook in a separate kernel.

    Parameters
    ----------
    path : pathlib.Path
        The notebook; it is not changed.
    solve : bool
        Run each exercise's check on the unsolved answer, then its solution, then the check again.
    live, redis_url
        The values of the two variables in the first cell.
    folder : pathlib.Path, optional
        The kernel's working directory; the notebook's own folder if omitted.

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
    # A backend that draws into files would not draw into the notebook.
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
            left = _read(await _aside(client, _AFTER))
            client.set_widgets_metadata()
    return Run(notebook, time.monotonic() - started, left["namespace"], left["threads"], unsolved, solved, untrue)


def _client(notebook: Any, folder: Path, sockets: Path) -> NotebookClient:
    """A client that uses Unix sockets in a folder, since another kernel may take a TCP port meanwhile."""
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


def _read(shown: str) -> dict[str, Any]:
    """Read what the last lines of code printed; the kernel may have printed other text as well."""
    found = re.search(r"^LEFT (.*)$", shown, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"the kernel did not report what is left; it printed: {shown[:2000]!r}")
    return dict(json.loads(found[1]))


def _text(cell: Any) -> str:
    """Return everything that a cell shows, as text."""
    shown = [str(output.get("text") or output.get("data", {}).get("text/plain", "")) for output in cell.outputs]
    return "\n".join(shown).strip()


async def _all(paths: list[Path], *, twice: bool) -> int:
    failed = 0
    for path in paths:
        jobs = [run(path), run(path, solve=True)] if twice else [run(path)]
        for number, result in enumerate(await asyncio.gather(*jobs, return_exceptions=True)):
            failed += not _tell(path, number, result)
    return failed


def _tell(path: Path, number: int, result: Run | BaseException) -> bool:
    """Report a run, and save a plain one; return whether it succeeded."""
    if not isinstance(result, Run):
        why = result.traceback if isinstance(result, CellExecutionError) else repr(result)
        print(f"FAILED  {path.stem}\n{why}", file=sys.stderr)
        return False
    wrong = [text for text in result.solved.values() if not text.endswith("is done.")]
    if result.threads or wrong or result.untrue or result.seconds > LONGEST:
        print(
            f"FAILED  {path.stem}: {result.seconds:.1f} s of at most {LONGEST}; "
            f"threads left: {result.threads}; solutions that fail: {wrong}; "
            f"false claims of the text: {'; '.join(result.untrue) or 'nothing'}",
            file=sys.stderr,
        )
        return False
    if number == 0:
        OUT.mkdir(parents=True, exist_ok=True)
        nbformat.write(result.notebook, OUT / path.name)  # type: ignore[no-untyped-call]
    how = f"{len(result.solved)} exercises solved" if result.solved else "unsolved"
    print(f"ok      {path.stem}  {result.seconds:.1f} s, {how}")
    return True


def main() -> int:
    """Execute the requested lessons."""
    parser = argparse.ArgumentParser(description="Execute the lessons into out/notebooks.")
    parser.add_argument("names", nargs="*", help="beginnings of names, as in: 01 02; all if omitted")
    parser.add_argument("--twice", action="store_true", help="each twice, two at a time: unsolved and solved")
    options = parser.parse_args()
    paths = lessons(options.names)
    if not paths:
        print(f"no notebook in {FOLDER} begins with {' or '.join(options.names)}.", file=sys.stderr)
        return 1
    return 1 if asyncio.run(_all(paths, twice=options.twice)) else 0


if __name__ == "__main__":
    sys.exit(main())

"""Print figures on the package's structure: root modules, import cycles, lines, and files that a first run calls.

Run it from anywhere: ``.venv/bin/python tools/figures.py``. With ``--files``, it lists the files that the README's ten
lines call.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import io
import os
import sys
import tempfile
import threading
import types
import warnings
from collections.abc import Iterator
from pathlib import Path

import grimp

import scraperkit

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "scraperkit"
# These stand in for the outside world.
_OUTSIDE = ("replica/", "research/offline_mode", "embedded/")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description="Print figures on the package's structure.")
    parser.add_argument("--files", action="store_true", help="list the files that the README's ten lines call")
    options = parser.parse_args()

    sizes = {path.relative_to(PACKAGE).as_posix(): _lines(path) for path in sorted(PACKAGE.rglob("*.py"))}
    longest = max(sizes, key=sizes.__getitem__)
    called = files_called_by(ten_lines())
    circles = import_circles()
    print(f"modules at the root       {len(list(PACKAGE.glob('*.py')))}")
    print(f"import cycles             {len(circles)}, including type-only imports")
    print(f"files of the ten lines    {len(called)}, without offline mode and embedded server")
    print(f"Python                    {sum(sizes.values()):,} lines in {len(sizes)} files")
    print(f"longest file              {longest}, {sizes[longest]} lines")
    print(f"Lua                       {sum(map(_lines, PACKAGE.rglob('*.lua'))):,} lines")
    for circle in circles:
        print(f"cycle: {', '.join(sorted(circle))}")
    if options.files:
        print(*called, sep="\n")


def import_circles() -> list[set[str]]:
    """Return the sets of modules that import each other, directly or indirectly."""
    graph = grimp.build_graph("scraperkit")
    reached = {module: graph.find_downstream_modules(module) | {module} for module in graph.modules}
    circles = []
    rest = set(graph.modules)
    while rest:
        module = rest.pop()
        circle = {other for other in reached[module] if module in reached[other]}
        rest -= circle
        if len(circle) > 1:
            circles.append(circle)
    return circles


def ten_lines() -> str:
    """Return the README's example of that name."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Ten lines\n")[2]
    return section.partition("```python\n")[2].partition("```")[0]


def files_called_by(code: str) -> list[str]:
    """Run `code` on a private Redis, and return the package's files whose functions it calls in any thread."""
    seen: set[str] = set()

    def profile(frame: types.FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_flags & inspect.CO_OPTIMIZED:  # not a module or class body
            seen.add(frame.f_code.co_filename)

    with _alone(), scraperkit.offline():  # as before the example: only what it does then is counted
        threading.setprofile(profile)
        sys.setprofile(profile)
        try:
            exec(compile(code, "README.md", "exec"), {})
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
    paths = (Path(name).relative_to(PACKAGE).as_posix() for name in seen if Path(name).is_relative_to(PACKAGE))
    return sorted(path for path in paths if not path.startswith(_OUTSIDE))


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Isolate a run from the user's settings, and clean up afterwards."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in [name for name in os.environ if name.startswith("SCRAPERKIT_") or name == "REDIS_URL"]:
            if name != "SCRAPERKIT_CACHE":
                del os.environ[name]
        os.environ |= {"SCRAPERKIT_DATA": folder, "MPLBACKEND": "agg"}
        yield
        from scraperkit.embedded import shared

        shared.release()


def _lines(path: Path) -> int:
    return path.read_text(encoding="utf-8").count("\n")


if __name__ == "__main__":
    main()

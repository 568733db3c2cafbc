"""Build the site with Sphinx, for reading offline: out/site/index.html.

The pages are the project's Markdown files, the lessons that tools/notebooks.py has executed into out/notebooks, and the
API reference, which Sphinx makes from the docstrings. They are staged in a folder with the repository's layout, so that
links work as in the repository.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import nbformat
from outputs import fold_predicted, freeze_widgets, mark_long_cells

ROOT = Path(__file__).resolve().parent.parent.parent
HERE = Path(__file__).resolve().parent
EXECUTED = ROOT / "out" / "notebooks"
STAGED = ROOT / "out" / "site-source"
OUT = ROOT / "out" / "site"
PAGES = ("*.md", "docs/*.md", "notebooks/*.md", "data/*.md", "examples/*.md", "benchmarks/*.md")
_LINK = re.compile(r"\]\(([^)\s#:]+)[)#]")
# A README is the index of its folder.
_README = re.compile(r"(\]\([^)\s:]*?)\bREADME\.md")
# Tables of contents that are added to pages.
_CONTENTS = {
    "index.md": (
        "notebooks/index",
        "docs/index",
        "api/index",
        "Benchmarks <benchmarks/results>",
        "CONTRIBUTING",
        "CHANGELOG",
        "Português <README.pt-BR>",
    ),
}


def stage(executed: Path, staged: Path) -> None:
    """Write the source of the site: pages, lessons, and all files that they link to.

    Parameters
    ----------
    executed : pathlib.Path
        Folder of the notebooks with their outputs.
    staged : pathlib.Path
        Folder for the source; emptied first.
    """
    shutil.rmtree(staged, ignore_errors=True)
    shutil.copytree(HERE / "pages", staged)
    pages = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in _pages()}
    pages |= {f"notebooks/{path.name}": _lesson(path) for path in sorted(executed.glob("*.ipynb"))}
    for name, text in pages.items():
        page = name.removesuffix("README.md") + "index.md" if name.endswith("README.md") else name
        entries = _numbered(executed) if page == "notebooks/index.md" else _CONTENTS.get(page, ())
        _write(staged / page, _README.sub(r"\1index.md", text) + _contents(entries))
        for linked in _linked(name, text) - pages.keys():
            (staged / linked).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / linked, staged / linked)


def _pages() -> Iterator[Path]:
    return (path for pattern in PAGES for path in sorted(ROOT.glob(pattern)))


def _lesson(path: Path) -> str:
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    fold_predicted(notebook)
    freeze_widgets(notebook)
    mark_long_cells(notebook)
    return str(nbformat.writes(notebook))  # type: ignore[no-untyped-call]


def _numbered(executed: Path) -> list[str]:
    """Return the lessons with their numbers, by which texts name them."""
    titles = {path.stem: nbformat.read(path, as_version=4).cells[0].source for path in sorted(executed.glob("*.ipynb"))}  # type: ignore[no-untyped-call]
    return [f"{stem[:2]} {text.partition(chr(10))[0].removeprefix('# ')} <{stem}>" for stem, text in titles.items()]


def _contents(entries: Sequence[str]) -> str:
    return "\n\n```{toctree}\n:hidden:\n:glob:\n\n" + "\n".join(entries) + "\n```\n" if entries else ""


def _linked(page: str, text: str) -> set[str]:
    """Return the files of the repository that a page links to or shows."""
    targets = {(ROOT / page).parent.joinpath(link).resolve() for link in _LINK.findall(text)}
    return {path.relative_to(ROOT).as_posix() for path in targets if path.is_file() and path.is_relative_to(ROOT)}


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def build(executed: Path, staged: Path, out: Path) -> None:
    """Stage the source and build it with Sphinx; a warning is an error.

    Raises
    ------
    subprocess.CalledProcessError
        If Sphinx warns or fails; it says why on stderr.
    """
    stage(executed, staged)
    shutil.rmtree(out, ignore_errors=True)
    options = ("--quiet", "--fail-on-warning", "--jobs", "auto")
    folders = ("--conf-dir", HERE, "--doctree-dir", staged / ".doctrees", staged, out)
    subprocess.run((sys.executable, "-m", "sphinx", *options, *folders), check=True)


def main() -> int:
    """Build the site from the executed lessons."""
    if not any(EXECUTED.glob("*.ipynb")):
        print("no executed lessons: run `make notebooks` first.", file=sys.stderr)
        return 1
    try:
        build(EXECUTED, STAGED, OUT)
    except subprocess.CalledProcessError as error:
        return error.returncode
    print(f"{len(list(OUT.rglob('*.html')))} pages; start at {OUT.relative_to(ROOT) / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

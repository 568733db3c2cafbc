"""Renders the lessons with their outputs as web pages, to be read offline: out/site/index.html.

It takes what tools/notebooks.py has executed into out/notebooks.
"""

from __future__ import annotations

import re
import shutil
import sys
from html import escape
from pathlib import Path
from typing import Any

import nbformat
from nbconvert import HTMLExporter

ROOT = Path(__file__).resolve().parent.parent.parent
EXECUTED = ROOT / "out" / "notebooks"
OUT = ROOT / "out" / "site"
_WIDGET = "application/vnd.jupyter.widget-view+json"
_STATE = "application/vnd.jupyter.widget-state+json"
_LINK = re.compile(r'href="(?!https?:)([^"#]*)\.ipynb')


def render(executed: Path, out: Path) -> list[Path]:
    """Render every notebook of a folder, and an index made from the map of the lessons.

    Parameters
    ----------
    executed : pathlib.Path
        Where the notebooks with outputs are.
    out : pathlib.Path
        Where the pages go.

    Returns
    -------
    list of pathlib.Path
        The pages, the index first.
    """
    notebooks = {path.stem: _read(path) for path in sorted(executed.glob("*.ipynb"))}
    for notebook in notebooks.values():
        freeze_widgets(notebook)
    overview = _overview((ROOT / "notebooks" / "README.md").read_text(encoding="utf-8"))
    pages = [{"href": "index.html", "title": "Lessons"}]
    pages += [{"href": f"{stem}.html", "title": stem.replace("_", " ")} for stem in notebooks]
    shutil.copytree(ROOT / "notebooks" / "images", out / "images", dirs_exist_ok=True)
    made = []
    for stem, notebook in {"index": overview, **notebooks}.items():
        made.append(out / f"{stem}.html")
        made[-1].write_text(page(notebook, stem, pages), encoding="utf-8")
    return made


def page(notebook: Any, stem: str, pages: list[dict[str, str]]) -> str:
    """Return a notebook as one HTML page: its plots are in it, its links lead to the other pages."""
    exporter = HTMLExporter(  # type: ignore[no-untyped-call]
        extra_template_paths=[str(Path(__file__).parent)], template_file="lesson.html.j2"
    )
    about = {"metadata": {"name": _title(notebook)}, "pages": pages, "page": f"{stem}.html"}
    html, _ = exporter.from_notebook_node(notebook, about)
    return _LINK.sub(r'href="\1.html', str(html))


def freeze_widgets(notebook: Any) -> None:
    """Put what each widget showed in the end in its place, as plain HTML: widgets themselves need a script."""
    states = notebook.metadata.get("widgets", {}).get(_STATE, {}).get("state", {})
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            view = output.get("data", {}).pop(_WIDGET, None)
            if view is not None and view["model_id"] in states:
                output["data"]["text/html"] = f"<div>{_frozen(view['model_id'], states)}</div>"
    notebook.metadata.pop("widgets", None)


def _frozen(model_id: str, states: Any) -> str:
    model = states.get(model_id, {})
    name, state = model.get("model_name", ""), model.get("state", {})
    if "children" in state:
        parts = [_frozen(child.removeprefix("IPY_MODEL_"), states) for child in state["children"]]
        between = " " if name == "HBoxModel" else "<br>"
        return between.join(filter(None, parts))
    if name == "FloatProgressModel":
        return f"<progress value='{float(state.get('value', 0)):g}' max='{float(state.get('max', 100)):g}'></progress>"
    if name == "HTMLModel":
        return str(state.get("value", ""))
    if name == "ButtonModel":
        return f"<button disabled>{escape(str(state.get('description', '')))}</button>"
    return escape(str(state.get("value", "")))


def _overview(text: str) -> Any:
    """The map of the lessons as a notebook of one cell: what readers need of the README, and not what authors do."""
    for_readers = text.partition("## Writing a lesson")[0]
    cell = nbformat.v4.new_markdown_cell(for_readers)  # type: ignore[no-untyped-call]
    return nbformat.v4.new_notebook(cells=[cell])  # type: ignore[no-untyped-call]


def _title(notebook: Any) -> str:
    return next(iter(re.findall(r"^# (.+)$", notebook.cells[0].source, re.MULTILINE)), "Lessons")


def _read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


def main() -> int:
    """Render what has been executed."""
    if not any(EXECUTED.glob("*.ipynb")):
        print("there are no executed notebooks yet: run `make notebooks` first.", file=sys.stderr)
        return 1
    index, *others = render(EXECUTED, OUT)
    print(f"{len(others)} lessons as pages; begin with {index.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The lessons as web pages: to be read offline, with nothing fetched and no script, solutions folded away."""

from __future__ import annotations

import re
from types import ModuleType

import nbformat
import pytest
from bs4 import BeautifulSoup
from support.tree import ROOT, load_tool

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    return load_tool("site/render.py")


@pytest.fixture(scope="module")
def pages(tool, tmp_path_factory) -> dict[str, BeautifulSoup]:
    made = tool.render(ROOT / "notebooks", tmp_path_factory.mktemp("site"))
    return {path.name: BeautifulSoup(path.read_text(encoding="utf-8"), "lxml") for path in made}


def test_each_lesson_is_a_page_and_the_index_leads_to_it(pages):
    names = [f"{path.stem}.html" for path in NOTEBOOKS]
    assert list(pages) == ["index.html", *names]
    linked = {link["href"] for link in pages["index.html"].main.find_all("a")}
    assert set(names) <= linked
    assert "Writing a lesson" not in pages["index.html"].get_text()


def test_nothing_is_fetched_and_nothing_runs(pages):
    for page in pages.values():
        assert not page.find_all("script")
        assert not page.find_all("link", href=re.compile("^(https?:)?//"))
        assert not page.find_all(src=re.compile("^(https?:)?//"))
        assert not re.search(r"@import|url\((?!['\"]?(data:|#))", "".join(style.get_text() for style in page("style")))


def test_pages_tell_their_language_their_title_and_where_one_is(pages):
    for name, page in pages.items():
        assert page.html["lang"] == "en"
        assert page.title.get_text() == page.main.h1.get_text().rstrip("¶")
        assert [link["href"] for link in page.nav.find_all("a", attrs={"aria-current": "page"})] == [name]


def test_links_between_lessons_lead_to_pages(pages):
    for page in pages.values():
        links = {link["href"] for link in page.find_all("a")}
        assert not [link for link in links if ".ipynb" in link]


def test_pictures_are_there_and_described(pages):
    for name, page in pages.items():
        if name != "index.html":
            assert page.main.img["src"].startswith("images/")
            assert len(page.main.img["alt"]) > 40


def test_solutions_are_folded_away(pages):
    folded = pages["01_publish_batches.html"].find_all("details")
    assert len(folded) == 3
    assert all("answer_" in solution.find("pre").get_text() for solution in folded)
    assert not any(solution.has_attr("open") for solution in folded)


def test_a_widget_is_frozen_as_it_was_in_the_end(tool):
    def model(name, **state):
        return {"model_name": name, "state": state}

    states = {
        "box": model("HBoxModel", children=["IPY_MODEL_text", "IPY_MODEL_bar", "IPY_MODEL_stop"]),
        "text": model("HTMLModel", value="scraping: 100%"),
        "bar": model("FloatProgressModel", value=12.0, max=12.0),
        "stop": model("ButtonModel", description="<stop>"),
    }
    cell = nbformat.v4.new_code_cell("batch.wait()")
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "box"}, "text/plain": "0/12"}
    cell.outputs = [nbformat.v4.new_output("display_data", data=view)]
    notebook = nbformat.v4.new_notebook(cells=[cell])
    notebook.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": states}}
    tool.freeze_widgets(notebook)
    assert "widgets" not in notebook.metadata
    assert notebook.cells[0].outputs[0].data["text/html"] == (
        "<div>scraping: 100% <progress value='12' max='12'></progress> <button disabled>&lt;stop&gt;</button></div>"
    )

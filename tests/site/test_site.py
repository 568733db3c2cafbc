"""The site is complete and searchable, its internal links work, and it fetches nothing."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import nbformat
import pytest
from bs4 import BeautifulSoup
from support.tree import ROOT, load_tool

import scraperkit as sk

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
WIDGET = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
LONG = "SiteUnavailable: the site does not respond: connecting timed out"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


def executed_lesson():
    """Return a lesson with outputs: printed text, a progress bar, a chart and a table; its text has a formula."""

    def model(name, **state):
        return {"model_name": name, "state": state}

    states = {
        "box": model("HBoxModel", children=["IPY_MODEL_text", "IPY_MODEL_bar", "IPY_MODEL_stop"]),
        "text": model("HTMLModel", value="scraping: 100%"),
        "bar": model("FloatProgressModel", value=12.0, max=12.0),
        "stop": model("ButtonModel", description="<stop>"),
    }
    output = nbformat.v4.new_output
    code = nbformat.v4.new_code_cell("batch.wait()")
    code.outputs = [
        output("stream", text="12 published, 12 done\n"),
        output("display_data", data={WIDGET: {"model_id": "box"}, "text/plain": "0/12"}),
        output("display_data", data={WIDGET: {"model_id": "text"}, "text/html": "<p>4 threads are idle</p>"}),
        output("display_data", data={"image/png": PIXEL, "text/plain": "a chart"}),
        output("display_data", data={"text/html": "<table class='dataframe'><tr><td>R$ 1,10</td></tr></table>"}),
        output("display_data", data={"text/html": f"<table class='dataframe'><tr><td>{LONG}</td></tr></table>"}),
    ]
    text = nbformat.v4.new_markdown_cell("# Run it\n\n$\\sigma = \\sqrt{252}, \\dots$ costs R$ 1 or R$ 2.")
    question = nbformat.v4.new_markdown_cell("**Predict.** How many are lost?")
    answer = nbformat.v4.new_code_cell("batch.status()")
    answer.outputs = [output("stream", text="0 lost\n")]
    notebook = nbformat.v4.new_notebook(cells=[text, code, question, answer])
    notebook.metadata = {**nbformat.read(NOTEBOOKS[0], as_version=4).metadata}
    notebook.metadata["widgets"] = {STATE: {"state": states}}
    return notebook


@pytest.fixture(scope="module")
def tool():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "tools" / "site")
        yield load_tool("site/build.py")


@pytest.fixture(scope="module")
def site(tool, tmp_path_factory) -> Path:
    """Return the whole site, with the repository's lessons without outputs, and one lesson with outputs."""
    folder = tmp_path_factory.mktemp("site")
    executed = shutil.copytree(ROOT / "notebooks", folder / "executed")
    nbformat.write(executed_lesson(), executed / "99_executed.ipynb")
    tool.build(executed, folder / "source", folder / "site")
    return folder / "site"


@pytest.fixture(scope="module")
def pages(site) -> dict[str, BeautifulSoup]:
    found = [page for page in sorted(site.rglob("*.html")) if "_static" not in page.parts]
    return {page.relative_to(site).as_posix(): BeautifulSoup(page.read_text("utf-8"), "lxml") for page in found}


class TestPages:
    def test_each_markdown_file_of_the_repository_is_a_page_that_another_page_links_to(self, pages):
        texts = [path for folder in (".", "docs", "notebooks") for path in (ROOT / folder).glob("*.md")]
        names = {path.relative_to(ROOT).with_suffix(".html").as_posix() for path in [*texts, *NOTEBOOKS]}
        names = {re.sub(r"\bREADME\.html$", "index.html", name) for name in names} | {"benchmarks/results.html"}
        assert names <= pages.keys()
        assert names <= {target for name, page in pages.items() for target, _ in links(name, page) if target != name}

    def test_the_home_page_has_the_picture_and_the_commands(self, pages):
        home = pages["index.html"].article
        assert home.img["alt"].startswith("Ten funds")
        assert "$ make demo" in home.get_text()

    @pytest.mark.parametrize("module", ["", "metrics", "plot", "calendar"])
    def test_each_public_name_is_in_the_reference_with_its_docstring(self, pages, module):
        owner = getattr(sk, module) if module else sk
        prefix = f"scraperkit.{module}." if module else "scraperkit."
        for name in owner.__all__:
            page = pages[f"api/generated/{prefix}{name}.html"].article
            assert page.find("p").get_text(), name
            if inspect.isfunction(getattr(owner, name)):
                assert page.find("p").get_text().split()[:2] == getattr(owner, name).__doc__.split()[:2], name

    def test_each_setting_is_in_the_reference(self, pages):
        text = pages["api/generated/scraperkit.Settings.html"].article.get_text()
        for field, info in sk.Settings.model_fields.items():
            assert field in text
            assert str(info.description).split("`")[0] in text

    def test_pages_declare_their_language(self, pages):
        languages = {name: page.html["lang"] for name, page in pages.items()}
        assert languages.pop("README.pt-BR.html") == "pt-BR"
        assert set(languages.values()) == {"en"}


class TestLessons:
    def test_an_executed_lesson_shows_its_outputs_and_its_formulas(self, pages):
        lesson = pages["notebooks/99_executed.html"].article
        assert "12 published, 12 done" in lesson.get_text()
        assert lesson.find("img", src=re.compile(r"^\.\./_images/.*\.png$"))
        assert lesson.find("table", class_="dataframe").get_text(strip=True) == "R$ 1,10"
        assert lesson.find("math").find("msqrt").get_text(strip=True) == "252"
        assert "costs R$ 1 or R$ 2." in lesson.get_text()

    def test_only_an_output_below_a_question_is_folded(self, pages):
        shown = pages["notebooks/99_executed.html"].select("div.cell_output")
        folded = [cell.get_text(strip=True) for cell in shown if cell.find_parent("details")]
        assert (len(shown), folded) == (2, ["0 lost"])

    def test_a_widget_shows_its_last_state(self, pages):
        output = pages["notebooks/99_executed.html"].find("progress").parent
        assert output.get_text(" ", strip=True) == "scraping: 100% <stop>"
        assert output.progress["value"] == output.progress["max"] == "12"

    def test_a_widget_with_html_beside_it_shows_what_its_cell_showed(self, pages):
        text = pages["notebooks/99_executed.html"].article.get_text()
        assert "4 threads are idle" in text
        assert text.count("scraping: 100%") == 1

    def test_long_texts_in_tables_are_wrapped_and_others_are_not(self, pages):
        cells = pages["notebooks/99_executed.html"].select("table.dataframe td")
        assert [(cell.get_text(strip=True), cell.get("class")) for cell in cells] == [
            ("R$ 1,10", None),
            (LONG, ["long"]),
        ]

    def test_the_navigation_names_lessons_by_their_numbers(self, pages):
        entries = pages["notebooks/index.html"].select("nav.bd-links li > a")
        assert [entry.get_text(strip=True)[:3] for entry in entries] == [f"{path.stem[:2]} " for path in NOTEBOOKS] + [
            "99 "
        ]

    def test_solutions_are_folded(self, pages):
        folded = [details for details in pages["notebooks/01_publish_batches.html"].find_all("details") if details.pre]
        assert len(folded) >= 3
        assert not any(details.has_attr("open") for details in folded)

    def test_pictures_have_descriptions(self, pages):
        for path in NOTEBOOKS:
            assert len(pages[f"notebooks/{path.stem}.html"].article.img["alt"]) > 40


def links(name: str, page: BeautifulSoup) -> set[tuple[str, str]]:
    """Return the pages and anchors of the site that a page links to."""
    found = {urldefrag(urljoin(name, link["href"])) for link in page.find_all("a", href=True)}
    return {(unquote(target) or name, unquote(anchor)) for target, anchor in found if not urlsplit(target).scheme}


def test_every_internal_link_leads_to_an_existing_page_and_heading(site, pages):
    anchors = {name: {tag["id"] for tag in page.find_all(id=True)} for name, page in pages.items()}
    lost = [
        (name, target, anchor)
        for name, page in pages.items()
        for target, anchor in links(name, page)
        if not (site / target).is_file() or (anchor and target in anchors and anchor not in anchors[target])
    ]
    assert sum(len(links(name, page)) for name, page in pages.items()) > 1_000
    assert lost == []


def test_no_page_and_no_style_sheet_refers_to_another_host(site, pages):
    elsewhere = re.compile(r"^(https?:)?//")
    for name, page in pages.items():
        assert not page.find_all(["script", "img", "iframe", "source"], src=elsewhere), name
        assert not page.find_all("link", href=elsewhere), name
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*(url\()?['\"]?(https?:)?//", sheet.read_text("utf-8")), sheet.name


@contextmanager
def served(folder: Path) -> Iterator[str]:
    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def lab():
    tool = load_tool("lab.py")
    if tool.CHROMIUM is None:
        reason = "Chromium is not installed; on Debian and Ubuntu: apt-get install chromium"
        assert not os.environ.get("CI"), reason
        pytest.skip(reason)
    return tool


@pytest.mark.parametrize("opened", ["from a server", "as files"])
def test_it_can_be_searched_in_a_browser(lab, site, opened):
    """Offline readers open it as files; there, a browser refuses to load the excerpts of results."""
    from_server = opened == "from a server"
    asked: list[str] = []
    wrong: list[str] = []
    with served(site) if from_server else nullcontext(site.as_uri()) as address, lab.browser() as page:
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(f"{address}/index.html")
        page.keyboard.press("Control+k")
        page.keyboard.type("fencing token")
        page.keyboard.press("Enter")
        result = page.locator("#search-results li", has=page.locator('a[href*="CONTRIBUTING.html"]')).first
        result.locator("a").first.wait_for()
        if from_server:
            result.get_by_text("fencing token").first.wait_for()
        result.locator("a").first.click()
        page.get_by_role("heading", name="Contributing").wait_for()
        for name in ("notebooks/99_executed.html", "api/generated/scraperkit.prices.html"):
            page.goto(f"{address}/{name}")
            page.locator("article h1").wait_for()
    assert wrong == [] if from_server else set(wrong) <= {"Failed to fetch"}
    assert len(asked) > 10
    assert [url for url in asked if not url.startswith((address, "data:"))] == []


def test_building_without_executed_lessons_says_what_to_do(tool, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tool, "EXECUTED", tmp_path)
    assert tool.main() == 1
    assert "run `make notebooks` first" in capsys.readouterr().err

"""Every lesson runs twice in a real JupyterLab, in a real browser, and shows its charts and widgets."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path

import nbformat
import psutil
import pytest
from playwright.sync_api import TimeoutError as PlaywrightTimeout
from support.tree import ROOT
from support.waiting import wait_until

from scraperkit.lessons import LESSONS

OUT = ROOT / "out" / "browser"
# Dashboard, progress bar and live chart are here; `make lessons-in-browser` runs the others, too.
LIVELIEST = ("03_workers_in_the_background", "08_news_live")
OTHERS = [pytest.param(name, marks=pytest.mark.exhaustive) for name in LESSONS if name not in LIVELIEST]
# The least number of jobs or files that the first progress bar of these lessons counts.
WITH_PROGRESS = {"00_tour": 11, "03_workers_in_the_background": 11, "07_the_whole_market": 36, "08_news_live": 3}


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("lab_tool", ROOT / "tools" / "lab.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["lab_tool"] = module
    spec.loader.exec_module(module)
    if module.CHROMIUM is None:
        reason = "Chromium is not installed; on Debian and Ubuntu: apt-get install chromium"
        assert not os.environ.get("CI"), reason
        pytest.skip(reason)
    return module


def errors_in(path: Path) -> list[str]:
    cells = nbformat.read(path, as_version=4).cells
    outputs = [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]
    return [f"{output.ename}: {output.evalue}" for output in outputs if output.output_type == "error"]


def picture(page, locator, name: str) -> None:
    locator.scroll_into_view_if_needed()
    page.screenshot(path=OUT / f"{name}.png")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    OUT.mkdir(parents=True, exist_ok=True)
    folder = tmp_path_factory.mktemp("lab") / "notebooks"
    shutil.copytree(ROOT / "notebooks", folder, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    return folder


@pytest.fixture(scope="module")
def lab(tool, folder, redis_url):
    before = set(psutil.Process().children(recursive=True))
    with tool.serve(folder, {"REDIS_URL": redis_url}) as address:
        yield address
    assert wait_until(lambda: not set(psutil.Process().children(recursive=True)) - before)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", [*LIVELIEST, *OTHERS])
def test_a_lesson_runs_twice_in_jupyterlab(tool, lab, folder, name):
    with tool.browser() as page:
        notebook = tool.Notebook(page, lab, f"{name}.ipynb")
        notebook.hide_sidebar()
        for _ in range(2):
            notebook.clear_all()
            assert not notebook.panel.locator(".jp-OutputArea-output").count()
            notebook.run_all()
            try:
                notebook.output_of(-1).get_by_text("The lesson is over: no worker failed").wait_for(timeout=300_000)
            except PlaywrightTimeout:
                page.screenshot(path=OUT / f"{name}-failed.png")
                notebook.save()
                pytest.fail(f"{name} did not reach its end: {errors_in(folder / f'{name}.ipynb')}")
            notebook.save()
            assert not errors_in(folder / f"{name}.ipynb")
            assert not page.locator(".jp-toast-button, .Toastify__toast").count(), "JupyterLab shows a notification"
        look_at(page, notebook, name)


def look_at(page, notebook, name: str) -> None:
    """Take pictures of what a lesson shows at its end, and check them."""
    for number, plot in enumerate(notebook.panel.locator(".jp-OutputArea-output img").all(), 1):
        picture(page, plot, f"{name}-plot-{number}")
        assert plot.evaluate("image => image.complete && image.naturalWidth > 300")
    if name in WITH_PROGRESS:
        bar = notebook.panel.locator(".jp-OutputArea-output", has=page.locator(".progress-bar-success")).first
        picture(page, bar, f"{name}-progress")
        words = bar.inner_text().split()
        done, _, published = next(word for word in words if "/" in word).partition("/")
        assert "100%" in words
        assert int(done) == int(published) >= WITH_PROGRESS[name]
    if name == "03_workers_in_the_background":  # its dashboard ended with its subscriber
        dashboard = notebook.panel.locator(".widget-html-content", has_text="scraper-4")
        picture(page, dashboard, "03-dashboard")
        assert "stopped" in dashboard.inner_text()
        assert "idle" in dashboard.inner_text()
    if name == "08_news_live":  # its chart has followed the prices to their end
        chart = notebook.panel.locator(".widget-html-content", has_text="closed").first
        picture(page, chart, "08-live")
        assert "to 2023-04" in chart.inner_text()

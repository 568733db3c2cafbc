"""Two lessons in a real JupyterLab, in a real browser: Run All, and everything is there."""

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

OUT = ROOT / "out" / "browser"
LESSONS = ("00_tour", "03_workers_in_the_background")


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("lab_tool", ROOT / "tools" / "lab.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["lab_tool"] = module
    spec.loader.exec_module(module)
    if module.CHROMIUM is None:
        reason = "no chromium here; on Debian and Ubuntu: apt-get install chromium"
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


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_lessons_run_in_jupyterlab(tool, redis_url, tmp_path):
    OUT.mkdir(parents=True, exist_ok=True)
    folder = tmp_path / "notebooks"
    shutil.copytree(ROOT / "notebooks", folder, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    before = set(psutil.Process().children(recursive=True))
    # One user after the other: each lesson has the browser to itself.
    with tool.serve(folder, {"REDIS_URL": redis_url}) as address, tool.browser() as page:
        for name in LESSONS:
            notebook = tool.Notebook(page, address, f"{name}.ipynb")
            notebook.hide_sidebar()
            notebook.run_all()
            try:
                notebook.output_of(-1).get_by_text("The lesson is over: no worker failed").wait_for(timeout=300_000)
            except PlaywrightTimeout:
                page.screenshot(path=OUT / f"{name}-failed.png")
                notebook.save()
                pytest.fail(f"{name} did not come to its end: {errors_in(folder / f'{name}.ipynb')}")
            notebook.save()
            assert not errors_in(folder / f"{name}.ipynb")

            plot = notebook.panel.locator(".jp-OutputArea-output img").first
            picture(page, plot, f"{name}-plot")
            assert plot.evaluate("image => image.complete && image.naturalWidth > 300")

            bar = notebook.panel.locator(".jp-OutputArea-output", has=page.locator(".progress-bar-success")).first
            picture(page, bar, f"{name}-progress")
            words = bar.inner_text().split()
            done, _, published = next(word for word in words if "/" in word).partition("/")
            assert "100%" in words
            assert int(done) == int(published) > 10

        # Lesson 03 has shown a dashboard too, which ended with its subscriber.
        dashboard = notebook.panel.locator(".widget-html-content", has_text="scraper-4")
        picture(page, dashboard, "03-dashboard")
        assert "stopped" in dashboard.inner_text()
        assert "idle" in dashboard.inner_text()
    assert wait_until(lambda: not set(psutil.Process().children(recursive=True)) - before)

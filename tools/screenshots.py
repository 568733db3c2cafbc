"""Make the pictures of README.md: ``make screenshots`` writes docs/demo.png, one-call.png and dashboard.png.

The charts are those of the demo and of the README's first example. For the dashboard it runs a small notebook in
JupyterLab in Debian's Chromium, and takes the screenshot while jobs are running.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import uuid
from pathlib import Path
from typing import Any

import lab
import nbformat

from scraperkit import Replica, connect
from scraperkit.keys import Keys

CELLS = (
    """
    subscriber = sk.Subscriber(redis, source, threads=6, name="lab-1").start()
    subscriber.dashboard()
    """,
    """
    funds = [source.find_fund(fund.cnpj) for fund in site_funds]
    requests = [request for fund in funds for request in fund.months("2022-01", "2023-12")]
    random.shuffle(requests)
    batch = sk.Publisher(redis).publish(requests, force=True)
    batch.wait()
    """,
)
SETUP = """
import random, threading, time
import scraperkit as sk
from scraperkit.replica.sample import load_sample

class Moody(sk.CvmPages):
    "A site with random response times and a few errors."
    luck = random.Random(7)
    def fetch(self, request):
        time.sleep(self.luck.uniform(0.3, 2.2))
        if self.luck.random() < 0.06:
            raise sk.errors.SiteUnavailable("HTTP 503 after all retries", self.url)
        return super().fetch(request)

redis, source = sk.connect(), Moody({address!r})
site_funds = [fund for fund in load_sample().funds if fund.active and fund.ended_on is None][:8]
"""


def notebook(address: str) -> Any:
    """Return the notebook; its first cell is not in the screenshot."""
    sources = [SETUP.format(address=address).strip(), *(textwrap.dedent(cell).strip() for cell in CELLS)]
    made = nbformat.v4.new_notebook(  # type: ignore[no-untyped-call]
        cells=[nbformat.v4.new_code_cell(source) for source in sources]  # type: ignore[no-untyped-call]
    )
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return made


def charts() -> None:
    """Run the demo and the first example of README.md, and keep their charts."""
    code = (lab.ROOT / "README.md").read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]
    with tempfile.TemporaryDirectory(prefix="scraperkit-picture-") as folder:
        demo = [sys.executable, "-m", "scraperkit", "demo", "--chart", "demo.png"]
        for command in (demo, [sys.executable, "-c", code]):
            subprocess.run(command, cwd=folder, env=os.environ | {"MPLBACKEND": "agg"}, check=True)
        for made, kept in (("demo.png", "demo.png"), ("prices.png", "one-call.png")):
            shutil.copyfile(Path(folder, made), lab.ROOT / "docs" / kept)
            print(f"written: {lab.ROOT / 'docs' / kept}")


def main() -> int:
    """Make the pictures; with --out, take only the screenshot."""
    parser = argparse.ArgumentParser(description="Write docs/demo.png, docs/one-call.png and docs/dashboard.png.")
    parser.add_argument("--out", type=Path, help="only take the screenshot, and write it here")
    parser.add_argument("--dark", action="store_true", help="use JupyterLab's dark theme")
    options = parser.parse_args()
    if options.out is None:
        charts()
        options.out = lab.ROOT / "docs" / "dashboard.png"
    theme = "JupyterLab Dark" if options.dark else "JupyterLab Light"
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="scraperkit-picture-")))
        namespace = f"picture-{uuid.uuid4().hex[:8]}"
        redis = stack.enter_context(connect())  # the kernel finds its Redis running
        stack.callback(lambda: redis.unlink(*redis.scan_iter(Keys(namespace).pattern)))
        site = stack.enter_context(Replica.start())
        nbformat.write(notebook(site.url), folder / "prices.ipynb")  # type: ignore[no-untyped-call]
        address = stack.enter_context(lab.serve(folder, {"SCRAPERKIT_NAMESPACE": namespace}, theme=theme))
        page = stack.enter_context(lab.browser(1000, 760))
        book = lab.Notebook(page, address, "prices.ipynb")
        book.hide_sidebar()
        for _ in range(3):
            book.run_next()
        shown = book.output_of(1)
        shown.get_by_text("retry").wait_for(timeout=60_000)
        page.wait_for_function("document.body.innerText.match(/(2[5-9]|[3-9][0-9])%/)", timeout=60_000)
        book.code.nth(1).evaluate("cell => cell.scrollIntoView({block: 'start'})")
        until = book.code.nth(2).bounding_box()
        page.screenshot(
            path=options.out, clip={"x": 0, "y": 0, "width": 1000, "height": until["y"] + until["height"] + 4}
        )
    print(f"written: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

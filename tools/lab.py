"""Open the lessons in JupyterLab, with an embedded Redis: ``make lab``.

The embedded Redis runs from before JupyterLab starts until after it ends, so that no lesson waits for it and all share
it. If ``REDIS_URL`` is set, that Redis is used instead.

:func:`serve` and :class:`Notebook` are for the browser test and the screenshots: a private JupyterLab, driven in
Debian's Chromium.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from scraperkit import connect
from scraperkit.config import Settings

ROOT = Path(__file__).resolve().parent.parent
LESSONS = ROOT / "notebooks"
# Defaults for JupyterLab; the user's own settings take precedence.
DEFAULTS = ROOT / "tools" / "jupyter"
CHROMIUM = next((path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None)
# No dialogs and no requests of its own.
_QUIET = [
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-quic"),
]
_START_SECONDS = 60.0
_END_SECONDS = 20.0
_SETTINGS = {
    "apputils-extension/notification": {"checkForUpdates": False, "doNotDisturbMode": True},
    # Put all cells in the page, not only those in view.
    "notebook-extension/tracker": {"windowingMode": "none"},
}


def main() -> int:
    """Run JupyterLab in the folder of the lessons, and return its exit code."""
    with contextlib.ExitStack() as stack:
        if not Settings.load().redis_url:
            stack.enter_context(connect())  # keeps the embedded server running
        command = [sys.executable, "-m", "jupyterlab", *sys.argv[1:]]
        with subprocess.Popen(command, cwd=LESSONS, env=with_defaults(os.environ)) as jupyter:
            # Ctrl-C reaches JupyterLab as well, which asks for confirmation.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, lambda *_: jupyter.terminate())
            return jupyter.wait()


def with_defaults(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which JupyterLab does not ask whether to fetch news."""
    folders = [str(DEFAULTS), environment.get("JUPYTER_CONFIG_PATH", "")]
    return {**environment, "JUPYTER_CONFIG_PATH": os.pathsep.join(filter(None, folders))}


@contextlib.contextmanager
def serve(
    folder: Path, environment: Mapping[str, str] | None = None, *, theme: str = "JupyterLab Light"
) -> Iterator[str]:
    """Run a private JupyterLab that ignores the user's settings; yield its address.

    Parameters
    ----------
    folder : pathlib.Path
        Folder with the notebooks.
    environment : mapping, optional
        Variables for it and its kernels, in addition to this process's own.
    theme : str
        ``JupyterLab Light`` or ``JupyterLab Dark``.

    Raises
    ------
    RuntimeError
        If it does not start; the message has its log.
    """
    with tempfile.TemporaryDirectory(prefix="scraperkit-lab-") as temporary:
        home = Path(temporary)
        settings = {**_SETTINGS, "apputils-extension/themes": {"theme": theme}}
        for name, content in settings.items():
            file = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(content))
        folders = {
            "JUPYTER_CONFIG_DIR": home / "config",
            "JUPYTER_DATA_DIR": home / "data",
            "JUPYTER_RUNTIME_DIR": home / "runtime",
            "JUPYTERLAB_SETTINGS_DIR": home / "settings",
            "JUPYTERLAB_WORKSPACES_DIR": home / "workspaces",
            "IPYTHONDIR": home / "ipython",
        }
        variables = {name: str(path) for name, path in folders.items()}
        variables |= {"JUPYTER_TOKEN": secrets.token_urlsafe(16), **(environment or {})}
        inherited = {name: value for name, value in with_defaults(os.environ).items() if name != "MPLBACKEND"}
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ServerApp.ip=127.0.0.1", "--port=0"]
        command += [
            f"--ServerApp.root_dir={folder}",
            "--ServerApp.allow_root=True",
            "--LabApp.extension_manager=readonly",
        ]
        with (home / "log").open("w") as log:
            server = subprocess.Popen(
                command, env=inherited | variables, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        try:
            yield _address(home, server)
        finally:
            server.terminate()
            try:
                server.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _address(home: Path, server: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        for file in (home / "runtime").glob("jpserver-*.json"):
            with contextlib.suppress(ValueError):  # still being written
                server_info = json.loads(file.read_text())
                return f"{server_info['url']}lab/tree/{{}}?reset&token={server_info['token']}"
        time.sleep(0.05)
    raise RuntimeError(f"JupyterLab does not start:\n{(home / 'log').read_text()[-2000:]}")


@contextlib.contextmanager
def browser(width: int = 1100, height: int = 800) -> Iterator[Any]:
    """Run headless Chromium; yield a page.

    Raises
    ------
    RuntimeError
        If Chromium is not installed.
    """
    from playwright.sync_api import sync_playwright

    if CHROMIUM is None:
        raise RuntimeError("Chromium is not installed; on Debian and Ubuntu: apt-get install chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=_QUIET)
        try:
            yield chromium.new_page(viewport={"width": width, "height": height})
        finally:
            chromium.close()


class Notebook:
    """A notebook in a page of JupyterLab, operated as by a user.

    Parameters
    ----------
    page : playwright.sync_api.Page
    address : str
        From :func:`serve`.
    path : str
        Path of the notebook in the served folder.
    """

    def __init__(self, page: Any, address: str, path: str) -> None:
        self.page = page
        page.goto(address.format(path), wait_until="domcontentloaded")
        self.panel = page.locator(".jp-NotebookPanel:visible")
        self.panel.locator(".jp-Cell").first.wait_for(timeout=60_000)
        page.locator("#jp-main-statusbar").get_by_text("| Idle").wait_for(timeout=60_000)

    @property
    def code(self) -> Any:
        """Its code cells."""
        return self.panel.locator(".jp-CodeCell")

    def run_all(self) -> None:
        """Choose "Run All Cells" from the menu."""
        self._choose("Run", "Run All Cells")

    def clear_all(self) -> None:
        """Choose "Clear Outputs of All Cells" from the menu."""
        self._choose("Edit", "Clear Outputs of All Cells")

    def _choose(self, menu: str, entry: str) -> None:
        self.page.locator(".lm-MenuBar-itemLabel", has_text=menu).first.click()
        self.page.locator(".lm-Menu-itemLabel", has_text=entry).first.click()

    def run_next(self) -> None:
        """Run the selected cell and select the one below, as Shift+Enter does."""
        self.page.keyboard.press("Shift+Enter")

    def output_of(self, number: int) -> Any:
        """Return the output of code cell `number`; -1 is the last."""
        return self.code.nth(number).locator(".jp-Cell-outputArea")

    def hide_sidebar(self) -> None:
        """Hide the left sidebar."""
        if self.page.locator("#jp-left-stack:visible").count():
            self.page.keyboard.press("Control+b")
            self.page.locator("#jp-left-stack").wait_for(state="hidden")

    def save(self) -> None:
        """Save the notebook, and wait until it is saved."""
        with self.page.expect_response(
            lambda response: response.request.method == "PUT" and "/api/contents/" in response.url
        ):
            self.page.keyboard.press("Control+s")


if __name__ == "__main__":
    sys.exit(main())

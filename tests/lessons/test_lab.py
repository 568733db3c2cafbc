"""``make lab`` opens the lessons without any question."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from support.tree import load_tool

SHOW = """
import json
from jupyterlab_server.settings_utils import _get_overrides
print(json.dumps(_get_overrides("/nowhere")))
"""


def test_jupyterlab_does_not_ask_whether_to_fetch_news(tmp_path):
    alone = {"JUPYTER_CONFIG_DIR": str(tmp_path), "JUPYTER_NO_CONFIG": ""}
    environment = load_tool("lab.py").with_defaults({**os.environ, **alone})
    shown = subprocess.run([sys.executable, "-c", SHOW], env=environment, capture_output=True, text=True, check=True)
    overrides, error = json.loads(shown.stdout)
    assert overrides["@jupyterlab/apputils-extension:notification"] == {"fetchNews": "false"}
    assert not error


def test_the_users_own_settings_folder_is_kept():
    found = load_tool("lab.py").with_defaults({"JUPYTER_CONFIG_PATH": "/mine"})["JUPYTER_CONFIG_PATH"]
    assert found.endswith(f"tools/jupyter{os.pathsep}/mine")

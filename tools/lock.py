"""Write the locks in ``locks/`` from pyproject.toml: ``lock.py``, or ``lock.py --upgrade`` for the newest versions."""

from __future__ import annotations

import os
import sys

from uv_tool import SetupError, uv

# What each lock holds; `dev` comes first, since the others take their versions from it.
CONTENTS = {
    "dev": ["pyproject.toml", "--all-extras", "--group", "build"],
    "lab": ["pyproject.toml", "--extra", "lab", "--extra", "api", "--group", "build"],
    "api": ["pyproject.toml", "--extra", "api", "--group", "build"],
    "base": ["pyproject.toml", "--group", "build"],
    "uv": ["--group", "setup"],
}
OPTIONS = ["--universal", "--generate-hashes", "--no-emit-index-url", "--python-version", "3.11"]
OPTIONS += ["--custom-compile-command", "make lock"]


def main(*options: str) -> str | None:
    """Write every lock, and return the problem if there is one."""
    # An additional index may have only some files of a release, and the lock would lack the other files' hashes.
    os.environ.update(UV_INDEX="", UV_FIND_LINKS="")
    try:
        for lock, contents in CONTENTS.items():
            agreeing = [] if lock in ("dev", "uv") else ["--constraints", "locks/dev.txt"]
            upgrade = [] if agreeing else options
            uv("pip", "compile", *OPTIONS, *agreeing, *upgrade, "--output-file", f"locks/{lock}.txt", *contents)
    except SetupError as error:
        return f"lock: {error}."
    return None


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

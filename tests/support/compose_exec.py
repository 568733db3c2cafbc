"""Emulate `docker compose` exec, run and logs for a stack of processes: `compose_exec.py FOLDER exec …`.

It starts fast, so a test can run many commands; compose.py starts and ends the services themselves.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import NoReturn


def execute(folder: Path, service: str, words: list[str]) -> NoReturn:
    """Replace this process by a command in a service's environment."""
    environment = json.loads((folder / "stack.json").read_text(encoding="utf-8"))[service]
    words = [word.replace("/run/secrets", f"{folder}/containers/{service}/run/secrets") for word in words]
    os.execvpe(shutil.which(words[0], path=environment["PATH"]) or words[0], words, environment)


def logs(folder: Path, service: str, follow: bool) -> None:
    """Print the output of a service's processes."""
    for path in sorted(folder.glob(f"logs/{service}-*")):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            print(f"{path.name}  | {line}", flush=True)
    while follow:
        time.sleep(1)


def main(folder: Path, command: str, words: list[str]) -> None:
    """Run one docker-compose command."""
    options = {word for word in words if word in ("-T", "-f", "--rm")}
    service, *rest = [word for word in words if word not in options]
    if command in ("exec", "run"):
        execute(folder, service, rest)
    elif command == "logs":
        logs(folder, service, "-f" in options)
    else:
        sys.exit(f"compose_exec.py: unsupported command {command}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])

"""What must happen in Redis all at once, as Lua scripts; imported by everything that changes jobs or batches."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources
from typing import Any


@cache
def lua(name: str) -> str:
    """Return the text of ``scraperkit/lua/<name>.lua``."""
    return resources.files(__name__).joinpath(f"{name}.lua").read_text(encoding="utf-8")


def script(client: Any, name: str) -> Any:
    """Return a redis-py script object, for a client or an asyncio client; it loads itself where Redis lacks it."""
    return client.register_script(lua(name))


@cache
def names() -> dict[str, str]:
    """Return the name of each script by its SHA-1, which is what Redis is asked to run."""
    files = [file for file in resources.files(__name__).iterdir() if file.name.endswith(".lua")]
    digests = [hashlib.sha1(file.read_bytes(), usedforsecurity=False).hexdigest() for file in files]
    return {digest: file.name.removesuffix(".lua") for digest, file in zip(digests, files, strict=True)}

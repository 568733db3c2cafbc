"""What must happen in Redis all at once, as Lua scripts; imported by whatever changes jobs, batches or series."""

from __future__ import annotations

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

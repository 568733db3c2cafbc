"""A Redis Cluster, which the kit refuses; docs/scaling.md says why, and what to do instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from redis.exceptions import AskError, ClusterCrossSlotError, ClusterDownError, MasterDownError, TryAgainError

from scraperkit.errors import ConfigError

CLUSTER_SCHEMES = ("redis+cluster", "rediss+cluster")
# Errors that only a node of a Cluster replies with; a MovedError is an AskError.
_ONLY_OF_CLUSTERS = (AskError, TryAgainError, ClusterCrossSlotError, ClusterDownError)


def no_cluster(what: str) -> ConfigError:
    """Return the error for an address, a client or a server of a Cluster.

    Examples
    --------
    >>> print(no_cluster("REDIS_URL"))
    REDIS_URL: the kit does not run on a Redis Cluster; use a Redis that is not in cluster mode, or several of them with
    a namespace each (docs/scaling.md)
    """
    return ConfigError(
        f"{what}: the kit does not run on a Redis Cluster; use a Redis that is not in cluster mode, or several of them "
        "with a namespace each (docs/scaling.md)"
    )


def is_of_cluster(error: Exception) -> bool:
    """Return whether only a node of a Cluster replies with this error.

    Examples
    --------
    >>> is_of_cluster(ClusterCrossSlotError()), is_of_cluster(MasterDownError("link down"))
    (True, False)
    """
    return isinstance(error, _ONLY_OF_CLUSTERS) and not isinstance(error, MasterDownError)


def refuse_cluster(greeting: Mapping[Any, Any] | None, where: str) -> None:
    """Raise ConfigError if this reply to ``HELLO`` is that of a node of a Cluster."""
    if (greeting or {}).get("mode") == "cluster":
        raise no_cluster(where)

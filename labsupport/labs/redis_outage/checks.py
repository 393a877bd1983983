"""How answers to exercise 13.3, a page that doesn't need Redis, are put to the test: on a real server."""

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import redis
from redis.exceptions import ResponseError

from labsupport.errors import ImplementationError
from labsupport.exercises import Outcome
from labsupport.exercises.trials import Answer, each_counts_once, require
from labsupport.exploration import explore
from labsupport.labs.redis_outage.faults import CONFIG, struck
from labsupport.servers import Server, start_server
from labsupport.verdict import Claim, Verdict

__all__ = ["check_many_visits", "check_page"]

_KEY, _OTHER = "page:7", "page:d'Arc"
_AS_IT_IS = " <p>\u00c9t\u00e9</p>\n"
_SILENT, _SILENCE_SECONDS = "Redis is stopped", 0.1  # what a client waits for its answer
_TTL_SECONDS = 60
_ROUNDING = 0.01  # s; the server counts a TTL in ms
_MANY = 1_000


def check_many_visits(answer: Answer) -> Outcome:
    """Does each of many visits count, and count once?"""
    return each_counts_once(lambda redis, visit: answer(redis, "home", f"visit {visit}"))


class DatabaseAwayError(OSError, ValueError, TypeError, RuntimeError):
    """Raised by the database when it is away, too; no kind of it is the answer's own to catch."""


_ERRORS_OF_LOAD = (  # whatever it is, it is not about the cache
    DatabaseAwayError("the database is away"),
    KeyError("no such row"),
    redis.exceptions.ConnectionError("another Redis is away"),
    ResponseError("WRONGTYPE in another Redis"),
)


class _Shop:
    """A database, and what the answer asks of it."""

    def __init__(self, answer: Answer, client: redis.Redis) -> None:
        self._answer, self._client = answer, client
        self.kept: dict[str, str] = {}
        self._due: dict[str, str] = {}
        self.loads = 0
        self.away = False
        self.raises: Exception = DatabaseAwayError("the database is away")
        self.page_made: str | None = None
        self.meanwhile: Callable[[], object] = lambda: None

    def load(self, key: str) -> str:
        self.loads += 1
        self.meanwhile()
        if self.away:
            raise self.raises
        return f"{key}, load {self.loads}" if self.page_made is None else self.page_made

    def page(self, key: str = _KEY) -> Any:
        """What the answer returns; an error of its own is told apart from those that are due."""
        self.loads = 0
        return self._answer(self._client, key, self.load, self.kept)

    def is_given(self, due: str, *, loads: int, key: str = _KEY) -> None:
        """Ask for the page, and compare."""
        wanted = repr(due) if due else "the empty text ''"
        try:
            got = self.page(key)
        except Exception as error:
            told = ImplementationError("the answer", error).problem
            require(False, f"{told}; {wanted} is due.")
        require(got == due, f"it returned {got!r}; {wanted} is due.")
        require(self.loads == loads, f"it called load {self.loads} times; {loads} is due.")
        self._due[key] = due
        require(self.kept == self._due, f"kept is {self.kept}; {self._due} is due.")

    def is_raised(self, due: type[Exception], *, loads: int | None = None) -> None:
        """Ask for the page, which cannot be had."""
        try:
            got = self.page()
        except due as error:
            ours = loads is None or error is self.raises
            require(ours, f"it raised another {due.__name__} than load, {error}.")
            require(
                loads in (None, self.loads), f"it called load {self.loads} times; {loads} is due."
            )
            return
        except Exception as error:
            told = ImplementationError("the answer", error).problem
            require(False, f"{told}; a {due.__name__} is due.")
        require(False, f"it returned {got!r}; a {due.__name__} that reaches the caller is due.")


Situation = Callable[[Server, redis.Redis, _Shop], None]


def check_page(answer: Answer) -> Outcome:
    """Put an answer through an outage of each kind."""
    claims = []
    with start_server(config=CONFIG) as server, server.client() as admin:
        for name, situation in _situations():
            admin.flushdb()
            # in haste only where no answer comes: a busy machine may be late with any other
            hasty = {"socket_timeout": _SILENCE_SECONDS} if name == _SILENT else {}
            with server.client(**hasty) as client:
                with suppress(redis.TimeoutError):  # it is to be connected, if it can be
                    client.ping()
                try:
                    situation(server, admin, _Shop(answer, client))
                except AssertionError as error:
                    claims.append(Claim(name, "broken", str(error)))
                    return Outcome(False, f"{name}: {error}", Verdict(claims))
                claims.append(Claim(name, "holds"))
    reason = f"it gave the page in {len(claims)} situations, with Redis and without."
    return Outcome(True, reason, Verdict(claims))


def _situations() -> Iterator[tuple[str, Situation]]:
    yield "Redis is there", _there
    yield f"{_MANY:,} pages", _many
    yield "A caller that crashes", _crash
    yield "A key of another type", _bug
    yield "A user who may not write", _may_not_write
    for fault in ("killed", "stopped", "busy"):
        yield f"Redis is {fault}", functools.partial(_away, fault)
    yield "Redis is full", _full
    yield "Redis comes back while load runs", _comes_back
    yield "Redis has become a replica", _read_only


def _there(server: Server, admin: redis.Redis, shop: _Shop) -> None:
    before = _now(admin)
    shop.is_given(f"{_KEY}, load 1", loads=1)
    _is_cached(admin, f"{_KEY}, load 1", before)
    for page in ("cached by another", _AS_IT_IS, ""):
        _cached_by_another(admin, shop, page)
    shop.away = True
    admin.delete(_KEY)
    shop.is_given("", loads=1)
    shop.away = False
    _cached_by_another(admin, shop, "cached by another")
    admin.delete(_KEY)
    shop.away = True
    for error in _ERRORS_OF_LOAD:
        shop.raises = error
        shop.is_given("cached by another", loads=1)
        require(not admin.exists(_KEY), "an old page was put back into Redis.")
    shop.away = False
    shop.is_given(f"{_OTHER}, load 1", loads=1, key=_OTHER)
    shop.is_given(f"{_KEY}, load 1", loads=1)
    require(
        admin.get(_OTHER) == f"{_OTHER}, load 1", f"{_OTHER} is {admin.get(_OTHER)!r} in Redis."
    )
    for page in (_AS_IT_IS, ""):
        admin.delete(_KEY)
        shop.page_made, before = page, _now(admin)
        shop.is_given(page, loads=1)
        _is_cached(admin, page, before)
    shop.away = True
    admin.delete(_KEY)
    shop.kept.pop(_KEY)  # what is left is another page's
    for error in _ERRORS_OF_LOAD:
        shop.raises = error
        shop.is_raised(type(error), loads=1)


def _many(server: Server, admin: redis.Redis, shop: _Shop) -> None:
    for number in range(_MANY):
        shop.page(f"page:{number}")
    require(len(shop.kept) == _MANY, f"of {_MANY:,} pages, {len(shop.kept):,} are kept.")


def _cached_by_another(admin: redis.Redis, shop: _Shop, page: str) -> None:
    """A page that is there is given as it is, and ends when it would have ended."""
    admin.set(_KEY, page, ex=_TTL_SECONDS // 2)
    ends = admin.pexpiretime(_KEY)
    shop.is_given(page, loads=0)
    require(admin.get(_KEY) == page, f"{_KEY} was {page!r} in Redis, and is {admin.get(_KEY)!r}.")
    same = admin.pexpiretime(_KEY) == ends
    require(same, f"{_KEY} was read, and does not end when it would have.")


def _is_cached(admin: redis.Redis, page: str, before: float) -> None:
    """A page was put into Redis since then, for 60 s."""
    require(admin.get(_KEY) == page, f"{_KEY} is {admin.get(_KEY)!r} in Redis.")
    ends = admin.pexpiretime(_KEY) / 1000
    require(
        before + _TTL_SECONDS - _ROUNDING <= ends <= _now(admin) + _TTL_SECONDS + _ROUNDING,
        f"{_KEY} lives {admin.ttl(_KEY)} s; {_TTL_SECONDS} s is due.",
    )


def _now(admin: redis.Redis) -> float:
    """The server's time."""
    seconds, microseconds = admin.time()
    return float(seconds + microseconds / 1e6)


def _crash(server: Server, admin: redis.Redis, shop: _Shop) -> None:
    def caller(redis: Any, db: Any) -> None:
        shop._answer(redis, _KEY, lambda key: "a page", {})

    def ends(redis: Any, db: Any) -> bool:
        """A page that is cached has a TTL"""
        return bool(redis.ttl(_KEY) != -1)

    report = explore({"ada": caller}, invariant=ends, crashes=True)
    require(not report.violations, f"{_KEY} stays for ever.\n\n{report.schedule}")


def _bug(server: Server, admin: redis.Redis, shop: _Shop) -> None:
    admin.lpush(_KEY, "no page")
    shop.is_raised(ResponseError)


def _may_not_write(server: Server, admin: redis.Redis, shop: _Shop) -> None:
    admin.execute_command("ACL", "SETUSER", "default", "-@write")
    try:
        shop.is_raised(ResponseError)
    finally:
        admin.execute_command("ACL", "SETUSER", "default", "+@all")


def _comes_back(server: Server, admin: redis.Redis, shop: _Shop) -> None:
    with ExitStack() as fault:
        fault.enter_context(struck(server, "busy"))
        shop.meanwhile = fault.close
        shop.is_given(f"{_KEY}, load 1", loads=1)
    require(bool(admin.exists(_KEY)), "Redis was there again, and the page was not cached.")
    _cached_by_another(admin, shop, "cached by another")  # and is asked again


def _read_only(server: Server, admin: redis.Redis, shop: _Shop) -> None:
    shop.kept[_KEY] = "an old page"
    admin.replicaof("127.0.0.1", "1")  # of nobody: it reads what it has, and writes nothing
    try:
        shop.is_given(f"{_KEY}, load 1", loads=1)
    finally:
        admin.replicaof("NO", "ONE")


def _away(fault: str, server: Server, admin: redis.Redis, shop: _Shop) -> None:
    shop.kept[_KEY] = "an old page"
    with struck(server, fault):
        shop.is_given(f"{_KEY}, load 1", loads=1)
        shop.away = True
        shop.is_given(f"{_KEY}, load 1", loads=1)
        shop.kept.clear()
        shop.is_raised(DatabaseAwayError)


def _full(server: Server, admin: redis.Redis, shop: _Shop) -> None:
    with struck(server, "full"):
        shop.is_given(f"{_KEY}, load 1", loads=1)
        shop.away = True
        shop.is_given(f"{_KEY}, load 1", loads=1)
    shop.away = False
    shop.is_given(f"{_KEY}, load 1", loads=1)
    require(bool(admin.exists(_KEY)), "when there is room again, the page is not cached.")

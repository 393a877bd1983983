"""What exercises 04.1 and 04.3 ask for, as models: no cached value differs from the database's."""

import json
import secrets
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, ClassVar

from hypothesis import strategies as st

from labsupport.errors import StatementError
from labsupport.exercises.contract import Argument, Call, Case, Contract, Functions
from labsupport.exercises.matching import ANYTHING, Between, Raised, Words
from labsupport.exercises.state import KEPT, State

__all__ = ["AnnounceUser", "RenameUser"]

_ROWS = {"1": ("ada", 1), "2": ("alan", 1)}  # name and version
_MINUTE_MS = 60_000
_CRASHED = "the deadline of a writer of user 2 that has crashed"
_LEFT_SECONDS = 20
_LATER_SECONDS = 2.5  # the next writer comes after one that has crashed

# Reads a value, or grants the lease to fill it. KEYS: value, lease, the deadlines of those who are
# writing; ARGV: the reader's token; returns the value, and 1 if granted.
_GRANT = """
local value, now = redis.call('GET', KEYS[1]), redis.call('TIME')[1]
if value or redis.call('ZCOUNT', KEYS[3], '(' .. now, '+inf') > 0 then return {value, 0} end
return {value, redis.call('SET', KEYS[2], ARGV[1], 'NX', 'EX', 10) and 1 or 0}
"""

# Fills a value in, unless the lease is another's by now. KEYS: value, lease; ARGV: token, value.
_FILL = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', 3600)
return redis.call('DEL', KEYS[2])
"""

# Lets a writer begin. KEYS: value, lease, deadlines; ARGV: its token.
_ANNOUNCE = """
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('ZADD', KEYS[3], redis.call('TIME')[1] + 30, ARGV[1])
return redis.call('EXPIRE', KEYS[3], 60)
"""


def _load(db: Any, key: str) -> Any:
    """What the database says about a key."""
    kind, _, of = key.partition(":")
    if kind == "user":
        return db.fetch_one("SELECT * FROM users WHERE id = :id", id=int(of))
    row = db.fetch_one("SELECT id FROM users WHERE username = :name ORDER BY id", name=of)
    return row and row["id"]


def _said(db: Any) -> dict[str, Any]:
    """What the database says about each key; none of any other."""
    rows = db.fetch_all("SELECT * FROM users WHERE id <= 2 ORDER BY id DESC")
    said = {f"named:{row['username']}": row["id"] for row in rows}
    return said | {f"user:{row['id']}": row for row in rows}


def _look_up(redis: Any, db: Any, key: str) -> bool:
    """Be a reader; returns whether the value is in the cache now."""
    token = secrets.token_urlsafe()
    value, granted = redis.eval(_GRANT, 3, key, f"{key}:lease", f"{key}:writers", token)
    if not granted:
        return value is not None
    return bool(redis.eval(_FILL, 2, key, f"{key}:lease", token, json.dumps(_load(db, key))))


def _write(redis: Any, db: Any, name: str) -> None:
    """Be another writer of user 1, who keeps to the rules of 04.3."""
    redis.eval(_ANNOUNCE, 3, "user:1", "user:1:lease", "user:1:writers", "another")
    rename = "UPDATE users SET username = :name, version = version + 1 WHERE id = 1"
    db.execute(rename, name=name)
    with redis.pipeline(transaction=True) as pipe:
        pipe.delete("user:1", "user:1:lease").zrem("user:1:writers", "another").execute()


class _CachedRows(Contract):
    """Users, in the database and in the cache."""

    takes = ("redis", "db")
    effort = 0.5
    visible: ClassVar[Sequence[str]] = ("users", "wrong", "announced")
    others: ClassVar = {"look_up": _look_up, "fill": _look_up, "another_writes": _write}
    keys: ClassVar[list[str]] = ["user:1", "user:2"]
    ids: ClassVar[list[int]] = [1, 1, 2]

    def sequences(self) -> Any:
        names = {1: ["eve", "lin", "ada", "d'Arc é"]}  # no two users have the same
        args = st.sampled_from(self.ids).flatmap(
            lambda one: st.tuples(st.just(one), st.sampled_from(names.get(one, ["alan", "kim"])))
        )
        rename = args.map(lambda args: Call(self.answer, args))
        fill = st.builds(Call, st.just("fill"), st.tuples(st.sampled_from(self.keys)))
        turn = st.tuples(st.just("ada"), st.one_of(rename, rename, fill))
        turns = st.lists(turn, min_size=1, max_size=4).map(tuple)
        return st.builds(Case, self.race_starts(), after=turns)

    def race_starts(self) -> Any:
        """Nothing is cached, or all that may be wrong soon."""
        return st.sampled_from([State(), State({"cached": {*self.keys}})])

    def races(self) -> Any:
        """Somebody else looks a key up, or writes and then looks it up."""
        looks = [Call("look_up", (key,)) for key in self.keys]
        writes = [(write, looks[n]) for write in self.rivals() for n in (0, -1)]
        return st.builds(
            lambda start, others: Case(
                start, {"ada": (Call(self.answer, (1, "eve")),), "bob": others}
            ),
            self.race_starts(),
            st.sampled_from([*((look,) for look in looks), *writes]),
        )

    def rivals(self) -> list[Call]:
        """Others who write."""
        return [Call(self.answer, (1, "lin")), Call(self.answer, (2, "ada"))]

    def recoveries(self) -> Any:
        one = Call(self.answer, (2, "eve"))
        after = ("ada", one), ("bob", Call("fill", ("user:2",))), ("bob", one)
        return self.race_starts().map(lambda start: Case(start, {"ada": (one,)}, after))

    def write(self, start: State, redis: Any, db: Any) -> None:
        for number, (name, version) in start.get("users", {}).items():
            put = "UPDATE users SET username = :name, version = :version WHERE id = :id"
            db.execute(put, id=int(number), name=name, version=version)
        notes = ("users", "wrong", "cached", "announced", _CRASHED)
        State({k: v for k, v in start.items() if k not in notes}, start.lives).write(redis)
        if _CRASHED in start:
            redis.zadd("user:2:writers", {"crashed": redis.time()[0] + _LEFT_SECONDS})
        if cached := start.get("cached"):
            said = _said(db)
            with redis.pipeline() as pipe:
                for key in sorted(cached):
                    pipe.set(key, json.dumps(said.get(key)), ex=3600)
                pipe.execute()

    def read(self, redis: Any, db: Any) -> State:
        """With the rows, what is cached and wrong, and how long ahead the deadlines are."""
        state, said = State.read(redis), _said(db)
        wrong = {}
        for key in [key for key in state if key.startswith(("user:", "named:"))]:
            if not key.endswith((":lease", ":writers")):
                cached = state[key]
                with suppress(TypeError, ValueError):
                    cached = json.loads(cached)
                if cached != said.get(key):
                    name = cached.get("username") if isinstance(cached, dict) else state[key]
                    wrong[f"{key} in the cache, which the database contradicts,"] = name
        ahead = []
        for key in ("user:1:writers", "user:2:writers"):
            mine = [one - state.at for one in state.get(key, {}).values() if one > state.at]
            life = state.lives.get(key, KEPT)
            if mine and life is not KEPT and life / 1000 < max(mine) - 1:
                late = f"the TTL of {key}, with a deadline {max(mine):.0f} s ahead,"
                wrong[late] = f"{life / 1000:.0f} s"
            ahead += mine
        rows = {n: (said[f"user:{n}"]["username"], said[f"user:{n}"]["version"]) for n in _ROWS}
        for name, found in (("users", rows), ("wrong", wrong), ("announced", ahead)):
            if found:
                state.keep(name, found)
        return state

    def shown(self, state: State, start: State) -> dict[str, Any]:
        """What is cached though the database says otherwise, and the names."""
        rows = state.get("users", _ROWS).items()
        names = {f"user {n} in the database": f"{name}, version {v}" for n, (name, v) in rows}
        return {**state.get("wrong", {}), **names}

    def _rename(self, state: State, user_id: int, name: str) -> bool:
        rows = state["users"] = {**state.get("users", _ROWS)}
        if str(user_id) not in rows:
            return False
        rows[str(user_id)] = name, rows[str(user_id)][1] + 1
        return True

    def look_up(self, state: State, key: str) -> None:
        """Others may be reading, or writing: whether the value is cached then is not said."""


class RenameUser(_CachedRows):
    """04.1: every key that the row is in, at the right moment."""

    answer = "rename_user"
    faults = ("pause", "stall")
    clauses: ClassVar = {
        "told": "return True, or False if there is no such user",
        "user ? in the database": "The row's version goes up by one",
        "left": "no cached value differs from the database's",
        "at once": "When all have finished, no cached value differs from the database's",
        "pause": "each may pause for longer than any TTL",
    }
    keys: ClassVar = ["user:1", "user:2", "named:ada", "named:alan", "named:eve", "named:lin"]
    ids: ClassVar = [1, 1, 2, 0]
    always = (  # what nobody has is null, and can be kept
        Case(
            State(),
            after=(
                ("ada", Call("rename_user", (0, "lin"))),
                ("ada", Call("fill", ("named:lin",))),
            ),
        ),
    )

    rare = tuple(  # a name may be any text
        Case(
            State({"cached": {f"named:{name}"}}),
            after=(("ada", Call("rename_user", (1, name))),),
        )
        for name in (" Eve\n", "[e]v*", "eve." * 50)
    )

    def rename_user(self, state: State, user_id: int, name: str) -> bool:
        return self._rename(state, user_id, name)

    def fill(self, state: State, key: str) -> bool:
        return True


class _NoName(Argument):
    """A name that the database refuses."""

    def real(self, redis: Any, db: Any, who: str) -> Any:
        return None

    def modelled(self, who: str) -> Words:
        return Words("None, which the database refuses")


class AnnounceUser(_CachedRows):
    """04.3: a writer that may crash at any step."""

    answer = "announce_user"
    visible = (*_CachedRows.visible, "user:?:writers", "user:?:lease")
    faults = ("crash", "pause", "clocks", "crash, clocks")
    clauses: ClassVar = {
        "left": "no crash leaves an old row in the cache",
        "user ? in the database": "The row's version goes up by one",
        "the count of deadlines*": "only if no deadline in the sorted set user:{id}:writers is still "
        "ahead (one for each writer, in seconds on the server's clock)",
        "the count of writers*": "a finished writer keeps no reader out",
        "the last deadline*": "What a crashed writer leaves is over within a minute",
        "the TTL of*": "only if no deadline in the sorted set user:{id}:writers is still ahead",
        "told": "a finished writer keeps no reader out",
        "lives": "What a crashed writer leaves is over within a minute",
        "stays": "What a crashed writer leaves is over within a minute",
        "at once": "Many read and write at once",
        "crash": "no crash leaves an old row in the cache",
        "clock": "on the server's clock",
        "pause": "each may pause for longer than any TTL",
    }
    rare = (  # who has failed has finished, too
        Case(
            State(),
            after=(
                ("ada", Call("announce_user", (1, _NoName()))),
                ("ada", Call("fill", ("user:1",))),
            ),
        ),
    )

    def ask(self, functions: Functions, redis: Any, db: Any, who: str, call: Call) -> Any:
        """An error of the database is no mistake of the lab's here."""
        try:
            return super().ask(functions, redis, db, who, call)
        except StatementError as error:
            if any(isinstance(one, _NoName) for one in call.args):
                return Raised(error)
            raise

    def rivals(self) -> list[Call]:
        return [Call(self.answer, (1, "lin")), Call("another_writes", ("lin",))]

    def recoveries(self) -> Any:
        """Or one has crashed before."""
        left = {_CRASHED: f"{_LEFT_SECONDS} s ahead", "announced": [_LEFT_SECONDS]}
        usual = super().recoveries()
        return st.one_of(
            usual, usual.map(lambda one: replace(one, start=State({**one.start, **left})))
        )

    def write(self, start: State, redis: Any, db: Any) -> None:
        """What a crash has left is a moment old: its TTL is not that of the next deadline."""
        if start.at:
            start = start.copy()
            start.age(_LATER_SECONDS * 1000)
            for key in ("user:1:writers", "user:2:writers"):
                for token in (scores := start.get(key, {})):
                    scores[token] -= _LATER_SECONDS
        super().write(start, redis, db)

    def begins(self, start: State) -> str:
        return super().begins(State({k: v for k, v in start.items() if k != "announced"}))

    def shown(self, state: State, start: State) -> dict[str, Any]:
        """With the writers that keep readers out, and for how long at the most."""
        ahead = state.get("announced", [])
        last = max(ahead, default=0)
        when = "a minute from now at the most" if last <= 61 else f"{last:,.0f} s from now"
        return {
            **state.get("wrong", {}),
            **(self._taken_away(state, start) if state.at else {}),
            "the count of writers whose deadline is ahead": len(ahead),
            **({"the last deadline of a writer": Words(when)} if ahead else {}),
            **super().shown(state, start),
        }

    def _taken_away(self, state: State, start: State) -> dict[str, int]:
        """Of those who crashed before, whose deadline is ahead: how many have none any more."""
        found, soon = 0, state.at + 1 + _LATER_SECONDS  # `write` may have made them older
        for key in ("user:1:writers", "user:2:writers"):
            ahead = sum(at > soon for at in start.get(key, {}).values())
            ahead += key == "user:2:writers" and _CRASHED in start
            found += max(0, ahead - sum(at > state.at for at in state.get(key, {}).values()))
        return {"the count of deadlines of others that it took away": found} if found else {}

    def announce_user(self, state: State, user_id: int, name: str) -> Generator[Any, Any, Any]:
        for key in ("user:1", "user:2"):
            state.lives[f"{key}:lease"] = Between(0, _MINUTE_MS)
            state.lives[f"{key}:writers"] = ANYTHING  # a deadline that is past keeps nobody out
        yield
        state["announced"] = [*state.get("announced", []), 60]
        yield
        refused = isinstance(name, Words)
        if not refused:
            self._rename(state, user_id, name)
        yield
        state["announced"] = state["announced"][:-1]
        return (yield [Raised(Exception), ANYTHING]) if refused else ANYTHING

    def another_writes(self, state: State, name: str) -> Generator[Any, Any, Any]:
        return (yield from self.announce_user(state, 1, name))

    def fill(self, state: State, key: str) -> Any:
        return ANYTHING if state.get("announced") else True

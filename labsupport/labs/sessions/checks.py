"""How answers to exercises 12.1 and 12.2 are put to the test."""

from typing import Any

from labsupport.exercises import Outcome
from labsupport.exercises.trials import Answer, ClientFunction, Trial, keys_of, put_through, require

__all__ = ["check_rotate", "check_visit"]

_IDLE_MS = 600_000
_ROOM_MS = 60_000  # for a slow machine: no order of steps takes a minute
_DAY_MS = 86_400_000


def _begin(name: str, *, lives_ms: int = _ROOM_MS * 2, ends_ms: int = _DAY_MS) -> ClientFunction:
    """Let there be a session, with a basket, that lives and may last so long from now on."""

    def given(redis: Any, db: Any) -> None:
        seconds, micros = redis.time()
        ends = seconds * 1000 + micros // 1000 + ends_ms
        redis.hset(f"session:{name}", mapping={"basket": "kettle", "ends": ends})
        redis.pexpire(f"session:{name}", lives_ms)

    return given


def _prepared(told: dict[str, Any], given: ClientFunction | None = None) -> ClientFunction:
    """Forget what was told in the run before; then let there be what is given, or nothing."""

    def prepare(redis: Any, db: Any) -> None:
        told.clear()
        if given is not None:
            given(redis, db)

    return prepare


def _require_whole(redis: Any) -> dict[str, dict[str, str]]:
    """Fail if a key stays for ever or a session was made of nothing; returns the sessions by name."""
    sessions = {}
    for key in keys_of(redis):
        ttl = redis.pttl(key)
        if ttl == -2 or not key.startswith("session"):
            continue
        require(ttl >= 0, f"{key} has no TTL: it stays for ever.")
        if key.startswith("session:"):
            fields = redis.hgetall(key)
            require("basket" in fields, f"{key} was over, and is there again: {fields}.")
            sessions[key.removeprefix("session:")] = fields
    return sessions


def check_visit(answer: Answer) -> Outcome:
    told: dict[str, Any] = {}

    def visitor(name: str) -> ClientFunction:
        def visit(redis: Any, db: Any) -> None:
            told[name] = answer(redis, "ada", _IDLE_MS)

        return visit

    def lives(low_ms: int, high_ms: int) -> ClientFunction:
        def invariant(redis: Any, db: Any) -> bool:
            """the visit is counted, and the session prolonged up to its end"""
            fields = _require_whole(redis).get("ada")
            require(fields is not None, "session:ada is gone.")
            count = (fields or {}).get("visits")
            require(count == "1", f"After one visit the field `visits` is {count!r}.")
            ttl = redis.pttl("session:ada")
            fits = low_ms < ttl <= high_ms
            due = f"{low_ms // 1000} to {high_ms // 1000} seconds"
            require(fits, f"It lives for {round(ttl, -4) // 1000} seconds; {due} are due.")
            told_as = {str(key): str(value) for key, value in (told["ada"] or {}).items()}
            require(told_as == fields, f"The caller was told {told['ada']!r:.90}.")
            return True

        return invariant

    def over(redis: Any, db: Any) -> bool:
        """what is over stays over"""
        sessions = _require_whole(redis)
        require(told["ada"] is None, f"The caller was told {told['ada']!r:.60}.")
        require(not sessions or redis.pttl("session:ada") <= 2 * _ROOM_MS, "It was prolonged.")
        return True

    def both_counted(redis: Any, db: Any) -> bool:
        """no visit is lost"""
        count = _require_whole(redis)["ada"].get("visits")
        require(count == "2", f"After two visits the field `visits` is {count!r}.")
        return True

    def gone(redis: Any, db: Any) -> bool:
        """what is over stays over"""
        return not _require_whole(redis)

    def whole(redis: Any, db: Any) -> bool:
        """what is over stays over, and nothing is without a TTL"""
        _require_whole(redis)
        return True

    ada = {"ada": visitor("ada")}
    rival = {**ada, "logout": lambda redis, db: redis.delete("session:ada")}
    given = _prepared(told, _begin("ada"))
    return put_through(
        (
            Trial("A visit", ada, given, lives(_IDLE_MS - _ROOM_MS, _IDLE_MS)),
            Trial(
                "A visit shortly before the end",
                ada,
                _prepared(told, _begin("ada", ends_ms=2 * _ROOM_MS)),
                lives(_ROOM_MS, 2 * _ROOM_MS),
            ),
            Trial("A visit to a session that is over", ada, _prepared(told), over),
            Trial("A visit past the end", ada, _prepared(told, _begin("ada", ends_ms=-5)), over),
            Trial("Two visits at once", {**ada, "bob": visitor("bob")}, given, both_counted),
            Trial("A visit and a logout", rival, given, gone),
            Trial(
                "A visit, and a session that may expire", ada, given, whole, expires=["session:*"]
            ),
            Trial("A visit that may crash", ada, given, whole, crashes=True),
        )
    )


def check_rotate(answer: Answer) -> Outcome:
    told: dict[str, Any] = {}

    def login(name: str) -> ClientFunction:
        def client(redis: Any, db: Any) -> None:
            told[name] = None
            told[name] = answer(redis, "ada", "old", name)

        return client

    def request(redis: Any, db: Any) -> None:
        """Writes to the old session if it is there."""
        script = (
            "return redis.call('EXISTS', KEYS[1]) == 1 and redis.call('HSET', KEYS[1], 'size', 1)"
        )
        told["request"] = redis.eval(script, 1, "session:old") is not None

    def revoke_all(redis: Any, db: Any) -> None:
        script = """
        for _, name in ipairs(redis.call('SMEMBERS', KEYS[1])) do redis.call('DEL', 'session:' .. name) end
        return redis.call('DEL', KEYS[1])
        """
        redis.eval(script, 1, "sessions:ada")

    def _check(redis: Any) -> dict[str, dict[str, str]]:
        sessions = _require_whole(redis)
        named = redis.smembers("sessions:ada") if redis.exists("sessions:ada") else set()
        for name, fields in sessions.items():
            if fields.get("user") == "ada":
                require(name != "old", "The old token is logged in.")
                listed = name in named
                require(listed, f"sessions:ada does not name {name}: it cannot be revoked.")
        require(len(sessions) < 2, f"There are two sessions: {' and '.join(sorted(sessions))}.")
        return sessions

    def moved(redis: Any, db: Any) -> bool:
        """the old token is void, and the new one has all that it had"""
        sessions = _check(redis)
        require(told["new"] is True, f"The caller was told {told['new']!r}.")
        require("old" not in sessions, "The old token is still valid.")
        fields = sessions.get("new", {})
        require(fields.get("user") == "ada", f"session:new holds {fields}.")
        ttl, left = redis.pttl("session:new"), redis.pttl("sessions:ada")
        require(_ROOM_MS < ttl <= 2 * _ROOM_MS, f"session:new has a TTL of {ttl} ms.")
        eight_hours = 8 * 3_600_000
        kept = eight_hours - _ROOM_MS < left <= eight_hours
        require(kept, f"sessions:ada has a TTL of {left} ms.")
        return True

    def nothing(redis: Any, db: Any) -> bool:
        """what is over stays over"""
        require(not _check(redis), f"There is a session: {', '.join(_check(redis))}.")
        require(told["new"] is False, f"The caller was told {told['new']!r}.")
        return True

    def consistent(redis: Any, db: Any) -> bool:
        """one session at the most, which its user can revoke"""
        sessions = _check(redis)
        for name in ("new", "second"):
            untrue = told.get(name) is False and name in sessions
            require(not untrue, f"The caller was told False, and session:{name} is there.")
        return True

    def none_lost(redis: Any, db: Any) -> bool:
        """what the request has written is in the session"""
        sessions = _check(redis)
        require(sum(map(len, sessions.values())) > 0, "The session is gone.")
        lost = told["request"] and not any("size" in fields for fields in sessions.values())
        require(not lost, "The request's write was accepted, and is lost.")
        return True

    def one_wins(redis: Any, db: Any) -> bool:
        """one of the two logins wins"""
        consistent(redis, db)
        won = [name for name in ("new", "second") if told[name] is True]
        require(len(won) == 1, f"{len(won)} of two logins were told True.")
        return True

    one, given = {"new": login("new")}, _prepared(told, _begin("old"))
    logout = {"logout": lambda redis, db: redis.delete("session:old")}
    return put_through(
        (
            Trial("A login", one, given, moved),
            Trial("A login in a session that is over", one, _prepared(told), nothing),
            Trial("A login that may crash", one, given, consistent, crashes=True),
            Trial("A login and a request", {**one, "request": request}, given, none_lost),
            Trial("A login and a logout", {**one, **logout}, given, consistent),
            Trial(
                "A login, and a session that may expire",
                one,
                given,
                consistent,
                expires=["session:*"],
            ),
            Trial(
                "Two logins at once",
                {**one, "second": login("second")},
                given,
                one_wins,
                prune=True,
            ),
            Trial(
                "A login while all sessions are revoked",
                {**one, "revoke": revoke_all},
                given,
                consistent,
            ),
        )
    )

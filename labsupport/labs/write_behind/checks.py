"""How answers to the exercises of lab 03 are put to the test."""

from collections.abc import Collection
from typing import Any

from labsupport.exercises import Outcome
from labsupport.exercises.trials import Answer, ClientFunction, Trial, put_through, require

__all__ = ["check_flush_deltas", "check_flush_page", "check_view_page"]

_PAGE, _OTHER = 1, 2
_START = 40  # what the database holds before


def _persisted(db: Any, page: int = _PAGE) -> int:
    return int(db.fetch_one("SELECT views FROM page_stats WHERE id = :page", page=page)["views"])


def _start(db: Any) -> None:
    for page in (_PAGE, _OTHER):
        db.execute("UPDATE page_stats SET views = :start WHERE id = :page", start=_START, page=page)


def check_flush_page(answer: Answer) -> Outcome:
    key, added = f"views:{_PAGE}", list[Any]()

    def flush(redis: Any, db: Any) -> None:
        added.append(answer(redis, db, _PAGE))

    def flush_twice(redis: Any, db: Any) -> None:
        flush(redis, db)
        flush(redis, db)

    def visit(redis: Any, db: Any) -> None:
        redis.incr(key)

    def gathered(views: int) -> ClientFunction:
        def given(redis: Any, db: Any) -> None:
            added.clear()
            _start(db)
            if views:
                redis.set(key, views)

        return given

    def each_once(views: int, *due: int) -> ClientFunction:
        def invariant(redis: Any, db: Any) -> bool:
            """each view is in the database or still in Redis, once"""
            left = int(redis.get(key) or 0)
            moved = _persisted(db) - _START
            found = f"{views} views were counted; {moved} were added to the database"
            whole = moved + left == views and left >= 0
            require(whole, f"{found}, {left} are left in Redis.")
            require(all(type(one) is int for one in added), f"A flush returned {added!r:.60}.")
            require(sum(added) == moved, f"{moved} were added, and {added} were returned.")
            require(not due or added == [*due], f"The flushes returned {added}, not {[*due]}.")
            return True

        return invariant

    def untouched(redis: Any, db: Any) -> bool:
        """with nothing gathered, a flush returns 0"""
        require(added == [0] and _persisted(db) == _START, f"It returned {added[0]!r:.60}.")
        return True

    one, two = {"flusher": flush}, {"first": flush, "second": flush}
    trials = (
        Trial(
            "One flush after the other", {"flusher": flush_twice}, gathered(3), each_once(3, 3, 0)
        ),
        Trial("Nothing gathered", one, gathered(0), untouched),
        Trial("A flusher and a visitor", {**one, "visitor": visit}, gathered(3), each_once(4)),
        Trial("Two flushers at once", two, gathered(3), each_once(3)),
        Trial(
            "Two flushers and a visitor",
            {**two, "visitor": visit},
            gathered(3),
            each_once(4),
            prune=True,
            sample=2_000,
        ),
    )
    return put_through(trials)


def check_flush_deltas(answer: Answer) -> Outcome:
    seen: list[int] = []  # the page of each view that was acknowledged

    def visit(redis: Any, db: Any) -> None:
        redis.hincrby("deltas", _PAGE, 1)
        seen.append(_PAGE)

    def gathered(*pages: int) -> ClientFunction:
        def given(redis: Any, db: Any) -> None:
            seen[:] = pages
            _start(db)
            db.execute("CREATE TABLE flushes (batch TEXT PRIMARY KEY)")
            for page in pages:
                redis.hincrby("deltas", page, 1)

        return given

    def flush(redis: Any, db: Any) -> None:
        answer(redis, db)

    def again(redis: Any, db: Any) -> None:
        for _ in range(3):
            answer(redis, db)
        visit(redis, db)

    def ahead(redis: Any, db: Any) -> None:
        answer(redis, db)
        visit(redis, db)
        answer(redis, db)

    def exactly_once(redis: Any, db: Any) -> bool:
        """after three more calls each view is in the database, once"""
        for _ in range(3):
            answer(redis, db)
        for page in (_PAGE, _OTHER):
            added, due = _persisted(db, page) - _START, seen.count(page)
            require(added == due, f"Of page {page} {due} views were counted, and {added} added.")
        return True

    def trial(situation: str, crashes: Collection[str] = (), **clients: ClientFunction) -> Trial:
        rivals = len(clients) > 1  # then one page: fewer steps, and no other orders that matter
        given = gathered(_PAGE, _PAGE) if rivals else gathered(_PAGE, _OTHER, _OTHER)
        sample = 400 if rivals else None
        return Trial(
            situation, clients, given, exactly_once, crashes=crashes, prune=True, sample=sample
        )

    return put_through(
        (
            trial("A batch, and then another", flusher=again),
            trial("A flusher and a visitor", flusher=flush, visitor=visit),
            trial("A flusher that may crash", ["flusher"], flusher=flush),
            trial(
                "A flusher that may crash, and a visitor", ["flusher"], flusher=flush, visitor=visit
            ),
            trial("Two flushers at once", first=flush, second=flush),
            trial("Two flushers, one of which may crash", ["first"], first=flush, second=flush),
            trial(
                "A slow flusher, and one that may crash a batch ahead",
                ["quick"],
                slow=flush,
                quick=ahead,
            ),
        )
    )


def check_view_page(answer: Answer) -> Outcome:
    most = 2
    came, counted, lengths = list[int](), list[int](), list[int]()

    def visit(redis: Any, db: Any) -> None:
        came.append(_PAGE)
        answer(redis, db, _PAGE, most)
        counted.append(_PAGE)

    def look(redis: Any, db: Any) -> None:
        lengths.append(redis.xlen("views"))

    def flush(redis: Any, db: Any) -> None:
        """A flusher that is beyond reproach, as long as it does not crash: it takes in one step."""
        entries, _ = redis.pipeline().xrange("views").xtrim("views", maxlen=0).execute()
        for _, entry in entries:
            add = "UPDATE page_stats SET views = views + 1 WHERE id = :page"
            db.execute(add, page=int(entry["page"]))

    def waiting(views: int) -> ClientFunction:
        def given(redis: Any, db: Any) -> None:
            for notes in (came, counted, lengths):
                notes.clear()
            _start(db)
            for _ in range(views):
                redis.xadd("views", {"page": _OTHER})

        return given

    def once(before: int, in_stream: int | None = None) -> ClientFunction:
        def invariant(redis: Any, db: Any) -> bool:
            """each view is counted once, and the backlog keeps its bound"""
            left = redis.xlen("views")
            longest = max([*lengths, left])
            require(longest <= most, f"The stream had {longest} entries, and most is {most}.")
            entries = [entry for _, entry in redis.xrange("views")]
            pages = [entry.get("page", "") for entry in entries]
            known = all(len(entry) == 1 for entry in entries) and {*pages} <= {
                str(_PAGE),
                str(_OTHER),
            }
            require(known, f"The entries are {entries!r:.60}.")
            total = _persisted(db) + _persisted(db, _OTHER) - 2 * _START + left
            low, high = before + len(counted), before + len(came)
            due = f"{low}" if low == high else f"{low} or {high}"
            require(low <= total <= high, f"{total} views are counted where {due} are due.")
            others = _persisted(db, _OTHER) - _START + pages.count(str(_OTHER))
            require(others == before, f"Of {before} earlier views {others} are counted.")
            want = left if in_stream is None else in_stream
            require(left == want, f"The stream has {left} entries, and {want} fit.")
            return True

        return invariant

    one = {"ada": visit}
    both = {"ada": visit, "bob": visit}
    return put_through(
        (
            Trial("A view with room", one, waiting(1), once(1, in_stream=2)),
            Trial("A view when the stream is full", one, waiting(2), once(2, in_stream=2)),
            Trial(
                "Two visitors, and room for one", both, waiting(1), once(1, in_stream=2), prune=True
            ),
            Trial("A visitor, and one who looks", {**one, "eye": look}, waiting(2), once(2)),
            Trial("A visitor and a flusher", {**one, "flusher": flush}, waiting(2), once(2)),
            Trial("A visitor who may crash", one, waiting(2), once(2), crashes=True),
            Trial("A visitor who may crash, with room", one, waiting(1), once(1), crashes=True),
        )
    )

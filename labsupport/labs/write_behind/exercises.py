"""The exercises of lab 03: flush what visitors add to, crash at any step, and keep a bound."""

# Stubs and solutions are shown to the reader as they stand here, and notebooks carry no annotations.
# mypy: allow-untyped-defs, allow-untyped-calls

import secrets

from labsupport.exercises import Exercise
from labsupport.exercises.judge import judged_by
from labsupport.labs.write_behind.checks import flush_of_many
from labsupport.labs.write_behind.contracts import FlushDeltas, FlushPage, ViewPage

__all__ = ["EXERCISES"]


def flush_page_stub(redis, db, page):
    """Add what views:{page} has gathered to the page's row in page_stats; return how many views.

    Visitors keep counting (INCR views:{page}), and another flusher may be at work: each
    view is added once. With nothing gathered, return 0 and leave the database alone.
    """
    views = int(redis.get(f"views:{page}") or 0)
    if views:
        add = "UPDATE page_stats SET views = views + :views WHERE id = :page"
        db.execute(add, views=views, page=page)
        redis.delete(f"views:{page}")
    return views


def flush_page_solution(redis, db, page):
    """Add what views:{page} has gathered to the page's row in page_stats; return how many views."""
    views = int(redis.getdel(f"views:{page}") or 0)
    if views:
        add = "UPDATE page_stats SET views = views + :views WHERE id = :page"
        db.execute(add, views=views, page=page)
    return views


def flush_deltas_stub(redis, db):
    """Add the views in the hash deltas (a field for each page) to page_stats, each exactly once.

    Visitors go on counting (HINCRBY deltas {page} 1), a second flusher may be at work, and a
    flusher may crash at any step: later calls finish what it leaves. All is done when three
    calls in a row have returned. The table flushes(batch TEXT PRIMARY KEY) is yours to use.
    """
    with redis.pipeline(transaction=True) as pipe:
        deltas, _ = pipe.hgetall("deltas").delete("deltas").execute()
    add = "UPDATE page_stats SET views = views + :views WHERE id = :page"
    with db.transaction():
        for page, views in deltas.items():
            db.execute(add, views=int(views), page=int(page))


def flush_deltas_solution(redis, db):
    """Add the views in the hash deltas (a field for each page) to page_stats, each exactly once."""
    take = """
    -- Opens a batch, unless one is open. KEYS: deltas, batch; ARGV: a name; returns the batch.
    if redis.call('EXISTS', KEYS[2]) == 0 and redis.call('EXISTS', KEYS[1]) == 1 then
      redis.call('RENAME', KEYS[1], KEYS[2])
      redis.call('HSET', KEYS[2], 'name', ARGV[1])
    end
    return redis.call('HGETALL', KEYS[2])
    """
    close = """
    -- Drops a batch. KEYS: batch; ARGV: its name; returns 1 if it was that one, else 0.
    return redis.call('HGET', KEYS[1], 'name') == ARGV[1] and redis.call('DEL', KEYS[1]) or 0
    """
    found = redis.eval(take, 2, "deltas", "batch", secrets.token_hex(8))
    batch = dict(zip(found[::2], found[1::2], strict=True))
    if not batch:
        return
    name = batch.pop("name")
    add = "UPDATE page_stats SET views = views + :views WHERE id = :page"
    with db.transaction():
        if db.execute("INSERT INTO flushes VALUES (:name) ON CONFLICT DO NOTHING", name=name):
            for page, views in batch.items():
                db.execute(add, views=int(views), page=int(page))
    redis.eval(close, 1, "batch", name)


def view_page_stub(redis, db, page, most):
    """Count a view once: as an entry {"page": page} of the stream views, while it has room.

    The stream never has more than most entries. When it is full, add the view to the page's row in
    page_stats instead. Meanwhile others view pages, and a flusher empties the stream. When this
    returns, the view is counted; after a crash it counts once, or not at all; nobody waits for room.
    """
    redis.xadd("views", {"page": page}, maxlen=most, approximate=False)


def view_page_solution(redis, db, page, most):
    """Count a view once: as an entry {"page": page} of the stream views, while it has room."""
    script = """
    -- Adds a view if there is room. KEYS: stream; ARGV: page, most; returns 1 if it did, else 0.
    if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
    redis.call('XADD', KEYS[1], '*', 'page', ARGV[1])
    return 1
    """
    if not redis.eval(script, 1, "views", page, most):
        add = "UPDATE page_stats SET views = views + 1 WHERE id = :page"
        db.execute(add, page=page)


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        number="03.1",
        title="Flush a counter that visitors add to",
        stub=flush_page_stub,
        solution=flush_page_solution,
        hints=(
            "A whole UPDATE lies between the `GET` and the `DEL`. What becomes of a view that is "
            "counted meanwhile?",
            "Taking the number and forgetting it must be one step; then a second flusher finds "
            "nothing either. Which command does both?",
            "`GETDEL` returns the value and deletes the key (None: there is none). Take first, then "
            "`UPDATE … SET views = views + :views`, and only when there is something to add.",
        ),
        check=judged_by(FlushPage()),
    ),
    Exercise(
        number="03.2",
        title="Flush a hash exactly once, whoever crashes",
        stub=flush_deltas_stub,
        solution=flush_deltas_solution,
        hints=(
            "After a crash the next call must see two things: what was taken, and whether it was "
            "added. Where can each of the two be kept so that a crash does not lose it?",
            "Take with `RENAME deltas batch`, so that what was taken is still in Redis, and give the "
            "batch a name. In one transaction of the database: `INSERT` the name into flushes, and "
            "add the views only if the INSERT did something.",
            "Three steps. A script: if there is no batch and there are deltas, `RENAME` and `HSET "
            "batch name …`; return `HGETALL batch`. The transaction with `INSERT … ON CONFLICT DO "
            "NOTHING`. A script that deletes the batch only if it still has that name: a second "
            "flusher may have opened the next one.",
        ),
        check=judged_by(FlushDeltas(), also=flush_of_many),
    ),
    Exercise(
        number="03.3",
        title="A backlog with a bound, and nobody's view lost",
        stub=view_page_stub,
        solution=view_page_solution,
        hints=(
            "`MAXLEN` keeps the stream short. At whose expense?",
            "Look at the length, then decide: with two visitors, whose step comes in between? And "
            "adding first and taking back later leaves the flusher time to see it.",
            "One script: if `XLEN` is at least most, return 0; otherwise `XADD … *` and return 1. "
            "When it returned 0, `UPDATE page_stats SET views = views + 1`.",
        ),
        check=judged_by(ViewPage()),
    ),
)

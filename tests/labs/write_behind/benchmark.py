"""What a page view costs, and what a kill -9 takes of it. Medians of turns in one run.

There is no library of write-behind to compare with: beside the lab's stream stand what one would use
instead (counters in the database, one row or several for a page) and the persistence policies.
"""

import random
import statistics
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from sqlalchemy import create_engine, text

from labsupport.database import open_shop
from labsupport.labs.write_behind import WriteBehindCrash
from labsupport.servers import start_server

TURNS, VIEWS, SLOTS = 5, 400, 16
POLICIES = {
    "no": {},
    "everysec": {"appendonly": "yes", "appendfsync": "everysec"},
    "always": {"appendonly": "yes", "appendfsync": "always"},
}
ADD = "UPDATE page_stats SET views = views + :views WHERE id = :page"


def incr(redis, db, page):
    count = redis.incr(f"views:{page}")
    if count % 100 == 0:
        sql = "UPDATE page_stats SET views = :count WHERE id = :page"
        db.execute(sql, count=count, page=page)


def tell_counter(redis, db, page):
    return int(redis.get(f"views:{page}") or 0)


def in_hash(redis, db, page):
    redis.hincrby("deltas", page, 1)


def in_stream(redis, db, page):
    redis.xadd("views", {"page": page})


def in_stream_on_disk(redis, db, page):
    with redis.client() as connection:
        connection.xadd("views", {"page": page})
        connection.waitaof(1, 0, 8000)


def in_database(redis, db, page):
    db.execute(ADD, views=1, page=page)


def in_slots(redis, db, page):
    slot = 100_000 * random.randint(1, SLOTS) + page  # several rows for a page, summed up when read
    db.execute(
        "INSERT INTO page_stats (id, views) VALUES (:slot, 1)"
        " ON CONFLICT (id) DO UPDATE SET views = page_stats.views + 1",
        slot=slot,
    )


def start(redis, db):
    db.execute("CREATE TABLE IF NOT EXISTS flushed (stream TEXT PRIMARY KEY, last_id TEXT)")
    db.execute("INSERT INTO flushed VALUES ('views', '0-1') ON CONFLICT DO NOTHING")


def flush(redis, db):
    last = db.fetch_one("SELECT last_id FROM flushed")["last_id"]
    entries = redis.xrange("views", f"({last}", "+", count=1000)
    if not entries:
        return 0
    with db.transaction():
        proceed = "UPDATE flushed SET last_id = :new WHERE last_id = :last"
        if db.execute(proceed, new=entries[-1][0], last=last):
            db.execute(ADD, views=len(entries), page=1)
    redis.xtrim("views", minid=entries[-1][0], approximate=False)
    return len(entries)


def tell_stream(redis, db, page):
    row = db.fetch_one("SELECT views, last_id FROM page_stats, flushed WHERE id = :page", page=page)
    return row["views"] + len(redis.xrange("views", f"({row['last_id']}", "+"))


def by_the_hundred():
    return {"view": incr, "tell": tell_counter}


def with_a_stream():
    return {"start": start, "view": in_stream, "tell": tell_stream, "flush": flush}


def views_per_second(view, redis, db):
    begin = time.perf_counter()
    for place in range(VIEWS):
        view(redis, db, 1 + place % 10)
    return VIEWS / (time.perf_counter() - begin)


def synced_updates_per_second():
    """The same UPDATE in an SQLite file that waits for its disk, as SQLite does by default."""
    with tempfile.TemporaryDirectory() as folder:
        engine = create_engine(f"sqlite:///{Path(folder, 'synced.sqlite')}")
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE page_stats (id INTEGER PRIMARY KEY, views INT)"))
            connection.execute(text("INSERT INTO page_stats VALUES (1, 0)"))
        begin = time.perf_counter()
        for _ in range(50):
            with engine.begin() as connection:
                connection.execute(text(ADD), {"views": 1, "page": 1})
        engine.dispose()
        return 50 / (time.perf_counter() - begin)


def cost():
    variants = {
        "UPDATE for each view": (in_database, "no"),
        f"UPDATE of one of {SLOTS} rows": (in_slots, "no"),
        "INCR, UPDATE every 100th": (incr, "no"),
        "HINCRBY": (in_hash, "no"),
        "XADD": (in_stream, "no"),
        "XADD, appendfsync everysec": (in_stream, "everysec"),
        "XADD, appendfsync always": (in_stream, "always"),
        "XADD and WAITAOF, always": (in_stream_on_disk, "always"),
    }
    found = {name: [] for name in variants}
    trips, waiting, synced = {}, {}, []
    with open_shop() as db:
        for _ in range(TURNS):
            synced.append(synced_updates_per_second())
            for name, (view, policy) in variants.items():
                with start_server(config=POLICIES[policy]) as server, server.client() as redis:
                    view(redis, db, 1)
                    before = redis.info("stats")["total_reads_processed"]
                    view(redis, db, 1)
                    trips[name] = redis.info("stats")["total_reads_processed"] - before - 1
                    found[name].append(views_per_second(view, redis, db))
                    used = [redis.memory_usage(key) or 0 for key in redis.scan_iter()]
                    waiting[name] = sum(used) / (VIEWS + 2)
    print(f"{'':<30}{'trips':>6}{'views/s':>10}{'times XADD':>12}{'bytes waiting':>15}")
    base = statistics.median(found["XADD"])
    for name, speeds in found.items():
        speed = statistics.median(speeds)
        line = f"{name:<30}{trips[name]:>6}{speed:>10,.0f}{speed / base:>12.2f}"
        print(f"{line}{waiting[name]:>15.1f}")
    print(f"{'UPDATE, synced to disk':<30}{0:>6}{statistics.median(synced):>10,.0f}")


def until_on_disk():
    print("\nmilliseconds until WAITAOF says that a view is on disk, median and most of 5")
    for policy in ("everysec", "always"):
        taken = []
        with start_server(config=POLICIES[policy]) as server, server.client() as redis:
            for _ in range(5):
                begin = time.perf_counter()
                in_stream_on_disk(redis, None, 1)
                taken.append((time.perf_counter() - begin) * 1000)
        print(f"  {policy:<10}{statistics.median(taken):>8.1f}{max(taken):>8.1f}")


def kill():
    print("\nlost of acknowledged, by a kill -9 and in the end, 3 runs each")
    for pattern in (by_the_hundred, with_a_stream):
        for policy in POLICIES:
            runs = [WriteBehindCrash(persistence=policy).run(pattern, live=False) for _ in range(3)]
            shown = "; ".join(
                f"{run.numbers['lost_by_the_kill']:,.0f} and {run.numbers['lost']:,.0f}"
                f" of {run.numbers['acknowledged']:,.0f}"
                for run in runs
            )
            print(f"  {pattern.__name__:<15}{policy:<10}{shown}")


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        cost()
        until_on_disk()
        kill()

"""Wrong answers to the exercises of lab 03, and what each must be refused for."""

import itertools
import secrets
from contextlib import suppress

from redis.exceptions import LockNotOwnedError, ResponseError, WatchError

from tests.exercises.zoo import Zoo

ZOO = Zoo()
wrong = ZOO.wrong

ADD = "UPDATE page_stats SET views = views + :views WHERE id = :page"
NOTE = "INSERT INTO flushes VALUES (:name) ON CONFLICT DO NOTHING"
TAKE = """
if redis.call('EXISTS', KEYS[2]) == 0 and redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('RENAME', KEYS[1], KEYS[2])
  redis.call('HSET', KEYS[2], 'name', ARGV[1])
end
return redis.call('HGETALL', KEYS[2])
"""
DROP = "if redis.call('HGET', KEYS[1], 'name') == ARGV[1] then redis.call('DEL', KEYS[1]) end"


# 03.1


@wrong("03.1", situation="Several clients at once", because="views:1 holds '0'; '1' is due.")
def sets_it_to_zero(redis, db, page):
    views = int(redis.get(f"views:{page}") or 0)
    if views:
        db.execute(ADD, views=views, page=page)
        redis.set(f"views:{page}", 0)
    return views


@wrong(
    "03.1",
    situation="Several clients at once",
    because="ada was given 3 and bob was given 3. No order of the calls gives that",
)
def subtracts_what_it_added(redis, db, page):
    views = int(redis.get(f"views:{page}") or 0)
    if views:
        db.execute(ADD, views=views, page=page)
        redis.decrby(f"views:{page}", views)
    return views


@wrong("03.1", situation="Several clients at once", because="views:1 is not there; '1' is due.")
def takes_in_a_pipeline_without_multi(redis, db, page):
    pipe = redis.pipeline(transaction=False)
    found, _ = pipe.get(f"views:{page}").delete(f"views:{page}").execute()
    views = int(found or 0)
    if views:
        db.execute(ADD, views=views, page=page)
    return views


@wrong("03.1", situation="Several clients at once", because="an error (ResponseError: no such key")
def renames_it_to_one_name(redis, db, page):
    if not redis.exists(f"views:{page}"):
        return 0
    redis.rename(f"views:{page}", f"flushing:{page}")
    if views := int(redis.get(f"flushing:{page}")):
        db.execute(ADD, views=views, page=page)
    redis.delete(f"flushing:{page}")
    return views


@wrong(
    "03.1",
    situation="One call after the other",
    because="page 1 in the database holds '1'; '17' is due.",
    sequential=True,
)
def sets_instead_of_adding(redis, db, page):
    views = int(redis.getdel(f"views:{page}") or 0)
    if views:
        save = "UPDATE page_stats SET views = :views WHERE id = :page"
        db.execute(save, views=views, page=page)
    return views


@wrong("03.1", situation="One call after the other", because="views:1 holds", sequential=True)
def forgets_nothing(redis, db, page):
    views = int(redis.get(f"views:{page}") or 0)
    if views:
        db.execute(ADD, views=views, page=page)
    return views


@wrong("03.1", situation="One call after the other", because="an error (TypeError", sequential=True)
def expects_something(redis, db, page):
    views = int(redis.getdel(f"views:{page}"))
    db.execute(ADD, views=views, page=page)
    return views


@wrong(
    "03.1",
    situation="Several clients at once",
    because="page 1 in the database holds '19'; '20' is due.",
)
def reads_modifies_writes(redis, db, page):
    views = int(redis.getdel(f"views:{page}") or 0)
    if views:
        row = db.fetch_one("SELECT views FROM page_stats WHERE id = :page", page=page)
        save = "UPDATE page_stats SET views = :views WHERE id = :page"
        db.execute(save, views=row["views"] + views, page=page)
    return views


NOT_ALONE = (
    "the count of calls that found nothing gathered, and asked the database, holds 1; 0 is due"
)


@wrong("03.1", situation="One call after the other", because=NOT_ALONE, sequential=True)
def adds_nothing_as_well(redis, db, page):
    views = int(redis.getdel(f"views:{page}") or 0)
    db.execute(ADD, views=views, page=page)
    return views


@wrong(
    "03.1",
    situation="One call after the other",
    because="ada was given 10000; 12345 is due",
    sequential=True,
)
def takes_no_more_than_so_many(redis, db, page):
    key = f"views:{page}"
    with redis.pipeline() as pipe:
        while True:
            try:
                pipe.watch(key)
                views = min(10_000, int(pipe.get(key) or 0))
                pipe.multi()
                pipe.decrby(key, views).execute()
                break
            except WatchError:
                continue
    if views:
        db.execute(ADD, views=views, page=page)
    return views


@wrong("03.1", situation="Several clients at once", because="views:1 is not there; '1' is due")
def deletes_what_was_not_there(redis, db, page):
    views = int(redis.set(f"views:{page}", 0, get=True) or 0)
    if not views:
        redis.delete(f"views:{page}")
        return 0
    db.execute(ADD, views=views, page=page)
    return views


@wrong(
    "03.1",
    situation="One call after the other",
    because="The key 'views:1' lives for 3,600 s; none is due",
    sequential=True,
)
def lets_the_counter_expire(redis, db, page):
    with redis.pipeline() as pipe:
        found, _ = pipe.set(f"views:{page}", 0, get=True).expire(f"views:{page}", 3600).execute()
    views = int(found or 0)
    if views:
        db.execute(ADD, views=views, page=page)
    return views


# 03.2: all but two pass every test without a crash and without a rival


def add_all(db, batch):
    for page, views in batch.items():
        db.execute(ADD, views=int(views), page=int(page))


@wrong(
    "03.2",
    situation="Several clients at once",
    because="page 1 in the database holds '20'; '19' is due.",
)
def reads_then_deletes(redis, db):
    deltas = redis.hgetall("deltas")
    with db.transaction():
        add_all(db, deltas)
    redis.delete("deltas")


@wrong("03.2", because="ConstraintError")
def raises_where_the_batch_was_added(redis, db):
    """What a crash has left behind the commit, no later call finishes."""
    found = redis.eval(TAKE, 2, "deltas", "batch", secrets.token_hex(8))
    batch = dict(zip(found[::2], found[1::2], strict=True))
    if not batch:
        return
    name = batch.pop("name")
    with db.transaction():
        db.execute(NOTE.removesuffix(" ON CONFLICT DO NOTHING"), name=name)
        add_all(db, batch)
    redis.eval(DROP, 1, "batch", name)


@wrong(
    "03.2",
    situation="A client that crashes",
    because="page 1 in the database holds '16'; '18' is due.",
)
def gives_each_page_a_transaction(redis, db):
    found = redis.eval(TAKE, 2, "deltas", "batch", secrets.token_hex(8))
    batch = dict(zip(found[::2], found[1::2], strict=True))
    if batch and db.execute(NOTE, name=batch.pop("name")):
        add_all(db, batch)
    redis.delete("batch")


@wrong(
    "03.2",
    situation="Several clients at once",
    because="page 1 in the database holds '20'; '19' is due.",
)
def keeps_the_batch_without_a_name(redis, db):
    if not redis.exists("batch") and redis.exists("deltas"):
        redis.rename("deltas", "batch")
    batch = redis.hgetall("batch")
    with db.transaction():
        add_all(db, batch)
    redis.delete("batch")


@wrong(
    "03.2",
    situation="Several clients at once",
    because="page 1 in the database holds '20'; '19' is due.",
)
def takes_over_an_open_batch(redis, db):
    if redis.exists("deltas"):
        redis.rename("deltas", "batch")  # whatever was there
    batch = redis.hgetall("batch")
    with db.transaction():
        add_all(db, batch)
    redis.delete("batch")


@wrong(
    "03.2",
    situation="Several clients, and one crashes",
    because="page 1 in the database holds '18'; '19' is due.",
)
def drops_whatever_batch_is_there(redis, db):
    found = redis.eval(TAKE, 2, "deltas", "batch", secrets.token_hex(8))
    batch = dict(zip(found[::2], found[1::2], strict=True))
    if batch:
        with db.transaction():
            if db.execute(NOTE, name=batch.pop("name")):
                add_all(db, batch)
        redis.delete("batch")


@wrong(
    "03.2",
    situation="One call after the other",
    because="page 1 in the database holds '17'; '18' is due.",
    sequential=True,
)
def names_every_batch_alike(redis, db):
    found = redis.eval(TAKE, 2, "deltas", "batch", "batch")
    batch = dict(zip(found[::2], found[1::2], strict=True))
    if batch:
        with db.transaction():
            if db.execute(NOTE, name=batch.pop("name")):
                add_all(db, batch)
        redis.delete("batch")


@wrong(
    "03.2",
    situation="Several clients at once",
    because="page 1 in the database holds '18'; '19' is due.",
)
def names_it_a_step_later(redis, db):
    if not redis.exists("batch") and redis.exists("deltas"):
        redis.rename("deltas", "batch")
        redis.hset("batch", "name", secrets.token_hex(8))
    batch = redis.hgetall("batch")
    if "name" in batch:
        with db.transaction():
            if db.execute(NOTE, name=batch.pop("name")):
                add_all(db, batch)
        redis.delete("batch")


@wrong(
    "03.2",
    situation="A client that crashes",
    because="page 1 in the database holds '16'; '18' is due.",
)
def notes_it_in_redis(redis, db):
    found = redis.eval(TAKE, 2, "deltas", "batch", secrets.token_hex(8))
    batch = dict(zip(found[::2], found[1::2], strict=True))
    if batch and redis.sadd("flushed", batch.pop("name")):
        with db.transaction():
            add_all(db, batch)
    redis.delete("batch")


@wrong(
    "03.2",
    situation="Several clients at once",
    because="page 1 in the database holds '21'; '19' is due.",
)
def looks_before_it_notes(redis, db):
    found = redis.eval(TAKE, 2, "deltas", "batch", secrets.token_hex(8))
    batch = dict(zip(found[::2], found[1::2], strict=True))
    if batch:
        name = batch.pop("name")
        if not db.fetch_one("SELECT batch FROM flushes WHERE batch = :name", name=name):
            with db.transaction():
                db.execute(NOTE, name=name)
                add_all(db, batch)
        close = (
            "return redis.call('HGET', KEYS[1], 'name') == ARGV[1] and redis.call('DEL', KEYS[1])"
        )
        redis.eval(close, 1, "batch", name)


# 03.3


@wrong("03.3", situation="Several clients at once", because="views holds")
def looks_then_adds(redis, db, page, most):
    if redis.xlen("views") < most:
        redis.xadd("views", {"page": page})
    else:
        db.execute(ADD, views=1, page=page)


@wrong("03.3", situation="Several clients at once", because="views holds")
def adds_then_takes_back(redis, db, page, most):
    entry = redis.xadd("views", {"page": page})
    if redis.xlen("views") > most:
        redis.xdel("views", entry)
        db.execute(ADD, views=1, page=page)


@wrong(
    "03.3",
    situation="One call after the other",
    because="page 1 in the database holds '16'; '17' is due.",
    sequential=True,
)
def drops_what_does_not_fit(redis, db, page, most):
    if redis.xlen("views") < most:
        redis.xadd("views", {"page": page}, maxlen=most, approximate=False)


@wrong(
    "03.3",
    situation="One call after the other",
    because="It does not end: ada repeats XLEN views for ever.",
    sequential=True,
)
def waits_for_room(redis, db, page, most):
    while redis.xlen("views") >= most:
        pass
    redis.xadd("views", {"page": page})


@wrong("03.3", situation="One call after the other", because="views holds", sequential=True)
def takes_the_oldest_along(redis, db, page, most):
    script = """
    local oldest = {}
    if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[2]) then
      oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)
      redis.call('XDEL', KEYS[1], oldest[1][1])
    end
    redis.call('XADD', KEYS[1], '*', 'page', ARGV[1])
    return oldest
    """
    for _, (_, old) in redis.eval(script, 1, "views", page, most):
        db.execute(ADD, views=1, page=int(old))


@wrong("03.3", situation="One call after the other", because="views holds", sequential=True)
def makes_room_itself(redis, db, page, most):
    if redis.xlen("views") >= most:
        (oldest, entry), *_ = redis.xrange("views", count=1)
        db.execute(ADD, views=1, page=int(entry["page"]))
        redis.xdel("views", oldest)
    redis.xadd("views", {"page": page})


@wrong(
    "03.3",
    situation="Several clients at once",
    because="page 1 in the database holds '16'; '17' is due.",
)
def trims_what_two_have_added(redis, db, page, most):
    if redis.xlen("views") >= most:
        db.execute(ADD, views=1, page=page)
    else:
        redis.xadd("views", {"page": page}, maxlen=most, approximate=False)


@wrong("03.3", situation="One call after the other", because="views holds", sequential=True)
def trims_roughly(redis, db, page, most):
    redis.xadd("views", {"page": page}, maxlen=most)


@wrong(
    "03.3",
    situation="A client that crashes",
    because="page 1 in the database holds '17'; '16' is due.",
)
def counts_in_both_and_takes_back(redis, db, page, most):
    script = """
    if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
    redis.call('XADD', KEYS[1], '*', 'page', ARGV[1])
    return 1
    """
    db.execute(ADD, views=1, page=page)
    if redis.eval(script, 1, "views", page, most):
        db.execute(ADD, views=-1, page=page)


@wrong(
    "03.3",
    situation="One call after the other",
    because="page 1 in the database holds '17'; '16' is due",
    sequential=True,
)
def needs_a_stream_to_be_there(redis, db, page, most):
    script = """
    if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[2]) then return false end
    return redis.call('XADD', KEYS[1], 'NOMKSTREAM', '*', 'page', ARGV[1])
    """
    if redis.eval(script, 1, "views", page, most) is None:
        db.execute(ADD, views=1, page=page)


@wrong("03.3", situation="Several clients at once", because="views holds")
def takes_a_rival_for_a_full_stream(redis, db, page, most):
    with redis.pipeline() as pipe, suppress(WatchError):
        pipe.watch("views")
        if pipe.xlen("views") < most:
            pipe.multi()
            pipe.xadd("views", {"page": page}).execute()
            return
    db.execute(ADD, views=1, page=page)


@wrong(
    "03.2",
    situation="6 flushers, one after the other, crash after 1 step each",
    because="Of 6 views the database has 3.",
)
def adds_one_batch_a_call(redis, db):
    """Each crash leaves a batch of its own; three calls add three of them."""
    with suppress(ResponseError):  # there is nothing new
        redis.renamenx("deltas", f"batch:{secrets.token_hex(8)}")
    for name in sorted(redis.scan_iter(match="batch:*"))[:1]:
        batch = redis.hgetall(name)
        with db.transaction():
            if db.execute(NOTE, name=name):
                add_all(db, batch)
        redis.delete(name)


@wrong("03.2", situation="A client that crashes", because="page 1 in the database holds")
def leaves_batches_that_expire(redis, db):
    """When nobody has called for a minute, what a crash has left is lost."""
    take = TAKE.replace("return", "redis.call('PEXPIRE', KEYS[2], 60000)\nreturn")
    found = redis.eval(take, 2, "deltas", "batch", secrets.token_hex(8))
    batch = dict(zip(found[::2], found[1::2], strict=True))
    if not batch:
        return
    name = batch.pop("name")
    with db.transaction():
        if db.execute(NOTE, name=name):
            add_all(db, batch)
    if redis.hget("batch", "name") == name:
        redis.delete("batch")


@wrong("03.2", situation="Several clients at once", because="page 1 in the database holds")
def drops_another_ones_batch(redis, db):
    """All batches have one key: who comes late deletes the next one. There are many steps until then."""
    for _ in range(2):
        with suppress(ResponseError):
            redis.renamenx("deltas", "batch")
        redis.hsetnx("batch", "name", secrets.token_hex(8))
        batch = redis.hgetall("batch")
        name = batch.pop("name", None)
        if name is None:
            continue
        with db.transaction():
            if db.execute(NOTE, name=name):
                add_all(db, batch)
        redis.delete("batch")


@wrong("03.1", because="ada was given 3 and bob was given 3. No order of the calls gives that")
def locks_for_ten_seconds(redis, db, page):
    """In the database it may take longer, and then another has the lock."""
    with suppress(LockNotOwnedError), redis.lock(f"flush:{page}", timeout=10):
        views = int(redis.get(f"views:{page}") or 0)
        if views:
            db.execute(ADD, views=views, page=page)
            redis.decrby(f"views:{page}", views)
    return views


@wrong("03.2", because="page 1 in the database holds '18'; '19' is due")
def drops_the_next_batch_of_one_who_crashed(redis, db):
    """The batch that it deletes at the end is the next one by now: who took that has crashed."""
    take = """
    if redis.call('EXISTS', KEYS[2]) == 0 then
      if redis.call('EXISTS', KEYS[1]) == 0 then return {} end
      redis.call('RENAME', KEYS[1], KEYS[2])
      redis.call('SET', KEYS[3], ARGV[1])
    end
    return {redis.call('GET', KEYS[3]), redis.call('HGETALL', KEYS[2])}
    """
    for _ in range(2):
        found = redis.eval(take, 3, "deltas", "batch", "batch:name", secrets.token_hex(8))
        if not found:
            return
        name, pairs = found
        with db.transaction():
            if db.execute(NOTE, name=name):
                add_all(db, dict(zip(pairs[::2], pairs[1::2], strict=True)))
        redis.delete("batch")


@wrong("03.3", situation="A client that is overtaken at every step", because="'20' is due")
def makes_room_after_three_tries(redis, db, page, most):
    """In the end it adds the view in any case, and what MAXLEN throws out nobody has counted."""
    for _ in range(3):
        with redis.pipeline() as pipe, suppress(WatchError):
            pipe.watch("views")
            if pipe.xlen("views") >= most:
                return db.execute(ADD, views=1, page=page)
            pipe.multi()
            return pipe.xadd("views", {"page": page}).execute()
    return redis.xadd("views", {"page": page}, maxlen=most, approximate=False)


@wrong("03.2", because="page 3 in the database holds '3'; '4' is due", sequential=True)
def adds_a_few_pages(redis, db):
    """What is more than that goes with the batch."""
    found = redis.eval(TAKE, 2, "deltas", "batch", secrets.token_hex(8))
    batch = dict(zip(found[::2], found[1::2], strict=True))
    name = batch.pop("name", None)
    if name is None:
        return
    with db.transaction():
        if db.execute(NOTE, name=name):
            add_all(db, dict(sorted(batch.items(), key=lambda one: int(one[0]))[:2]))
    redis.eval(DROP, 1, "batch", name)


@wrong("03.2", because="page 4 in the database holds '3'; '4' is due", sequential=True)
def takes_a_page_a_call(redis, db):
    """Three calls are for three pages."""
    take = """
    if redis.call('EXISTS', KEYS[2]) == 0 and redis.call('EXISTS', KEYS[1]) == 1 then
      local pages = redis.call('HKEYS', KEYS[1])
      table.sort(pages, function(one, other) return tonumber(one) < tonumber(other) end)
      redis.call('HSET', KEYS[2], pages[1], redis.call('HGET', KEYS[1], pages[1]))
      redis.call('HSET', KEYS[2], 'name', ARGV[1])
      redis.call('HDEL', KEYS[1], pages[1])
    end
    return redis.call('HGETALL', KEYS[2])
    """
    found = redis.eval(take, 2, "deltas", "batch", secrets.token_hex(8))
    batch = dict(zip(found[::2], found[1::2], strict=True))
    name = batch.pop("name", None)
    if name is None:
        return
    with db.transaction():
        if db.execute(NOTE, name=name):
            add_all(db, batch)
    redis.eval(DROP, 1, "batch", name)


@wrong(
    "03.2",
    situation="6 flushers, one after the other, crash after 1 step each, and what has a TTL is gone",
    because="Of 6 views the database has 5.",
)
def keeps_a_batch_for_an_hour(redis, db):
    """When nobody has called for an hour, what a crash has left is lost."""
    take = TAKE.replace("return", "redis.call('EXPIRE', KEYS[2], 3600)\nreturn")
    found = redis.eval(take, 2, "deltas", "batch", secrets.token_hex(8))
    batch = dict(zip(found[::2], found[1::2], strict=True))
    name = batch.pop("name", None)
    if name is None:
        return
    with db.transaction():
        if db.execute(NOTE, name=name):
            add_all(db, batch)
    redis.eval(DROP, 1, "batch", name)


@wrong("03.2", because="1,500 pages, and three calls: the view of", sequential=True)
def adds_the_first_page_of_a_scan(redis, db):
    name = secrets.token_hex(8)
    found = redis.eval(
        TAKE.replace("'HGETALL', KEYS[2]", "'HGET', KEYS[2], 'name'"), 2, "deltas", "batch", name
    )
    if found is None:
        return
    _, batch = redis.hscan("batch", count=500)
    with db.transaction():
        if db.execute(NOTE, name=found):
            for page, views in batch.items():
                if page != "name":
                    db.execute(ADD, views=int(views), page=int(page))
    redis.eval(DROP, 1, "batch", found)


NAMES = itertools.count(1)


@wrong(
    "03.2",
    situation="Two processes, one after the other",
    because="what the second took was not added once",
)
def numbers_batches_in_its_own_memory(redis, db):
    found = redis.eval(TAKE, 2, "deltas", "batch", f"batch {next(NAMES)}")
    batch = dict(zip(found[::2], found[1::2], strict=True))
    name = batch.pop("name", None)
    if name is None:
        return
    with db.transaction():
        if db.execute(NOTE, name=name):
            add_all(db, batch)
    redis.eval(DROP, 1, "batch", name)


@wrong("03.3", because="is due", sequential=True)
def a_thousand_entries_at_the_most(redis, db, page, most):
    script = """
    if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
    redis.call('XADD', KEYS[1], '*', 'page', ARGV[1])
    return 1
    """
    if not redis.eval(script, 1, "views", page, min(most, 1_000)):
        db.execute("UPDATE page_stats SET views = views + 1 WHERE id = :page", page=page)

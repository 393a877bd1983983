"""Wrong answers to the exercises of lab 03, and what each must be refused for."""

import secrets

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


# 03.1


@wrong(
    "03.1",
    situation="A flusher and a visitor",
    because="4 views were counted; 3 were added to the database, 0 are left in Redis.",
    schedule="GET UPDATE INCRBY SET",
)
def sets_it_to_zero(redis, db, page):
    views = int(redis.get(f"views:{page}") or 0)
    if views:
        db.execute(ADD, views=views, page=page)
        redis.set(f"views:{page}", 0)
    return views


@wrong(
    "03.1",
    situation="Two flushers at once",
    because="3 views were counted; 6 were added to the database, -3 are left in Redis.",
    schedule="GET UPDATE GET UPDATE DECRBY DECRBY",
)
def subtracts_what_it_added(redis, db, page):
    views = int(redis.get(f"views:{page}") or 0)
    if views:
        db.execute(ADD, views=views, page=page)
        redis.decrby(f"views:{page}", views)
    return views


@wrong(
    "03.1",
    situation="A flusher and a visitor",
    because="4 views were counted; 3 were added to the database, 0 are left in Redis.",
    schedule="GET INCRBY DEL UPDATE",
)
def takes_in_a_pipeline_without_multi(redis, db, page):
    pipe = redis.pipeline(transaction=False)
    found, _ = pipe.get(f"views:{page}").delete(f"views:{page}").execute()
    views = int(found or 0)
    if views:
        db.execute(ADD, views=views, page=page)
    return views


@wrong(
    "03.1",
    situation="Two flushers at once",
    because="first raised ResponseError: no such key",
    schedule="EXISTS EXISTS RENAME GET UPDATE DEL RENAME",
)
def renames_it_to_one_name(redis, db, page):
    if not redis.exists(f"views:{page}"):
        return 0
    redis.rename(f"views:{page}", f"flushing:{page}")
    views = int(redis.get(f"flushing:{page}"))
    db.execute(ADD, views=views, page=page)
    redis.delete(f"flushing:{page}")
    return views


@wrong(
    "03.1",
    situation="One flush after the other",
    because="3 views were counted; -37 were added to the database, 0 are left in Redis.",
    sequential=True,
)
def sets_instead_of_adding(redis, db, page):
    views = int(redis.getdel(f"views:{page}") or 0)
    if views:
        save = "UPDATE page_stats SET views = :views WHERE id = :page"
        db.execute(save, views=views, page=page)
    return views


@wrong(
    "03.1",
    situation="One flush after the other",
    because="3 views were counted; 6 were added to the database, 3 are left in Redis.",
    sequential=True,
)
def forgets_nothing(redis, db, page):
    views = int(redis.get(f"views:{page}") or 0)
    db.execute(ADD, views=views, page=page)
    return views


@wrong(
    "03.1",
    situation="One flush after the other",
    because="raised TypeError",
    sequential=True,
)
def expects_something(redis, db, page):
    views = int(redis.getdel(f"views:{page}"))
    db.execute(ADD, views=views, page=page)
    return views


@wrong(
    "03.1",
    situation="Two flushers and a visitor",
    because="4 views were counted; 3 were added to the database, 0 are left in Redis.",
    schedule="GETDEL SELECT INCRBY GETDEL SELECT UPDATE UPDATE",
)
def reads_modifies_writes(redis, db, page):
    views = int(redis.getdel(f"views:{page}") or 0)
    if views:
        row = db.fetch_one("SELECT views FROM page_stats WHERE id = :page", page=page)
        save = "UPDATE page_stats SET views = :views WHERE id = :page"
        db.execute(save, views=row["views"] + views, page=page)
    return views


# 03.2: all but two pass every test without a crash and without a rival


def add_all(db, batch):
    for page, views in batch.items():
        db.execute(ADD, views=int(views), page=int(page))


@wrong(
    "03.2",
    situation="A flusher and a visitor",
    because="Of page 1 3 views were counted, and 2 added.",
    schedule="HGETALL UPDATE COMMIT HINCRBY DEL",
)
def reads_then_deletes(redis, db):
    deltas = redis.hgetall("deltas")
    with db.transaction():
        add_all(db, deltas)
    redis.delete("deltas")


@wrong(
    "03.2",
    situation="A flusher that may crash",
    because="Of page 1 1 views were counted, and 0 added.",
    schedule="EVAL INSERT crash:UPDATE",
)
def gives_each_page_a_transaction(redis, db):
    found = redis.eval(TAKE, 2, "deltas", "batch", secrets.token_hex(8))
    batch = dict(zip(found[::2], found[1::2], strict=True))
    if batch and db.execute(NOTE, name=batch.pop("name")):
        add_all(db, batch)
    redis.delete("batch")


@wrong(
    "03.2",
    situation="A flusher that may crash",
    because="Of page 1 1 views were counted, and 2 added.",
    schedule="EXISTS EXISTS RENAME HGETALL UPDATE UPDATE COMMIT crash:DEL",
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
    situation="A flusher that may crash",
    because="Of page 1 1 views were counted, and 2 added.",
    schedule="EXISTS RENAME HGETALL UPDATE UPDATE COMMIT crash:DEL",
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
    situation="A slow flusher, and one that may crash a batch ahead",
    because="Of page 1 3 views were counted, and 2 added.",
    schedule="EVAL INSERT UPDATE COMMIT EVAL INSERT COMMIT DEL HINCRBY EVAL DEL crash:INSERT",
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
    situation="A batch, and then another",
    because="Of page 1 2 views were counted, and 1 added.",
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
    situation="A flusher that may crash",
    because="Of page 1 1 views were counted, and 0 added.",
    schedule="EXISTS EXISTS RENAME crash:HSET",
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
    situation="A flusher that may crash",
    because="Of page 1 1 views were counted, and 0 added.",
    schedule="EVAL SADD crash:UPDATE",
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
    situation="Two flushers at once",
    because="Of page 1 2 views were counted, and 4 added.",
    schedule="EVAL SELECT EVAL SELECT INSERT UPDATE COMMIT EVAL INSERT UPDATE COMMIT EVAL",
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


@wrong(
    "03.3",
    situation="Two visitors, and room for one",
    because="The stream had 3 entries, and most is 2.",
    schedule="XLEN XLEN XADD XADD",
)
def looks_then_adds(redis, db, page, most):
    if redis.xlen("views") < most:
        redis.xadd("views", {"page": page})
    else:
        db.execute(ADD, views=1, page=page)


@wrong(
    "03.3",
    situation="Two visitors, and room for one",
    because="The stream has 1 entries, and 2 fit.",
    schedule="XADD XADD XLEN XLEN XDEL UPDATE XDEL UPDATE",
)
def adds_then_takes_back(redis, db, page, most):
    entry = redis.xadd("views", {"page": page})
    if redis.xlen("views") > most:
        redis.xdel("views", entry)
        db.execute(ADD, views=1, page=page)


@wrong(
    "03.3",
    situation="A view when the stream is full",
    because="2 views are counted where 3 are due.",
    sequential=True,
)
def drops_what_does_not_fit(redis, db, page, most):
    if redis.xlen("views") < most:
        redis.xadd("views", {"page": page}, maxlen=most, approximate=False)


@wrong(
    "03.3",
    situation="A view when the stream is full",
    because="does not end",
    sequential=True,
)
def waits_for_room(redis, db, page, most):
    while redis.xlen("views") >= most:
        pass
    redis.xadd("views", {"page": page})


@wrong(
    "03.3",
    situation="A visitor who may crash",
    because="Of 2 earlier views 1 are counted.",
    schedule="EVAL crash:UPDATE",
)
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


@wrong(
    "03.3",
    situation="Two visitors, and room for one",
    because="The stream had 3 entries, and most is 2.",
    schedule="XLEN XLEN XADD XADD",
)
def makes_room_itself(redis, db, page, most):
    if redis.xlen("views") >= most:
        (oldest, entry), *_ = redis.xrange("views", count=1)
        db.execute(ADD, views=1, page=int(entry["page"]))
        redis.xdel("views", oldest)
    redis.xadd("views", {"page": page})


@wrong(
    "03.3",
    situation="Two visitors, and room for one",
    because="2 views are counted where 3 are due.",
    schedule="XLEN XLEN XADD XADD",
)
def trims_what_two_have_added(redis, db, page, most):
    if redis.xlen("views") >= most:
        db.execute(ADD, views=1, page=page)
    else:
        redis.xadd("views", {"page": page}, maxlen=most, approximate=False)


@wrong(
    "03.3",
    situation="A view when the stream is full",
    because="The stream had 3 entries, and most is 2.",
    sequential=True,
)
def trims_roughly(redis, db, page, most):
    redis.xadd("views", {"page": page}, maxlen=most)


@wrong(
    "03.3",
    situation="A visitor who may crash, with room",
    because="3 views are counted where 1 or 2 are due.",
    schedule="UPDATE EVAL crash:UPDATE",
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

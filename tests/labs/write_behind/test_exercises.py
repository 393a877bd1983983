"""The exercises of lab 03: what breaks each stub, and other good answers."""

import secrets
from contextlib import suppress

import pytest
from redis.exceptions import WatchError

from labsupport import check
from labsupport.labs.write_behind.exercises import EXERCISES
from tests.exercises.zoo import schedule

ADD = "UPDATE page_stats SET views = views + :views WHERE id = :page"


@pytest.mark.long  # the notebooks show it, and are checked in any case
def test_what_breaks_each_stub():
    """Each stub breaks where its exercise is about: a view in between, a crash, a full stream."""
    first, second, third = (check(one.number, one.stub) for one in EXERCISES)
    assert "views:1 is not there; '1' is due" in first.reason
    assert schedule(second) == "MULTI/EXEC crash:UPDATE"
    assert "page 1 in the database holds '16'; '17' is due" in str(third)


@pytest.mark.long
class TestOtherGoodAnswers:
    def test_get_and_delete_in_a_transaction(self):
        """MULTI takes and forgets in one step, as GETDEL does."""

        def flush_page(redis, db, page):
            with redis.pipeline(transaction=True) as pipe:
                found, _ = pipe.get(f"views:{page}").delete(f"views:{page}").execute()
            if found is None:
                return 0
            db.execute(ADD, views=int(found), page=page)
            return int(found)

        found = check("03.1", flush_page)
        assert found.passed, str(found)

    def test_renamed_to_a_name_of_its_own(self):
        """A flusher that moves the counter out of the way has it to itself."""

        def flush_page(redis, db, page):
            mine = f"views:{page}:{secrets.token_hex(8)}"
            if not redis.eval(
                "return redis.call('EXISTS', KEYS[1]) == 1"
                " and redis.call('RENAME', KEYS[1], KEYS[2]) and 1 or 0",
                2,
                f"views:{page}",
                mine,
            ):
                return 0
            views = int(redis.get(mine))
            db.execute(ADD, views=views, page=page)
            redis.delete(mine)
            return views

        found = check("03.1", flush_page)
        assert found.passed, str(found)

    def test_set_with_get(self):
        """SET … GET leaves a zero behind and says what was there."""

        def flush_page(redis, db, page):
            views = int(redis.set(f"views:{page}", 0, get=True) or 0)
            if views:
                db.execute(ADD, views=views, page=page)
            return views

        found = check("03.1", flush_page)
        assert found.passed, str(found)

    def test_an_addition_that_is_taken_back(self):
        """Who adds first, and takes it back when there is more by now, has left the database alone."""

        class ChangedError(Exception):
            pass

        def flush_once(redis, db, page):
            with redis.pipeline() as pipe, db.transaction():
                pipe.watch(f"views:{page}")
                views = int(pipe.get(f"views:{page}") or 0)
                if views:
                    db.execute(ADD, views=views, page=page)
                    pipe.multi()
                    try:
                        pipe.delete(f"views:{page}").execute()
                    except WatchError:
                        raise ChangedError from None
                return views

        def flush_page(redis, db, page):
            while True:
                with suppress(ChangedError):
                    return flush_once(redis, db, page)

        found = check("03.1", flush_page)
        assert found.passed, str(found)

    def test_batches_with_keys_of_their_own(self):
        """Many open batches, each under its own name, and a set that knows them."""

        def flush_deltas(redis, db):
            script = """
            if redis.call('EXISTS', KEYS[1]) == 1 then
              redis.call('RENAME', KEYS[1], 'batch:' .. ARGV[1])
              redis.call('SADD', KEYS[2], ARGV[1])
            end
            return redis.call('SMEMBERS', KEYS[2])
            """
            for name in sorted(redis.eval(script, 2, "deltas", "open", secrets.token_hex(8))):
                batch = redis.hgetall(f"batch:{name}")
                with db.transaction():
                    note = "INSERT INTO flushes VALUES (:name) ON CONFLICT DO NOTHING"
                    if batch and db.execute(note, name=name):
                        for page, views in batch.items():
                            db.execute(ADD, views=int(views), page=int(page))
                with redis.pipeline(transaction=True) as pipe:
                    pipe.delete(f"batch:{name}").srem("open", name).execute()

        found = check("03.2", flush_deltas)
        assert found.passed, str(found)

    def test_the_name_is_noted_first_by_whoever_adds(self):
        """A batch that is named by the number of the last one, and closed with WATCH."""

        def flush_deltas(redis, db):
            with redis.pipeline(transaction=True) as pipe:
                pipe.watch("deltas", "batch")
                if not pipe.exists("batch"):
                    if not pipe.exists("deltas"):
                        return
                    pipe.multi()
                    pipe.rename("deltas", "batch").incr("number")
                    pipe.execute_command("COPY", "number", "batch:number", "REPLACE")
                    try:
                        pipe.execute()
                    except WatchError:
                        return
            with redis.pipeline(transaction=True) as pipe:
                batch, name = pipe.hgetall("batch").get("batch:number").execute()
            if not batch:
                return
            with db.transaction():
                note = "INSERT INTO flushes VALUES (:name) ON CONFLICT DO NOTHING"
                if db.execute(note, name=name):
                    for page, views in batch.items():
                        db.execute(ADD, views=int(views), page=int(page))
            close = """
            return redis.call('GET', KEYS[2]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0
            """
            redis.eval(close, 2, "batch", "batch:number", name)

        found = check("03.2", flush_deltas)
        assert found.passed, str(found)

    def test_batches_in_a_stream(self):
        """Each is an entry, and its id is its name: the stream knows its last one though it is empty."""

        def flush_deltas(redis, db):
            script = """
            if redis.call('EXISTS', KEYS[1]) == 1 then
              redis.call('XADD', KEYS[2], '*', unpack(redis.call('HGETALL', KEYS[1])))
              redis.call('DEL', KEYS[1])
            end
            """
            redis.eval(script, 2, "deltas", "batches")
            for name, batch in redis.xrange("batches"):
                with db.transaction():
                    note = "INSERT INTO flushes VALUES (:name) ON CONFLICT DO NOTHING"
                    if db.execute(note, name=name):
                        for page, views in batch.items():
                            db.execute(ADD, views=int(views), page=int(page))
                redis.xdel("batches", name)

        found = check("03.2", flush_deltas)
        assert found.passed, str(found)

    def test_length_watched(self):
        """WATCH notices whoever came in between, and then the visitor looks again."""

        def view_page(redis, db, page, most):
            while True:
                with redis.pipeline(transaction=True) as pipe:
                    pipe.watch("views")
                    if pipe.xlen("views") >= most:
                        break
                    pipe.multi()
                    pipe.xadd("views", {"page": page})
                    try:
                        pipe.execute()
                    except WatchError:
                        continue
                    return
            db.execute(ADD, views=1, page=page)

        found = check("03.3", view_page)
        assert found.passed, str(found)

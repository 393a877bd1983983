"""The exercises of lab 09: what breaks each stub, and other good answers."""

from contextlib import suppress

from redis.exceptions import ResponseError, WatchError
from zoo import schedule

from labsupport.exercises import check
from labsupport.exercises.pubsub import EXERCISES


def test_what_breaks_each_stub():
    """Each stub breaks where its exercise is about."""
    first, second, third = (check(one.number, one.stub) for one in EXERCISES)
    assert schedule(first) == "GET XRANGE SET crash:RPUSH"
    assert "There are 2 e-mails" in str(second)
    assert "ada handled []" in str(third)


class TestOtherGoodAnswers:
    def test_cursor_of_xread(self):
        """XREAD from the cursor, one message at a time, is as good as XRANGE."""

        def catch_up(redis, name, handle):
            while found := redis.xread({"orders": redis.get(f"orders:{name}") or "0"}, count=1):
                ((_, ((entry_id, fields),)),) = found
                handle(fields["text"])
                redis.set(f"orders:{name}", entry_id)

        assert check("09.1", catch_up).passed, str(check("09.1", catch_up))

    def test_watch(self):
        """A claim and its entry in one MULTI that depends on the claim not being there."""

        def confirm(redis, order):
            with redis.pipeline() as pipe:
                while True:
                    pipe.watch("confirmed")
                    if pipe.sismember("confirmed", order):
                        return
                    pipe.multi()
                    pipe.sadd("confirmed", order)
                    pipe.xadd("emails", {"order": order})
                    with suppress(WatchError):
                        pipe.execute()
                        return

        assert check("09.2", confirm).passed, str(check("09.2", confirm))

    def test_acknowledged_after_all(self):
        """One XACK for all, after all are handled: more is repeated after a crash, none is lost."""

        def read_inbox(redis, name, handle):
            with suppress(ResponseError):
                redis.xgroup_create("orders", name, id="0", mkstream=True)
            for after in ("0", ">"):
                for _, entries in redis.xreadgroup(name, name, {"orders": after}):
                    for _, fields in entries:
                        handle(fields["text"])
                    if entries:
                        redis.xack("orders", name, *[entry_id for entry_id, _ in entries])

        assert check("09.3", read_inbox).passed, str(check("09.3", read_inbox))

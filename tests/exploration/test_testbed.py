"""The explorer on a server of one's own."""

import pytest

from labsupport import explore
from labsupport.exploration.testbed import close_testbed
from labsupport.servers import OWNER_KEY, connect_client, start_server

SCRIPT = """
local found = redis.call('SCAN', '0', 'COUNT', 100)
return {redis.call('KEYS', '*'), found[2], redis.call('DBSIZE')}
"""


@pytest.fixture
def own_server(monkeypatch):
    with start_server() as server:
        monkeypatch.setenv("REDIS_URL", server.url)
        close_testbed()
        yield server
        close_testbed()


def test_the_mark_is_shown_to_nobody(own_server):
    """What says who is on the server is no key of the code that is explored, nor of its invariant."""

    def look(redis, db):
        redis.set("a", 1, ex=60)
        pipe = redis.pipeline().dbsize().keys("*")
        seen = [redis.keys("*"), redis.scan(count=100)[1], redis.dbsize(), *pipe.execute()]
        return seen + redis.eval(SCRIPT, 0)

    seen = []

    def all_end(redis, db, told):
        """Every key ends by itself"""
        with connect_client(own_server.url) as server:
            seen.append(server.exists(OWNER_KEY))
        assert told["ada"] == [["a"], ["a"], 1, 1, ["a"], ["a"], ["a"], 1]
        return all(redis.ttl(key) > 0 for key in redis.keys("*"))

    assert explore({"ada": look}, invariant=all_end).violations == 0
    assert seen == [1]


def test_a_script_that_empties_the_database(own_server):
    """FLUSHDB in a script leaves the mark, as it does on the wire."""

    def flush(redis, db):
        redis.set("a", 1)
        redis.eval("return redis.call('FLUSHDB')", 0)

    def empty(redis, db):
        """Only the mark is left"""
        with connect_client(own_server.url) as server:
            return server.exists(OWNER_KEY) and redis.dbsize() == 0

    assert explore({"ada": flush}, invariant=empty).violations == 0

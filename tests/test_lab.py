"""Opening a lab."""

import re
from types import SimpleNamespace

import pytest
import redis as redis_py

from labsupport import Lab, LabError, explore
from labsupport.errors import LabClosedError, UnknownNameError
from labsupport.exploration import close_testbed
from labsupport.servers import open_redis, start_server


def test_a_lab_has_a_redis_and_the_shop(capsys):
    """Opening a lab says what it is connected to, and both answer."""
    with Lab("cache_aside") as lab:
        assert lab.redis.ping()
        assert lab.db.fetch_one("SELECT username FROM users WHERE id = 1") == {"username": "ada"}
        shown = capsys.readouterr().out
        assert "01 Cache-aside" in shown
        assert re.search(r"Redis|Valkey", shown)
        assert "SQLite" in shown


def test_says_once_in_a_cell_what_it_is(capsys, monkeypatch):
    """Also where it is the cell's last value; a later cell that ends with it says it again."""
    shell = SimpleNamespace(execution_count=1)
    monkeypatch.setattr("labsupport.lab.get_ipython", lambda: shell)
    with Lab("cache_aside") as lab:
        lab._ipython_display_()
        assert capsys.readouterr().out.count("01 Cache-aside") == 1
        shell.execution_count = 2
        lab._ipython_display_()
        assert capsys.readouterr().out.count("01 Cache-aside") == 1


def test_one_more_client():
    """A lab hands out more clients of the same Redis, with other options."""
    with Lab("cache_aside") as lab:
        lab.redis.set("n", 1)
        assert lab.client(decode_responses=False).get("n") == b"1"


def test_opening_again_starts_afresh():
    """A cell that is run twice leaves one lab open, with nothing of the first."""
    first = Lab("start_here")
    first.redis.set("left", 1)
    second = Lab("start_here")
    assert second.redis.exists("left") == 0
    with pytest.raises(Exception, match=r".+"):
        first.redis.ping()
    second.close()
    second.close()  # idempotent


def test_a_client_of_a_closed_lab_says_so():
    """In one line, in place of redis-py's long traceback; also on a server that goes on without it."""
    lab = Lab("start_here")
    other, pipeline = lab.client(), lab.redis.pipeline()
    lab.close()
    for use in (lab.redis.ping, other.ping, pipeline.get("n").execute):
        with pytest.raises(LabClosedError, match=r'Lab\("start_here"\)'):
            use()


def test_an_unknown_lab_lists_those_there_are():
    """A wrong name is answered with the right ones."""
    with pytest.raises(UnknownNameError, match="cache_aside"):
        Lab("cashe_aside")


def test_a_database_that_cannot_be_opened_leaves_no_server(monkeypatch):
    """The error is short, names no password, and the Redis that was started is stopped."""
    with pytest.raises(LabError) as caught:
        Lab("start_here", database_url="postgresql://me:secret@127.0.0.1:1/none")
    assert "secret" not in str(caught.value)
    assert Lab._open is None


def test_an_interrupt_while_it_opens_leaves_no_server(monkeypatch):
    """The Redis that was started before the database is stopped."""
    started = []

    def interrupted(url):
        raise KeyboardInterrupt

    def opened(url):
        started.append(open_redis(url))
        return started[0]

    monkeypatch.delenv("REDIS_URL", raising=False)  # that one is not ours to stop
    monkeypatch.setattr("labsupport.lab.open_shop", interrupted)
    monkeypatch.setattr("labsupport.lab.open_redis", opened)
    with pytest.raises(KeyboardInterrupt):
        Lab("start_here")
    with pytest.raises(redis_py.ConnectionError):
        started[0].client().ping()


def test_closing_leaves_a_shared_server_empty(monkeypatch):
    """What a lab and its explorations wrote on somebody's server is gone when the lab is closed."""
    with start_server(tcp=True) as server, server.client() as client:
        monkeypatch.setenv("REDIS_URL", server.url.removesuffix("/0"))
        close_testbed()  # one that an earlier test left is on another server
        lab = Lab("start_here")
        lab.redis.set("n", 1)
        explore({"ada": lambda redis, db: redis.incr("n")}, invariant=lambda redis, db: True)
        assert len(client.info("keyspace")) == 2
        lab.close()
        assert client.info("keyspace") == {}

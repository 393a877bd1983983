"""The experiment of lab 03: page views are acknowledged in Redis, which is killed with -9."""

import ast
import json
import re
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from IPython.core.inputtransformer2 import TransformerManager

from labsupport.database import open_shop
from labsupport.errors import ImplementationError, InvalidSettingError
from labsupport.labs.write_behind import WriteBehindCrash
from labsupport.servers import start_server
from labsupport.workers import warm_up

NOTEBOOK = Path(__file__).parents[3] / "notebooks" / "03_write_behind.ipynb"
KILLED, SURVIVES, COMPLETE, ONCE, FORWARD = range(5)


def functions():
    """The notebook's imports, functions and constants, without what its cells do with them."""
    found = {"__name__": "__main__", "metrics": Counter()}
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        if cell["cell_type"] == "code":
            tree = ast.parse(TransformerManager().transform_cell("".join(cell["source"])))
            tree.body = [node for node in tree.body if _defines(node)]
            exec(compile(tree, cell["id"], "exec"), found)
    return found


def _defines(node):
    if isinstance(node, ast.Assign):
        with suppress(ValueError):
            ast.literal_eval(node.value)
            return True
        return False
    return isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef)


LAB = functions()


@pytest.fixture(scope="module")
def naive():
    return WriteBehindCrash(persistence="no", seconds=0.6).run(LAB["by_the_hundred"], live=False)


@pytest.fixture(scope="module")
def streamed():
    return WriteBehindCrash(persistence="no", seconds=0.6).run(LAB["with_a_stream"], live=False)


def statuses(result):
    return [claim.status for claim in result.verdict.claims]


def stream_with(**changes):
    """The lab's pattern with other functions in some places."""
    return lambda: LAB["with_a_stream"]() | changes


class TestVerdicts:
    def test_by_the_hundred_loses_all_and_goes_back(self, naive):
        """Without an append-only file the kill takes every view, and the database's count with it."""
        assert statuses(naive) == ["holds", "broken", "broken", "holds", "broken"]
        assert naive.numbers["recovered"] == 0
        assert naive.numbers["lost_by_the_kill"] == naive.numbers["acknowledged_before_the_kill"]
        assert naive.numbers["persisted"] % 100 == 0
        assert naive.numbers["went_back_by"] >= 100

    def test_a_stream_loses_its_backlog_and_no_more(self, streamed):
        """What was persisted stays; what was not is gone with Redis."""
        assert statuses(streamed) == ["holds", "broken", "broken", "holds", "holds"]
        # a visitor that is stopped just then says later that it was answered before
        lost, taken = streamed.numbers["lost"], streamed.numbers["lost_by_the_kill"]
        assert 50 - 3 <= taken <= lost <= taken + 3
        assert streamed.numbers["lost"] < streamed.numbers["acknowledged_before_the_kill"] / 2

    def test_always_loses_nothing(self):
        """What was acknowledged is on disk, and reaches the database, once."""
        found = WriteBehindCrash(persistence="always", seconds=0.6).run(
            LAB["with_a_stream"], live=False
        )
        assert statuses(found) == ["holds"] * 5
        assert found.numbers["lost"] == found.numbers["lost_by_the_kill"] == 0

    def test_always_does_not_help_the_tail(self):
        """What only a round number writes is lost on a clean stop as well."""
        found = WriteBehindCrash(persistence="always", seconds=0.6).run(
            LAB["by_the_hundred"], live=False
        )
        assert statuses(found)[:4] == ["holds", "holds", "broken", "holds"]
        assert 50 - found.numbers["unanswered"] <= found.numbers["lost"] <= 50

    def test_everysec_is_no_reason_to_fail(self):
        """A kill takes nothing, most of the time; nothing is claimed of that, and it always ends."""
        found = WriteBehindCrash(persistence="everysec", seconds=0.4).run(
            LAB["with_a_stream"], live=False
        )
        assert statuses(found)[KILLED] == "holds"
        assert statuses(found)[ONCE] == "holds"

    @pytest.mark.long
    def test_counted_twice(self):
        """A flusher that forgets its place adds everything again."""

        def flush(redis, db):
            db.execute(LAB["ADD"], views=redis.xlen("views"), page=1)
            return 0

        found = WriteBehindCrash(persistence="no", seconds=0.4).run(
            stream_with(flush=flush), live=False
        )
        assert statuses(found)[ONCE] == "broken"

    def test_comparison(self, naive, streamed):
        """The comparison holds one way round only."""
        crash = WriteBehindCrash()
        good, bad = (
            crash.compare(naive, streamed, live=False),
            crash.compare(streamed, naive, live=False),
        )
        assert [claim.status for one in (good, bad) for claim in one.verdict.claims] == [
            "holds",
            "broken",
        ]

    @pytest.mark.parametrize("before", [0, 399])
    def test_too_few_views(self, streamed, before):
        """A kill with hardly anything to take says nothing."""
        numbers = streamed.numbers | {
            "acknowledged_before_the_kill": before,
            "lost_by_the_kill": 0.0,
            "lost": 0.0,
        }
        verdicts = WriteBehindCrash().judge(numbers)
        assert {claim.status for claim in verdicts} == {"not exercised"}

    def test_never_told_again(self, streamed):
        """If nobody could be told a count after the restart, the recovery was not put to the test."""
        gone = {"recovered": float("nan"), "recovery_seen": 0, "lost_by_the_kill": 0.0}
        numbers = streamed.numbers | gone
        assert WriteBehindCrash().judge(numbers)[SURVIVES].status == "not exercised"

    def test_the_same_text_every_time(self, naive):
        """A verdict holds no number, so that it reads the same after each run."""
        again = WriteBehindCrash(persistence="no", seconds=0.4).run(
            LAB["by_the_hundred"], live=False
        )
        assert str(again) == str(naive)
        assert not any(sign.isdigit() for sign in str(naive))


class TestResult:
    def test_history(self, naive):
        """The history has each view, each look of the watcher, and the outage."""
        frame = naive.history  # and "unanswered", if one was on its way when the server was killed
        assert {"view", "shown", "persisted", "outage"} <= set(frame["event"])
        assert (frame["event"] == "view").sum() == naive.numbers["acknowledged"]
        assert naive.numbers["acknowledged"] % 100 == 50

    def test_figure(self, naive, streamed):
        """The title states the finding, the kill is marked, and each line has its name."""
        assert naive.figure.texts[0].get_text().endswith("views, and the count falls")
        assert re.fullmatch(
            r"No AOF: the kill takes [\d,]+ of [\d,]+ views", streamed.figure.texts[0].get_text()
        )
        words = [text.get_text() for text in naive.figure.axes[0].texts]
        assert "kill -9" in words
        assert {word.split()[0] for word in words} == {"kill", "acknowledged", "shown", "persisted"}

    def test_what_is_worst_is_named(self, streamed):
        """The title names the worst that happened."""
        crash, numbers = WriteBehindCrash(persistence="always"), streamed.numbers
        fine = numbers | {"lost_by_the_kill": 0.0, "lost": 0.0, "all_lost_by_the_kill": 0}
        assert crash.find(fine).startswith("AOF always: all")
        assert "never came back" in crash.find(fine | {"stuck": 1})
        assert "never persisted" in crash.find(fine | {"lost": 50.0})
        assert "counted twice" in crash.find(fine | {"counted_twice": 9.0})


class TestBadInput:
    @pytest.mark.parametrize(
        "knobs",
        [{"persistence": "sometimes"}, {"persistence": None}, {"processes": 0}, {"seconds": 0}],
        ids=str,
    )
    def test_absurd_knobs(self, knobs):
        """A knob out of its range is refused before anything starts."""
        with pytest.raises(InvalidSettingError, match=next(iter(knobs))):
            WriteBehindCrash(**knobs)

    @pytest.mark.parametrize(
        "pattern",
        [
            lambda: None,
            lambda: {"view": print},
            lambda: {"view": print, "tell": print, "flsh": print},
        ],
    )
    def test_no_pattern(self, pattern):
        """The message says which functions there must be."""
        with pytest.raises(InvalidSettingError, match="functions of a pattern by name"):
            WriteBehindCrash().run(pattern, live=False, name="pattern")

    @pytest.mark.long
    def test_raises(self):
        """A function that raises is named with its own line."""

        def view(redis, db, page):
            return 1 / 0

        with pytest.raises(ImplementationError, match="ZeroDivisionError"):
            WriteBehindCrash().run(stream_with(view=view), live=False)

    def test_raises_at_once(self):
        """So is one that does not even return its functions."""
        with pytest.raises(ImplementationError, match="ZeroDivisionError"):
            WriteBehindCrash().run(lambda: 1 / 0, live=False, name="pattern")


@pytest.mark.long
def test_an_error_amid_the_outage_leaves_nothing(tmp_path, monkeypatch):
    """The visitors are stopped while the count is asked for: they and the log on disk go, too."""
    warm_up()  # the fork server has a directory of its own, as long as this process lives
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def tell(redis, db, page):
        count = LAB["tell_counter"](redis, db, page)
        return 1 / 0 if count == 0 and LAB["persisted"](db, 2) == -1 else count

    def view(redis, db, page):
        if redis.incr(f"views:{page}") == 300:
            LAB["save_count"](db, 2, -1)

    crash = WriteBehindCrash(persistence="no", seconds=0.4)
    with pytest.raises(ImplementationError, match="ZeroDivisionError"):
        crash.run(lambda: {"view": view, "tell": tell}, live=False, name="pattern")
    assert list(tmp_path.iterdir()) == []
    left = psutil.Process().children(recursive=True)
    assert [one for one in left if one.status() == psutil.STATUS_STOPPED] == []


class TestBothDatabases:
    def test_the_kill(self, backend):
        """The experiment says the same on SQLite and on PostgreSQL."""
        found = WriteBehindCrash(persistence="no", seconds=0.4, processes=2).run(
            LAB["with_a_stream"], live=False
        )
        assert statuses(found) == ["holds", "broken", "broken", "holds", "holds"]

    def test_views_reach_the_database_once(self, backend):
        """Start, view, tell, flush, twice over and by two sessions at once."""
        names = ("reconcile", "add_view", "flush_stream", "tell_stream", "persisted", "save_count")
        start, view, flush, tell, persisted, save = (LAB[name] for name in names)
        with open_shop() as db, start_server() as server, server.client() as redis:
            for page in (1, 2):
                save(db, page, 0)
            start(redis, db)
            start(redis, db)
            for page in (1, 2, 2):
                view(redis, db, page)
            assert [tell(redis, db, page) for page in (1, 2)] == [1, 2]
            assert persisted(db, 2) == 0
            flushers = [
                threading.Thread(target=flush, args=(server.client(), session))
                for session in (db.session(), db.session())
            ]
            for thread in flushers:
                thread.start()
            for thread in flushers:
                thread.join()
            assert [persisted(db, page) for page in (1, 2)] == [1, 2]
            assert [tell(redis, db, page) for page in (1, 2)] == [1, 2]
            assert flush(redis, db) == 0

    def test_the_tail_and_the_order(self, backend):
        """What the notebook says of the hundred holds on both."""
        log_view, persisted, save = LAB["log_view"], LAB["persisted"], LAB["save_count"]
        under_way = []
        with open_shop() as db, start_server() as server, server.client() as redis:
            save(db, 1, 0)
            for _ in range(257):
                log_view(redis, db, 1, later=lambda *call: under_way.append(call))
            for function, *call in reversed(under_way):
                function(*call)
            assert persisted(db, 1) == 100
            LAB["save_larger"](db, 1, 50)
            assert persisted(db, 1) == 100

    def test_in_the_background(self, backend):
        """Fire and forget has a session of its own, and arrives."""
        with open_shop() as db:
            LAB["in_background"](LAB["save_count"], db, 1, 700)
            end = time.monotonic() + 30
            while LAB["persisted"](db, 1) != 700:
                assert time.monotonic() < end
                time.sleep(0.01)


class TestTwoFlushers:
    @pytest.mark.long
    def test_crash_at_every_step(self):
        """More than the notebook has time for: two flushers, and either may crash."""
        crashes, step = ["flusher 1", "flusher 2"], LAB["crash_at_every_step"]
        report = step(
            LAB["add_view"],
            LAB["flush_stream"],
            LAB["reconcile"],
            flushers=2,
            crashes=crashes,
            prune=True,
        )
        assert report.verdict.status == "holds"
        assert report.interleavings > 300

    @pytest.mark.parametrize("flush", ["take_then_add", "add_then_take"])
    def test_no_order_of_two_steps_is_safe(self, flush):
        """What the notebook shows of a visitor and a flusher holds for a flusher alone."""
        report = LAB["crash_at_every_step"](LAB["count_in_hash"], LAB[flush], crashes=["flusher 1"])
        assert report.violations > 0

"""The fixtures for pytest, in test sessions of their own."""

import tomllib
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

PLUGIN = ("-p", "labsupport.fixtures", "-p", "no:cacheprovider")
RACE = """
from labsupport import explore

def count(redis, db):
    redis.set("a-key-with-quite-a-long-name-so-that-a-line-is-long", 1)
    redis.set("n", int(redis.get("n") or 0) + 1)

async def acount(redis, db):
    await redis.incr("n")

def two(redis, db):
    return redis.get("n") == "2"
"""


def test_the_entry_point_names_them():
    """pytest finds them in an installed package."""
    project = Path(__file__).resolve().parents[1] / "pyproject.toml"
    entry_points = tomllib.loads(project.read_text())["project"]["entry-points"]
    assert entry_points["pytest11"] == {"labsupport.fixtures": "labsupport.fixtures"}


def test_a_race_fails_with_its_whole_schedule(pytester, monkeypatch):
    """`explorer(…)` and `explore(…).check()` fail at the test's own line; nothing of the report is cut."""
    pytester.makepyfile(
        RACE
        + """
def test_by_fixture(explorer):
    explorer({"ada": count, "bob": count}, invariant=two)

def test_by_check():
    explore({"ada": count, "bob": count}, invariant=two).check()

def test_repaired(explorer):
    assert explorer({"ada": acount, "bob": acount}, invariant=two).interleavings == 2
"""
    )
    monkeypatch.setenv("COLUMNS", "200")  # or the summary's lines are cut, but for in CI
    result = pytester.runpytest_inprocess(*PLUGIN)
    result.assert_outcomes(passed=1, failed=2)
    said = result.stdout.str()
    for line in ("GET n → nil", "SET n 1 → OK", "interleavings, ", "✗ broken"):
        assert said.count(line) >= 2
    assert said.count("SET a-key-with-quite-a-long-name-so-that") >= 4
    assert "raise AssertionError" not in said
    assert "test_by_fixture" in said
    summary = [line for line in result.outlines if line.startswith("FAILED ")]
    assert len(summary) == 2
    assert all("AssertionError: 20 interleavings, " in line for line in summary)


def test_no_report_passes_by_accident(pytester):
    """A report is neither true nor false, and a search that was given up fails."""
    pytester.makepyfile(
        RACE
        + """
def test_true():
    assert explore({"ada": count, "bob": count}, invariant=two)

def test_false():
    assert not explore({"ada": count, "bob": count}, invariant=two)

def test_given_up(explorer):
    explorer(dict.fromkeys("abc", acount), invariant=lambda redis, db: True, max_runs=2)
"""
    )
    result = pytester.runpytest_inprocess(*PLUGIN)
    result.assert_outcomes(failed=3)
    said = result.stdout.str()
    assert said.count("A report is neither true nor false.") >= 2
    assert "Not exhausted: more than 2 orders" in said
    assert "AssertionError: Not every order was run: 2 interleavings" in said
    assert "report.py" not in said


@pytest.mark.long
def test_a_refusal_shows_the_tests_own_lines(pytester):
    """Of what the explorer refuses, pytest shows the lines that led there, and none of the lab's."""
    pytester.makepyfile(
        RACE
        + """
import sqlite3

def alien(redis, db):
    sqlite3.connect("mine.db")

def test_refused():
    explore({"ada": alien}, invariant=two)

def test_called_wrongly(explorer):
    explorer({"ada": count})
"""
    )
    result = pytester.runpytest_subprocess(*PLUGIN)
    result.assert_outcomes(failed=2)
    said = result.stdout.str()
    assert "opens an SQLite connection of its own" in said
    assert "missing a required argument: 'invariant'" in said
    assert '>       sqlite3.connect("mine.db")' in said
    assert "entry.py" not in said
    assert "exploration" not in said


@pytest.mark.long
def test_a_server_of_ones_own_under_xdist(pytester):
    """Each worker process has its own Redis, and its own explorer."""
    pytester.makepyfile(
        RACE
        + """
import pytest

@pytest.mark.parametrize("number", range(4))
def test_own(redis_server, explorer, number):
    with redis_server.client() as client:
        assert client.incr(f"seen:{number}") == 1
        assert client.ping()
    assert explorer({"ada": acount, "bob": acount}, invariant=two).interleavings == 2
"""
    )
    result = pytester.runpytest_subprocess(*PLUGIN, "-n", "2")
    result.assert_outcomes(passed=4)


def test_they_cost_nothing_until_asked_for(pytester):
    """Neither redis-py nor the explorer is imported for a test that does not use them."""
    pytester.makepyfile(
        """
import sys

def test_light():
    assert not {"redis", "sqlalchemy", "labsupport.explorer"} & {*sys.modules}
"""
    )
    pytester.runpytest_subprocess(*PLUGIN).assert_outcomes(passed=1)

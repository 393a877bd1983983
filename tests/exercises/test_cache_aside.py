"""The exercises of lab 01: stubs fail, solutions pass, each wrong answer is refused for its reason."""

import json
import secrets
import time
from contextlib import suppress
from pathlib import Path

import pytest
from cache_aside_zoo import ZOO
from redis.exceptions import LockError

from labsupport.exercises import check, hint, solution, source
from labsupport.exercises.cache_aside import EXERCISES

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "01_cache_aside.ipynb"
NUMBERS = [one.number for one in EXERCISES]
each_exercise = pytest.mark.parametrize("one", EXERCISES, ids=NUMBERS)


@pytest.fixture(autouse=True)
def _progress_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_PROGRESS", str(tmp_path / "progress.json"))


def as_in_a_cell(number, text):
    """The function that a cell with this source defines, after the notebook's imports."""
    names = {"__name__": "__main__", "json": json, "secrets": secrets, "time": time}
    exec(text, names)
    one = EXERCISES[NUMBERS.index(number)]
    return names[one.stub.__name__.removesuffix("_stub")]


def schedule(outcome):
    """The counterexample in a line: "GET crash:SET" and so on; MULTI/EXEC for a transaction."""
    words = []
    for step in outcome.evidence.counterexample:
        name = "MULTI/EXEC" if step.label.startswith("MULTI ") else step.label.split()[0]
        words.append(name if step.move == "step" else f"{step.move}:{name}")
    return " ".join(words)


class TestStubsAndSolutions:
    def test_three_exercises(self):
        """The lab has the exercises 01.1, 01.2 and 01.3."""
        assert NUMBERS == ["01.1", "01.2", "01.3"]

    @each_exercise
    def test_stub_fails(self, one):
        """A stub does not pass, and the reason comes with a counterexample."""
        found = check(one.number, one.stub)
        assert not found.passed
        assert found.evidence.violations > 0
        assert found.evidence.schedule in str(found)

    def test_what_breaks_each_stub(self):
        """Each stub breaks where its exercise is about: a crash, a second load, an old row."""
        first, second, third = (check(one.number, one.stub) for one in EXERCISES)
        assert schedule(first) == "GET SELECT SET crash:EXPIRE"
        assert "There were 2 loads" in str(second)
        assert schedule(third) == "GET SELECT UPDATE DEL SET"
        assert "1 of 10 orders" in third.reason

    @each_exercise
    def test_solution_passes(self, one):
        """The solution as it is shown, pasted into a cell, passes."""
        text = solution(one.number).data.split("```python\n")[1].removesuffix("```")
        found = check(one.number, as_in_a_cell(one.number, text))
        assert found.passed, str(found)

    @each_exercise
    def test_the_same_answer_every_time(self, one):
        """What a check says of a stub is the same from run to run, for CI compares it."""
        assert len({str(check(one.number, one.stub)) for _ in range(3)}) == 1


class TestOtherGoodAnswers:
    def test_lock_of_redis_py(self):
        """redis-py's own lock makes one load of many, if its late release is no error."""

        def fetch_once(redis, key, load, ttl):
            cached = redis.get(key)
            if cached is None:
                lock = redis.lock(f"{key}:lock", timeout=10, sleep=0.005)
                lock.acquire()
                try:
                    cached = redis.get(key)
                    if cached is None:
                        cached = json.dumps(load())
                        redis.set(key, cached, px=int(ttl * 1000))
                finally:
                    with suppress(LockError):
                        lock.release()
            return json.loads(cached)

        found = check("01.2", fetch_once)
        assert found.passed, str(found)

    def test_version_that_stays(self):
        """A version that never expires, compared in a script, keeps the old row out as well."""
        fill = """
        if (redis.call('GET', KEYS[2]) or '') ~= ARGV[2] then return 0 end
        return redis.call('SET', KEYS[1], ARGV[1], 'EX', 3600) and 1
        """

        def user_cache():
            def get_user(redis, db, user_id):
                key = f"user:{user_id}"
                cached, version = redis.mget(key, f"{key}:version")
                if cached is not None:
                    return json.loads(cached)
                row = db.fetch_one("SELECT * FROM users WHERE id = :id", id=user_id)
                redis.eval(fill, 2, key, f"{key}:version", json.dumps(row), version or "")
                return row

            def update_user(redis, db, user_id, name):
                update = "UPDATE users SET username = :name WHERE id = :id"
                db.execute(update, id=user_id, name=name)
                with redis.pipeline(transaction=True) as pipe:
                    pipe.incr(f"user:{user_id}:version")
                    pipe.delete(f"user:{user_id}")
                    pipe.execute()

            return get_user, update_user

        found = check("01.3", user_cache)
        assert found.passed, str(found)

    def test_a_script_for_what_is_not_there(self):
        """HSET and EXPIRE in one transaction are as good as a SET with a TTL."""

        def get_product(redis, db, product_id):
            key = f"product:{product_id}"
            cached = redis.hget(key, "row")
            if cached is not None:
                return json.loads(cached)
            row = db.fetch_one("SELECT * FROM products WHERE id = :id", id=product_id)
            with redis.pipeline(transaction=True) as pipe:
                pipe.hset(key, "row", json.dumps(row))
                pipe.expire(key, 3600 if row else 30)
                pipe.execute()
            return row

        found = check("01.1", get_product)
        assert found.passed, str(found)


class TestZoo:
    @pytest.mark.parametrize(
        ("number", "answer", "situation", "because", "wanted"),
        ZOO,
        ids=[f"{number}-{answer.__name__}" for number, answer, *_ in ZOO],
    )
    def test_refused_for_its_own_reason(self, number, answer, situation, because, wanted):
        """A known wrong answer is refused, in the situation that it fails in, for what it does."""
        found = check(number, answer)
        assert not found.passed
        if situation:
            assert found.reason.startswith(f"{situation}: "), str(found)
        assert because in str(found)
        if wanted is not None:
            assert schedule(found) == wanted

    @each_exercise
    def test_enough(self, one):
        """Each exercise has five wrong answers or more, and three that pass in sequence."""
        mine = [situation for number, _, situation, *_ in ZOO if number == one.number]
        alone = ("Three", "One", "A load that fails")
        assert len(mine) >= 5
        assert sum(bool(one) and not one.startswith(alone) for one in mine) >= 3


class TestHintsAndSources:
    @each_exercise
    def test_hints_one_at_a_time(self, one):
        """There are three hints, and each call shows one more."""
        assert len(one.hints) == 3
        shown = [hint(one.number).data for _ in range(4)]
        assert [sum(text in page for text in one.hints) for page in shown] == [1, 2, 3, 3]

    @each_exercise
    def test_notebook_has_the_stub(self, one):
        """The stub cell in the notebook is the module's stub, and the next cell checks it."""
        cells = [c for c in json.loads(NOTEBOOK.read_text())["cells"] if c["cell_type"] == "code"]
        sources = ["".join(cell["source"]) for cell in cells]
        at = sources.index(source(one.stub).strip())
        name = one.stub.__name__.removesuffix("_stub")
        assert f'check("{one.number}", {name})' in sources[at + 1]
        assert f'# hint("{one.number}")' in sources[at + 1]
        assert "not yet" in json.dumps(cells[at + 1]["outputs"])

"""The exercises of lab 00: stubs fail, solutions pass, each wrong answer is refused for its reason."""

import json
from pathlib import Path

import pytest
from start_here_zoo import ZOO

from labsupport.errors import InvalidSettingError, UnknownNameError
from labsupport.exercises import check, hint, solution, source
from labsupport.exercises.start_here import EXERCISES
from labsupport.explore import guard

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "00_start_here.ipynb"
NUMBERS = [one.number for one in EXERCISES]
each_exercise = pytest.mark.parametrize("one", EXERCISES, ids=NUMBERS)


@pytest.fixture(autouse=True)
def _progress_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_PROGRESS", str(tmp_path / "progress.json"))


def schedule(outcome):
    """The counterexample in a line: "GET crash:SET" and so on; MULTI/EXEC for a transaction."""
    words = []
    for step in outcome.evidence.counterexample:
        name = "MULTI/EXEC" if step.label.startswith("MULTI ") else step.label.split()[0]
        name = {"INCRBY": "INCR"}.get(name, name) if step.label.endswith(" 1") else name
        words.append(name if step.move == "step" else f"{step.move}:{name}")
    return " ".join(words)


class TestStubsAndSolutions:
    def test_three_exercises(self):
        """The lab has the exercises 00.1, 00.2 and 00.3."""
        assert NUMBERS == ["00.1", "00.2", "00.3"]

    @each_exercise
    def test_stub_fails(self, one):
        """A stub does not pass, and the reason comes with a counterexample."""
        found = check(one.number, one.stub)
        assert not found.passed
        assert found.evidence.violations > 0
        assert found.evidence.schedule in str(found)

    def test_what_breaks_each_stub(self):
        """Each stub breaks where its exercise is about: an update, a sum, an item."""
        first, second, third = (check(one.number, one.stub) for one in EXERCISES)
        assert schedule(first) == "GET GET SET SET"
        assert schedule(second) == "DECRBY crash:INCRBY"
        assert schedule(third).startswith("GET GET DECR")

    @each_exercise
    def test_solution_passes(self, one):
        """A solution passes, and the last report that it passed had every order."""
        found = check(one.number, one.solution)
        assert found.passed, str(found)
        assert found.evidence.exhausted
        assert found.evidence.violations == 0

    @each_exercise
    def test_the_same_answer_every_time(self, one):
        """What a check says is the same from run to run, for CI compares it."""
        assert len({str(check(one.number, one.stub)) for _ in range(3)}) == 1


class TestOtherGoodAnswers:
    def test_watch_and_retry_sells_once(self):
        """An answer in the optimistic style is as good as a script."""

        def buy(redis, product, customer):
            def sell(pipe):
                sold = int(pipe.get(f"stock:{product}") or 0) > 0
                pipe.multi()
                if sold:
                    pipe.decr(f"stock:{product}")
                    pipe.rpush(f"buyers:{product}", customer)
                return sold

            return redis.transaction(sell, f"stock:{product}", value_from_callable=True)

        found = check("00.3", buy)
        assert found.passed, str(found)

    def test_watch_and_retry_counts(self):
        """Counting with WATCH and another try is slow, and right."""

        def count_visit(redis, page):
            def add(pipe):
                number = int(pipe.get(f"visits:{page}") or 0) + 1
                pipe.multi()
                pipe.set(f"visits:{page}", number)
                return number

            return redis.transaction(add, f"visits:{page}", value_from_callable=True)

        found = check("00.1", count_visit)
        assert found.passed, str(found)

    def test_script_moves(self):
        """A script moves money as well as MULTI does."""

        def move_credit(redis, giver, receiver, cents):
            script = """
            redis.call('DECRBY', KEYS[1], ARGV[1])
            redis.call('INCRBY', KEYS[2], ARGV[1])
            """
            redis.register_script(script)([f"credit:{giver}", f"credit:{receiver}"], [cents])

        found = check("00.2", move_credit)
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
        if "raised" not in because:
            assert found.reason.startswith(f"{situation}: "), str(found)
        assert because in str(found)
        if wanted is not None:
            assert schedule(found) == wanted

    @each_exercise
    def test_enough(self, one):
        """Each exercise has five wrong answers or more, and three that pass with one client."""
        mine = [situation for number, _, situation, *_ in ZOO if number == one.number]
        assert len(mine) >= 5
        assert sum(situation.startswith("Two") for situation in mine) >= 3


class TestHintsAndSources:
    @each_exercise
    def test_hints_one_at_a_time(self, one):
        """There are three hints, and each call shows one more."""
        assert len(one.hints) == 3
        shown = [hint(one.number).data for _ in range(4)]
        assert [sum(text in page for text in one.hints) for page in shown] == [1, 2, 3, 3]

    @each_exercise
    def test_solution_can_be_pasted(self, one):
        """The solution as shown defines the function by the stub's name, and passes."""
        text = solution(one.number).data.split("```python\n")[1].removesuffix("```")
        names = {}
        exec(text, names)
        name = one.stub.__name__.removesuffix("_stub")
        assert check(one.number, names[name]).passed

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


class TestBadAnswers:
    @pytest.mark.parametrize("answer", [None, 42, "count_visit"], ids=repr)
    def test_no_function(self, answer):
        """What is not a function is refused in two lines that show the form."""
        with pytest.raises(InvalidSettingError) as caught:
            check("00.1", answer)
        assert "not a function" in caught.value.problem
        assert "count_visit(redis, page)" in caught.value.remedy

    @pytest.mark.parametrize(
        "answer",
        [lambda: 1, lambda redis: 1, lambda redis, page, more: 1, lambda page, *, redis: 1],
        ids=["none", "one", "three", "keyword"],
    )
    def test_wrong_parameters(self, answer):
        """A function that cannot be called like the stub is refused before it is run."""
        with pytest.raises(InvalidSettingError, match="does not take redis, page"):
            check("00.1", answer)

    def test_no_such_exercise(self):
        """An unknown number is answered with those that there are."""
        with pytest.raises(UnknownNameError, match=r"00\.1, 00\.2, 00\.3"):
            check("00.9", lambda redis: None)

    def test_raises(self):
        """A function that raises is told so in one line, with its own line."""

        def count_visit(redis, page):
            return redis.incr(page) / 0

        found = check("00.1", count_visit)
        assert not found.passed
        assert "raised ZeroDivisionError" in found.reason
        assert "redis.incr(page) / 0" in found.reason
        assert "\n" not in found.reason

    def test_never_returns(self, monkeypatch):
        """A loop without a command is ended, and said to be one."""
        monkeypatch.setattr(guard, "PATIENCE_SECONDS", 0.3)

        def count_visit(redis, page):
            while True:
                pass

        found = check("00.1", count_visit)
        assert not found.passed
        assert "loop that never ends" in found.reason

    def test_spins_for_ever(self):
        """A loop with a command is ended, too, and the command named."""

        def count_visit(redis, page):
            while redis.get("open") is None:
                pass

        found = check("00.1", count_visit)
        assert not found.passed
        assert "'ada' repeats GET open for ever" in found.reason

    def test_answers_after_a_bad_one(self):
        """A check that was ended leaves the next one alone."""
        check("00.1", lambda redis, page: redis.nosuch())
        assert check("00.1", EXERCISES[0].solution).passed

    @pytest.mark.parametrize("reply", [None, 42.0, "42", True], ids=repr)
    def test_wrong_reply(self, reply):
        """A reply that is no whole number is named."""

        def count_visit(redis, page):
            redis.incr(f"visits:{page}")
            return reply

        assert f"was given {reply!r}" in str(check("00.1", count_visit))

    def test_other_client(self):
        """A client of the learner's own cannot be stepped, and the reason says so."""

        def count_visit(redis, page):
            import redis as module

            return module.Redis(unix_socket_path="/nowhere").incr(page)

        found = check("00.1", count_visit)
        assert not found.passed
        assert "did not hand out" in found.reason

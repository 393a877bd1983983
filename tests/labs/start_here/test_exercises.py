"""The exercises of lab 00: what breaks each stub, other good answers, and bad ones."""

import pytest

from labsupport import check
from labsupport.errors import InvalidSettingError, LabError, UnknownNameError
from labsupport.exploration import close_testbed
from labsupport.explorer.guards import patience
from labsupport.labs.start_here.exercises import EXERCISES
from tests.exercises.zoo import schedule


@pytest.mark.long  # the notebooks show it, and are checked in any case
def test_what_breaks_each_stub():
    """Each stub breaks where its exercise is about: an update, a sum, an item."""
    first, second, third = (check(one.number, one.stub) for one in EXERCISES)
    assert schedule(first) == "GET GET SET SET"
    assert schedule(second) == "DECRBY crash:INCRBY"
    assert "ada was given True and bob was given True. No order" in third.reason


@pytest.mark.long
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

    @pytest.mark.parametrize(
        "answer",
        [
            lambda redis, page: redis.eval(
                "return redis.call('INCR', KEYS[1])", 1, f"visits:{page}"
            ),
            lambda redis, page: int(redis.incrbyfloat(f"visits:{page}", 1)),
        ],
        ids=["script", "float"],
    )
    def test_number_that_a_float_holds(self, answer):
        """What Lua, or a float, hands over is a right number for more visits than there can be."""
        found = check("00.1", answer)
        assert found.passed, str(found)

    def test_a_count_that_is_there_before(self):
        """Whoever puts a 0 first, and then crashes, has changed no count."""

        def count_visit(redis, page):
            redis.set(f"visits:{page}", 0, nx=True)
            return redis.incr(f"visits:{page}")

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

    def test_script_reads_and_writes(self):
        """A script may work out the sums itself, in Lua's numbers."""

        def move_credit(redis, giver, receiver, cents):
            script = """
            for place, change in ipairs({-ARGV[1], ARGV[1]}) do
              local credit = tonumber(redis.call('GET', KEYS[place]) or 0)
              redis.call('SET', KEYS[place], credit + change)
            end
            """
            redis.eval(script, 2, f"credit:{giver}", f"credit:{receiver}", cents)

        found = check("00.2", move_credit)
        assert found.passed, str(found)


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

    @pytest.mark.parametrize(
        ("url", "problem"),
        [("redis://127.0.0.1:1", "No Redis answers"), ("nonsense", "REDIS_URL is not the address")],
    )
    def test_a_wrong_address_says_nothing_of_the_answer(self, monkeypatch, url, problem):
        """A server that cannot be reached is an error with its remedy, not a refusal."""
        close_testbed()
        monkeypatch.setenv("REDIS_URL", url)
        with pytest.raises(LabError, match=problem) as caught:
            check("00.1", EXERCISES[0].solution)
        assert "REDIS_URL" in str(caught.value)

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
        assert "ZeroDivisionError: division by zero" in found.reason
        assert "redis.incr(page) / 0" in found.reason
        assert "\n" not in found.reason

    def test_never_returns(self, monkeypatch):
        """A loop without a command is ended, and said to be one."""
        monkeypatch.setattr(patience, "PATIENCE_SECONDS", 0.3)

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
        assert "ada repeats GET open for ever" in found.reason

    @pytest.mark.long
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
        """A client of the learner's own is looked at by what it leaves, and steps like the other."""

        def count_visit(redis, page):
            import redis as module

            return module.Redis(unix_socket_path="/nowhere").incr(page)

        found = check("00.1", count_visit)
        assert not found.passed
        assert "visits:home is not there" in found.reason

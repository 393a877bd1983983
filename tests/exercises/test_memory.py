"""An answer that keeps something in the memory of its process: only then is it told so."""

from functools import lru_cache

import pytest

from labsupport import check
from labsupport.exercises.trials import elsewhere

SAYS = "what the process remembers"
COUNT = """
if redis.call('SET', KEYS[2], 1, 'NX', 'EX', ARGV[1]) then return redis.call('INCR', KEYS[1]) end
return tonumber(redis.call('GET', KEYS[1]))
"""
COUNTED = {}


def counts_in_a_dict(redis, page, visit):
    if (page, visit) not in COUNTED:
        COUNTED[page, visit] = redis.incr(f"visits:{page}")
    return COUNTED[page, visit]


@lru_cache
def counts_in_a_cache(redis, page, visit):
    return redis.eval(COUNT, 2, f"visits:{page}", f"visit:{page}:{visit}", 86_400)


def counts_two(redis, page, visit):
    """It remembers, too; but a new process counts two as well."""
    COUNTED[visit] = redis.incrby(f"visits:{page}", 2)
    return COUNTED[visit]


def counts_each_call(redis, page, visit):
    return redis.incr(f"visits:{page}")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (counts_in_a_dict, True),
        (counts_in_a_cache, True),
        (counts_two, False),
        (counts_each_call, False),
    ],
)
def test_is_told_of_its_memory(answer, told):
    """The same calls break nothing in a new process: that, and nothing else, is called memory."""
    found = check("13.1", answer)
    assert not found.passed
    assert (SAYS in found.reason) is told, found.reason
    assert found.reason.count("The contract: ") == 1


def test_what_does_not_come_back_is_itself():
    """An answer may hold what can be sent, and cannot be made anew."""

    class Torn:
        def __reduce__(self):
            return int, ("no number",)

    torn = Torn()

    def answer(redis):
        return torn

    assert elsewhere(answer) is answer

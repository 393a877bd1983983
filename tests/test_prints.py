"""What functions under study print: capped on the page, whole afterwards."""

import sys

import pytest

from labsupport import check, explore, printed
from labsupport.errors import ImplementationError
from labsupport.labs.start_here import LostUpdates
from labsupport.prints import capped

LINES = 600  # of each of the first two visits: as many each time, however quick the machine is


def count(redis, key):
    number = redis.incr(key)
    for _ in range(LINES if number <= 2 else 0):
        print("n is", key)
    return number


def test_workers(capfd):
    """A run shows some lines of what its workers print, and says where the others are."""
    LostUpdates(seconds=0.2).run(count, live=False)
    lines = capfd.readouterr().out.splitlines()
    assert lines[:-1] == ["n is visits"] * 20
    assert lines[-1].startswith("… 1,180 more lines printed.")
    assert "print(printed())" in lines[-1]
    assert printed() == "n is visits\n" * 2 * LINES


def test_a_run_that_fails(capfd):
    """What was printed before an error helps to find it."""

    def fails(redis, key):
        print("came here")
        raise ValueError

    with pytest.raises(ImplementationError):
        LostUpdates(seconds=0.2).run(fails, live=False)
    assert "came here" in capfd.readouterr().out


@pytest.mark.long
def test_check_and_explore(capfd):
    """The explorer runs a function hundreds of times; its prints are capped, too, and once."""

    def count_visit(redis, page):
        print("one")
        return redis.incr(f"visits:{page}")

    assert check("00.1", count_visit).passed
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == 21
    explore(
        {"ada": lambda redis, db: print("a few", redis.incr("n"))}, invariant=lambda redis, db: True
    )
    assert "a few" in capfd.readouterr().out
    assert printed().startswith("a few")


def test_little_is_shown_as_it_is(capsys):
    """Twenty lines are no reason for another."""
    before = sys.stdout
    with capped():
        for line in range(20):
            print(line)
    assert capsys.readouterr().out == "".join(f"{line}\n" for line in range(20))
    assert sys.stdout is before


def test_much_is_not_all_kept(capsys):
    """A loop that prints for ever does not fill the memory, nor a long line the page."""
    with capped():
        for _ in range(3):
            print("x" * (1 << 20))
    assert len(printed()) < 1 << 21
    out = capsys.readouterr().out
    assert len(out) < 10_000
    assert "more characters printed. To read them (the first megabyte)" in out

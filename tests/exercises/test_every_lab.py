"""No lab escapes the frame: each has a file that takes its tests over."""

from pathlib import Path

import pytest

from labsupport.course import titles

LABS = Path(__file__).parents[1] / "labs"


@pytest.mark.parametrize("lab", titles())
def test_is_put_to_the_test(lab):
    """Some test file of the lab takes over all classes of the frame."""
    files = (LABS / lab).glob("test_*.py")
    taken = "from tests.exercises.frame import TestSolutions, TestStubs, TestZoo"
    assert any(taken in path.read_text() for path in files), f"add {taken!r} to tests/labs/{lab}"

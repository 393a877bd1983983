"""All exercises: stubs fail, solutions pass, each wrong answer is refused for its own reason."""

import importlib
import json
import re
from pathlib import Path

import pytest

from labsupport import check, hint, solution
from labsupport.course import exercises, labs
from labsupport.exercises import source
from tests.exercises.zoo import schedule

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


EXERCISES = [one for lab in labs() for one in exercises(lab)]
ZOO = [wrong for lab in labs() for wrong in importlib.import_module(f"tests.labs.{lab}.zoo").ZOO]

each_exercise = pytest.mark.parametrize("one", EXERCISES, ids=lambda one: one.number)


def public_name(one):
    return one.stub.__name__.removesuffix("_stub")


def code_cells(one):
    (path,) = NOTEBOOKS.glob(f"{one.number[:2]}_*.ipynb")
    cells = json.loads(path.read_text())["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def pasted(one):
    """The function that the solution as it is shown makes of a cell, below the notebook's imports."""
    opening = "".join(code_cells(one)[1]["source"])  # the first is for where there is no labsupport
    imports = re.sub(r"^lab = .*", "", opening, flags=re.MULTILINE)
    text = solution(one.number).data.split("```python\n")[1].removesuffix("```")
    names = {"__name__": "__main__"}
    exec(imports, names)
    exec(text, names)
    return names[public_name(one)]


class TestStubsAndSolutions:
    @pytest.mark.parametrize("lab", [title[:2] for title in labs().values()])
    def test_numbered_from_one(self, lab):
        """Each lab has two or three exercises, NN.1 and so on."""
        numbers = [one.number for one in EXERCISES if one.number.startswith(lab)]
        assert numbers == [f"{lab}.{place}" for place in range(1, len(numbers) + 1)]
        assert len(numbers) in (2, 3)

    @each_exercise
    def test_stub_fails(self, one):
        """A stub does not pass, the reason has its evidence, and is the same every time."""
        found = check(one.number, one.stub)
        assert not found.passed
        assert found.evidence is not None
        if hasattr(found.evidence, "schedule"):
            assert found.evidence.violations > 0
            assert found.evidence.schedule in str(found)
        assert {str(check(one.number, one.stub)) for _ in range(2)} == {str(found)}

    @each_exercise
    def test_solution_passes(self, one):
        """The solution as it is shown, pasted into a cell, passes."""
        found = check(one.number, pasted(one))
        assert found.passed, str(found)

    @each_exercise
    def test_notebook_has_the_stub(self, one):
        """The stub's cell in the notebook is the module's stub, and the next cell checks it."""
        cells = code_cells(one)
        sources = ["".join(cell["source"]) for cell in cells]
        at = sources.index(source(one.stub).strip())
        assert f'check("{one.number}", {public_name(one)})' in sources[at + 1]
        assert f'# hint("{one.number}")' in sources[at + 1]
        assert "not yet" in json.dumps(cells[at + 1]["outputs"])

    @each_exercise
    def test_hints_one_at_a_time(self, one):
        """There are three hints, and each call shows one more."""
        assert len(one.hints) == 3
        shown = [hint(one.number).data for _ in range(4)]
        assert [sum(text in page for text in one.hints) for page in shown] == [1, 2, 3, 3]


class TestZoo:
    @pytest.mark.parametrize(
        "wrong", ZOO, ids=[f"{wrong.number}-{wrong.answer.__name__}" for wrong in ZOO]
    )
    def test_refused_for_its_own_reason(self, wrong):
        """A known wrong answer is refused, in the situation that it fails in, for what it does."""
        found = check(wrong.number, wrong.answer)
        assert not found.passed
        if wrong.situation and "raised" not in wrong.because:
            assert found.reason.startswith(f"{wrong.situation}: "), str(found)
        assert wrong.because in str(found)
        if wrong.schedule is not None:
            assert schedule(found) == wrong.schedule

    @each_exercise
    def test_enough(self, one):
        """Each exercise has five wrong answers or more, and three that pass with one client."""
        mine = [wrong for wrong in ZOO if wrong.number == one.number]
        assert len(mine) >= 5
        assert sum(not wrong.sequential for wrong in mine) >= 3

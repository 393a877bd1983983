"""What must hold of every exercise: its stub fails, its solution passes, wrong answers are refused.

The test file of a lab takes the classes over and is done: they find the lab by the file's folder.

    from tests.exercises.frame import TestSolutions, TestStubs, TestZoo
"""

import importlib
import json
import re
from pathlib import Path

import pytest

from labsupport import check, hint, solution
from labsupport.course import exercises_of, titles
from labsupport.exercises import attacks, source
from labsupport.exercises.judge import Refusal
from tests.exercises.zoo import schedule

__all__ = ["TestSolutions", "TestStubs", "TestZoo"]

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


class _Frame:
    """Gives each test what it asks for, of the lab in whose folder the test file lies."""

    def pytest_generate_tests(self, metafunc):
        lab = Path(metafunc.module.__file__).parent.name
        assert lab in titles(), f"there is no lab {lab!r}, only {', '.join(titles())}"
        zoo = importlib.import_module(f"tests.labs.{lab}.zoo").ZOO
        cases = {
            "lab": ([lab], None),
            "one": (exercises_of(lab), lambda one: one.number),
            "wrong": (zoo, lambda wrong: f"{wrong.number}-{wrong.answer.__name__}"),
            "zoo": ([zoo], lambda zoo: "zoo"),
        }
        for name, (values, ids) in cases.items():
            if name in metafunc.fixturenames:
                metafunc.parametrize(name, values, ids=ids)

    @pytest.fixture(autouse=True)
    def _progress_elsewhere(self, tmp_path, monkeypatch):
        """Keep the reader's own progress out of it: what `hint` shows depends on it."""
        monkeypatch.setenv("LAB_PROGRESS", str(tmp_path / "progress.json"))


class TestStubs(_Frame):
    def test_numbered_from_one(self, lab):
        """Each lab has two or three exercises, NN.1 and so on."""
        numbers = [one.number for one in exercises_of(lab)]
        assert numbers == [f"{titles()[lab][:2]}.{place}" for place in range(1, len(numbers) + 1)]
        assert len(numbers) in (2, 3)

    @pytest.mark.long  # the notebooks show each refusal, and are checked in any case
    def test_stub_fails(self, one):
        """A stub does not pass, the reason has its evidence, and is the same every time."""
        found = check(one.number, one.stub)
        assert not found.passed
        assert found.evidence is not None
        if hasattr(found.evidence, "schedule"):
            assert found.evidence.violations > 0
            assert found.evidence.schedule.rpartition("\n\n")[0] in str(found)
            assert not re.search(r"\.[”\"]?\.(\s|$)", str(found))
            assert str(found).count(found.evidence.schedule.rpartition("\n\n")[2]) == 1
        assert str(check(one.number, one.stub)) == str(found)

    def test_notebook_has_the_stub(self, one):
        """The stub's cell in the notebook is the module's stub, and the next cell checks it."""
        cells = _code_cells(one)
        sources = ["".join(cell["source"]) for cell in cells]
        at = sources.index(source(one.stub).strip())
        assert f'check("{one.number}", {_public_name(one)})' in sources[at + 1]
        assert f'# hint("{one.number}")' in sources[at + 1]
        assert "not yet" in json.dumps(cells[at + 1]["outputs"])

    def test_hints_one_at_a_time(self, one):
        """There are three hints, and each call shows one more."""
        assert len(one.hints) == 3
        shown = [hint(one.number).data for _ in range(4)]
        assert [sum(text in page for text in one.hints) for page in shown] == [1, 2, 3, 3]


@pytest.mark.long
class TestSolutions(_Frame):
    def test_solution_passes(self, one):
        """The solution as it is shown, pasted into a cell, passes."""
        found = check(one.number, _pasted(one))
        assert found.passed, str(found)


@pytest.mark.long
class TestZoo(_Frame):
    def test_refused_for_its_own_reason(self, wrong, monkeypatch):
        """A known wrong answer is refused for what it does, and not for an error that it happens to raise.

        A check by hand names the situation, the reason and the schedule of each. Of a contract's cases
        the first one that breaks an answer tells, and any may be the first: a smaller one is looked for
        only where that one raises.
        """
        with monkeypatch.context() as patch:
            patch.setattr(attacks, "SHRINKS", False)
            found = check(wrong.number, wrong.answer)
        assert not found.passed
        if isinstance(found.evidence, Refusal) and found.evidence.breach.fault.kind == "raised":
            found = check(wrong.number, wrong.answer)
        if isinstance(found.evidence, Refusal):
            assert wrong.because in str(found) or found.evidence.breach.fault.kind != "raised", (
                found
            )
            return
        if wrong.situation and "raised" not in wrong.because:
            assert found.reason.startswith(f"{wrong.situation}: "), str(found)
        assert wrong.because in str(found)
        if wrong.schedule is not None:
            assert schedule(found) == wrong.schedule

    def test_enough(self, one, zoo):
        """Each exercise has five wrong answers or more, and one that passes with one client."""
        mine = [wrong for wrong in zoo if wrong.number == one.number]
        assert len(mine) >= 5
        assert sum(not wrong.sequential for wrong in mine) >= 1

    def test_all_belong_here(self, lab, zoo):
        """No wrong answer is put to an exercise that the lab does not have."""
        assert {wrong.number for wrong in zoo} <= {one.number for one in exercises_of(lab)}


def _public_name(one):
    return one.stub.__name__.removesuffix("_stub")


def _code_cells(one):
    (path,) = NOTEBOOKS.glob(f"{one.number[:2]}_*.ipynb")
    cells = json.loads(path.read_text())["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def _pasted(one):
    """The function that the solution as it is shown makes of a cell, below the notebook's imports."""
    opening = "".join(
        _code_cells(one)[1]["source"]
    )  # the first is for where there is no labsupport
    imports = re.sub(r"^lab = .*", "", opening, flags=re.MULTILINE)
    text = solution(one.number).data.split("```python\n")[1].removesuffix("```")
    names = {"__name__": "__main__"}
    exec(imports, names)
    exec(text, names)
    return names[_public_name(one)]

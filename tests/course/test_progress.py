"""The course's page: what there is, what was passed, what comes next."""

import json
import re

import pytest

from labsupport import check, course
from labsupport.course import exercise, exercise_titles, exercises_of, overview, titles
from labsupport.errors import UnknownNameError
from labsupport.exercises import Outcome, Progress
from tools.progress import ROOT, main

NOTEBOOKS = ROOT / "notebooks"
TIE = "\N{NO-BREAK SPACE}"  # no line ends between a circle and its exercise


def test_it_knows_every_exercise():
    """What is read from the source is what is imported."""
    found = {one.number: one.title for lab in titles() for one in exercises_of(lab)}
    assert exercise_titles() == found


def test_a_number_that_is_not_there():
    """The message lists the lab's exercises; those of all labs only where there is no such lab."""
    with pytest.raises(UnknownNameError, match=r"There are 00\.1, 00\.2, 00\.3\.$"):
        exercise("00.9")
    with pytest.raises(UnknownNameError, match=r"There are 00\.1, .* 16\.2\.$"):
        exercise("99.1")


def test_a_beginner_is_sent_to_the_first_lab():
    """Every lab has its link and says what it is about, every exercise has an open circle."""
    page = overview([], NOTEBOOKS).replace(TIE, " ")
    assert f"0 of {len(exercise_titles())} exercises passed." in page
    assert "**Begin with [00 Start here](00_start_here.ipynb)**, exercise 00.1: " in page
    assert page.count(".ipynb)") == len(titles()) + 1
    lines = re.findall(r"(?m)^\* \[\d\d .*\.ipynb\): \w.{15,}\. (\d\d) min · ○ ", page)
    assert len(lines) == len(titles())
    assert lines[0] == "45"  # as the card says
    assert page.count("○ ") == len(exercise_titles()) + 1  # the legend's
    assert page.count("✓ ") == 1


def test_what_comes_next_is_the_first_that_is_missing():
    """Passes count wherever they are; strange numbers do not."""
    page = overview(["00.1", "00.3", "99.9"], NOTEBOOKS.parent).replace(TIE, " ")  # without cards
    assert f"2 of {len(exercise_titles())} exercises passed." in page
    assert "**Next: [00 Start here](00_start_here.ipynb)**, exercise 00.2: " in page
    assert ". ✓ 00.1 · ○ 00.2 · ✓ 00.3" in page


def test_all_is_done():
    """Nothing comes next."""
    page = overview(exercise_titles(), NOTEBOOKS)
    assert "That is all of them." in page
    assert "Next" not in page


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAB_PROGRESS", str(tmp_path / "progress.json"))
    return tmp_path


def test_a_pass_is_noted_on_the_page(folder, monkeypatch):
    """Where the page lies beside the notebook, a pass changes it; elsewhere none is made."""
    one = exercise("00.1")
    outcome = Outcome(True, "it withstood")
    monkeypatch.setattr(course, "exercise", lambda number: _Passing(number, outcome))
    check("00.1", one.solution)
    assert not (folder / "course.md").exists()
    (folder / "course.md").write_text("old")
    check("00.1", one.solution)
    assert f"✓{TIE}00.1{TIE}· ○{TIE}00.2" in (folder / "course.md").read_text()


class _Passing:
    def __init__(self, number, outcome):
        self.number, self.outcome = number, outcome

    def judge(self, answer):
        progress = Progress()
        progress.passed.append(self.number)
        progress.save()
        return self.outcome


def test_the_command(folder, capsys):
    """`make progress` says it in the terminal; with a path it writes the page."""
    (folder / "progress.json").write_text(json.dumps({"passed": ["00.1"], "hints": {}}))
    assert main([]) == 0
    said = capsys.readouterr().out
    assert re.search(
        r"^1 of \d+ exercises passed\.\nNext: 00 Start here, exercise 00\.2: ", said, re.M
    )
    assert "  ✓ 00.1 " in said
    assert "](" not in said
    assert main([str(folder / "course.md")]) == 0
    assert (folder / "course.md").read_text() == overview(["00.1"], NOTEBOOKS)

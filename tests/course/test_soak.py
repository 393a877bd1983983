"""The soak script: what it calls wrong, and what it only counts."""

import nbformat

from tools.soak import Difference, compare, verdicts


def notebook(*outputs):
    book = nbformat.v4.new_notebook()
    for text in outputs:
        cell = nbformat.v4.new_code_cell("run()")
        cell.outputs = [nbformat.v4.new_output("display_data", {"text/plain": text})]
        book.cells.append(cell)
    return book


SAVED = notebook("naive\n✗ broken         No job is lost\n", "✓ holds          No job is lost")


def test_every_claim_is_read():
    """By cell and words; the same words may stand twice."""
    twice = notebook("✓ holds          it\n✗ broken         it")
    assert verdicts(twice) == {(1, "it", 0): "holds", (1, "it", 1): "broken"}


def test_the_same_again_is_no_difference():
    assert compare(SAVED, SAVED) == []


def test_a_busy_machine_is_not_wrong():
    """Not exercised is counted by itself; another verdict, one more and one less are wrong."""
    now = notebook("? not exercised  No job is lost", "✗ broken         No job is lost")
    busy, wrong = compare(SAVED, now)
    assert busy == Difference(1, "No job is lost", "broken", "not exercised")
    assert not busy.wrong
    assert wrong == Difference(2, "No job is lost", "holds", "broken")
    assert wrong.wrong
    assert [one.wrong for one in compare(SAVED, notebook("", ""))] == [True, True]

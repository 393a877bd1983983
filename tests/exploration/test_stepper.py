"""Stepping through a schedule: the state beside each step, and orders that the learner tries."""

import re
import sys
from typing import Any

import pytest

from labsupport import explore
from labsupport.errors import InvalidSettingError, NotInstalledError
from labsupport.exploration.stepper import Stepper
from labsupport.verdict import row

STOCK = "SELECT stock FROM products WHERE id = 1"


def sell(redis, db):
    stock = db.fetch_one(STOCK)["stock"]
    db.execute("UPDATE products SET stock = :stock WHERE id = 1", stock=stock - 1)
    redis.incr("sold")


def is_right(redis, db):
    """What was sold has left the stock"""
    return db.fetch_one(STOCK)["stock"] == 89 - int(redis.get("sold"))


@pytest.fixture
def stepper() -> Stepper:
    return explore({"ada": sell, "bob": sell}, invariant=is_right).step_through()


def steps(stepper: Stepper) -> list[str]:
    return [moment.step.client for moment in stepper._run.moments[1:]]


def told(stepper: Stepper) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", stepper._state.value).split())


def test_it_begins_before_the_first_step(stepper: Stepper) -> None:
    """The rows that will change are there as they were, Redis is empty, and one cannot go back."""
    assert (
        told(stepper) == "Before the first step In Redis nothing In the tables products 1 stock 89"
    )
    assert stepper._verdict.value == row("broken", "It breaks.", "")  # legible on dark, too
    assert stepper._back.disabled
    assert stepper._earlier.disabled
    assert stepper._later.disabled


def test_each_step_shows_what_it_changed(stepper: Stepper) -> None:
    """The marked step's change has a sign; the buttons go on and back."""
    told_at = []
    for _ in range(stepper._slider.max):
        stepper._on.click()
        told_at.append(told(stepper))
    assert stepper._on.disabled
    assert [("● products 1 stock 88" in one) for one in told_at].count(True) == 1
    assert told_at[-1].endswith("products 1 stock 88")
    assert "● sold 2" in told_at[-1]
    stepper._back.click()
    assert told(stepper) == told_at[-2]


def test_the_picture_marks_the_step(stepper: Stepper) -> None:
    """A band lies on the marked step, a veil over those to come; the alt text tells the schedule."""
    stepper.at = 2
    top, bottom = stepper._drawn.bands[1]
    assert stepper._band.layout.top == f"{100 * top:.2f}%"
    assert stepper._veil.layout.top == f"{100 * bottom:.2f}%"
    assert 'alt="Sequence diagram. ' in stepper._picture.value


def test_moved_elsewhere_it_may_hold(stepper: Stepper) -> None:
    """When one client has read only after the other has written, nothing is lost; and back."""
    found = steps(stepper)
    assert found.count("ada") == found.count("bob") == 3
    for _ in range(9):
        if stepper._run.finding is None:
            break
        stepper.at = next(
            place for place, one in enumerate(steps(stepper), 1) if one != steps(stepper)[0]
        )
        stepper._later.click()
    assert stepper._verdict.value == row("holds", "Now it holds.", "")
    assert sorted(steps(stepper)) == sorted(found)
    assert "In this order it holds: What was sold has left the stock" in stepper._picture.value
    stepper._found.click()
    assert steps(stepper) == found
    assert stepper._verdict.value == row("broken", "It breaks.", "")  # legible on dark, too


def test_a_move_keeps_the_order_of_each_client(stepper: Stepper) -> None:
    """Earlier takes the steps of the same client above it along, and the mark goes with the step."""
    stepper.at = next(place for place, one in enumerate(steps(stepper), 1) if one == "bob")
    before = steps(stepper)
    at = stepper.at
    stepper._earlier.click()
    assert steps(stepper)[at - 2] == "bob"
    assert sorted(steps(stepper)) == sorted(before)
    assert stepper.at == at - 1
    assert "bob" in told(stepper)


def test_without_a_front_end_it_is_the_picture(
    stepper: Stepper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The widget is an output of its own; the next one is the report, which shows its picture."""
    shown: list[Any] = []
    monkeypatch.setattr(
        "labsupport.exploration.stepper.display", lambda one, **_: shown.append(one)
    )
    stepper._ipython_display_()
    widget, report = shown
    assert set(widget) == {"application/vnd.jupyter.widget-view+json"}
    data, _ = report._repr_mimebundle_()
    assert set(data) == {"image/png", "text/plain"}


def test_there_is_nothing_to_step_through() -> None:
    """Without a counterexample the error says so."""
    report = explore({"ada": sell}, invariant=is_right)
    with pytest.raises(InvalidSettingError, match="no counterexample"):
        report.step_through()


def test_it_names_the_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who took the explorer home alone is told what shows a report, and what does without."""
    report = explore({"ada": sell, "bob": sell}, invariant=is_right)
    for module, missing in (("diagram", "matplotlib.axes"), ("stepper", "ipywidgets")):
        monkeypatch.delitem(sys.modules, f"labsupport.exploration.{module}")
        monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(NotInstalledError, match="ipywidgets, which is not installed"):
        report.step_through()
    with pytest.raises(NotInstalledError, match="matplotlib"):
        _ = report.figure
    assert "interleavings" in report._repr_mimebundle_()["text/plain"]

"""Stepped lines: values from their moment on, the gap between two, names that can be read."""

import numpy as np
import pytest
from matplotlib.legend import Legend

from labsupport.charts import Bars, Chart, Line, Lines, Part
from labsupport.charts.plot import spread
from labsupport.history import History

S = 1_000_000_000


@pytest.fixture
def history() -> History:
    history = History()
    history.origin_ns = 1
    return history


def line(name: str, role: str, *points: tuple[float, float]) -> Line:
    times = np.array([int(at * S) for at, _ in points], "i8")
    values = np.array([value for _, value in points], float)
    return Line(name, role, lambda history: (times, values))


def drawn(history: History, plot: Lines | Bars, seconds: float = 4.0):
    chart = Chart([plot], seconds=seconds, title="", subtitle="")
    chart.add(history.rows(), history)
    figure = chart.finish("A finding", "An alt text.")
    figure.draw_without_rendering()
    return figure


def views() -> Lines:
    return Lines(
        "page views",
        [
            line("acknowledged", "limit", (0, 10), (1, 20), (2, 40)),
            line("persisted", "work", (0.5, 10), (2, 30)),
        ],
        gap=("acknowledged", "persisted", "alarm", "lost"),
    )


def test_lines_are_steps(history: History) -> None:
    """A value holds until the next one."""
    (axes,) = drawn(history, views()).axes
    upper, lower = axes.lines[:2]
    assert upper.get_drawstyle() == lower.get_drawstyle() == "steps-post"
    assert upper.get_ydata().tolist()[:3] == [10, 20, 40]
    assert axes.get_ylim() == (0, pytest.approx(40 * 1.06))


def test_gap_is_what_is_between(history: History) -> None:
    """The area of the gap is the difference, held from each moment to the next."""
    (axes,) = drawn(history, views()).axes
    (patch,) = [patch for patch in axes.patches if patch.get_hatch()]
    corners = patch.get_xy()
    x, y = corners[:, 0], corners[:, 1]
    area = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
    end = x.max()
    # 10 until 0.5, 0 until 1, 10 until 2, then 10 until now
    assert area == pytest.approx(10 * 0.5 + 10 * 1 + 10 * (end - 2))


def test_names_have_their_last_value_and_room(history: History) -> None:
    """Each line is named at its right end, in its colour, inside the figure, apart from others."""
    figure = drawn(history, views())
    (axes,) = figure.axes
    texts = [text for text in axes.texts if text.get_text()]
    assert [text.get_text() for text in texts] == ["acknowledged 40", "persisted 30"]
    boxes = [text.get_window_extent() for text in texts]
    assert max(box.x1 for box in boxes) <= figure.get_size_inches()[0] * figure.dpi
    assert boxes[1].y1 <= boxes[0].y0 + 1


def test_of_two_that_are_equal_the_first_stands_above(history: History) -> None:
    """So that the names of several runs below one another keep their order."""
    points = (0, 10), (2, 40)
    both = [line("made", "limit", *points), line("counted", "work", *points)]
    (axes,) = drawn(history, Lines("n", both)).axes
    made, counted = (text.get_window_extent() for text in axes.texts)
    assert made.y0 >= counted.y1 - 1


def test_what_is_between_two_lines_is_named(history: History) -> None:
    """The colour of the gap is told beside the label, in the colour's role; not where none is seen."""
    (axes,) = drawn(history, views()).axes
    (key,) = axes.findobj(Legend)
    assert [text.get_text() for text in key.get_texts()] == ["lost"]
    label = axes.yaxis.label.get_window_extent()
    assert key.get_window_extent().x0 > label.x1
    points = (0, 10), (2, 40)
    both = [line("a", "limit", *points), line("b", "work", *points)]
    (axes,) = drawn(history, Lines("n", both, gap=("a", "b", "alarm", "lost"))).axes
    assert not axes.findobj(Legend)


def test_no_two_lines_look_alike_in_greys(history: History) -> None:
    """Where two roles have the same dashes, the second line has others."""
    roles = ("limit", "work", "good")
    lines = Lines("n", [line(role, role, (0, at), (2, at)) for at, role in enumerate(roles, 1)])
    (axes,) = drawn(history, lines).axes
    looks = {(one.is_dashed(), str(one._unscaled_dash_pattern)) for one in axes.lines}
    assert len(looks) == len(roles)


def test_nothing_is_lacking_where_the_second_is_ahead(history: History) -> None:
    """It is neither filled nor named: what has been persisted before the answer came is not lost."""
    ahead = [line("a", "limit", (0, 10), (2, 40)), line("b", "work", (0, 10), (1, 42))]
    (axes,) = drawn(history, Lines("n", ahead, gap=("a", "b", "alarm", "lost"))).axes
    assert not axes.findobj(Legend)
    (patch,) = [patch for patch in axes.patches if patch.get_hatch()]
    x, y = patch.get_xy().T
    assert np.dot(x, np.roll(y, 1)) == pytest.approx(np.dot(y, np.roll(x, 1)))


def test_a_line_without_points(history: History) -> None:
    """What has not happened is neither drawn nor named."""
    lines = Lines(
        "n", [line("a", "work"), line("b", "good", (1, 2))], gap=("b", "a", "alarm", "only b")
    )
    (axes,) = drawn(history, lines).axes
    assert [text.get_text() for text in axes.texts] == ["b 2"]


def test_a_long_line_is_thinned(history: History) -> None:
    """Thousands of points are drawn as some hundreds, the last of them among them."""
    many = line("visits", "work", *((at / 1000, at) for at in range(5000)))
    (axes,) = drawn(history, Lines("visits", [many]), 6.0).axes
    assert len(axes.lines[0].get_xdata()) < 500
    assert axes.lines[0].get_ydata()[-1] == 4999


def test_parts_are_named(history: History) -> None:
    """Bars without a noun name each part with its last count, from the bottom."""
    states = Bars(
        "jobs by state",
        [
            Part("waiting", "waiting", lambda history, span: np.array([5, 2])),
            Part("done", "good", lambda history, span: np.array([0, 3])),
        ],
        noun=None,
    )
    (axes,) = drawn(history, states).axes
    texts = {text.get_text(): text.get_window_extent().y0 for text in axes.texts}
    assert list(texts) == ["waiting 2", "done 3"]
    assert texts["waiting 2"] < texts["done 3"]


@pytest.mark.parametrize(
    "heights",
    [[0.1, 0.5, 0.9], [0.5, 0.5, 0.5], [0.99, 1.0, 0.98], [0.0, 0.0], [0.3, 0.2, 1.0, 0.9]],
)
def test_labels_are_spread(heights: list[float]) -> None:
    """Labels keep their order, a distance, and stay in the axes; those that fit do not move."""
    placed = spread(heights, least=0.15)
    order = np.argsort(heights, kind="stable")
    steps = np.diff(np.array(placed)[order])
    assert (steps >= 0.15 - 1e-9).all()
    assert min(placed) >= 0
    assert max(placed) <= 1
    if (np.diff(np.sort(heights)) >= 0.15).all():
        assert placed == heights

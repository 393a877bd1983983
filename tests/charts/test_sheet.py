"""Numbers are written as people read them, and nothing is cut or overlaps, whatever the value."""

import itertools
import re
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from labsupport.charts import (
    Bar,
    Bars,
    Chart,
    LabFigure,
    Lanes,
    Line,
    Lines,
    LiveChart,
    Mark,
    Part,
    Place,
    Plot,
    Quantiles,
    Run,
    bar_chart,
    draw_comparison,
    histograms,
)
from labsupport.charts.style import ROLES as ROLES_OF
from labsupport.charts.style import number
from labsupport.history import History

VALUES = [0, 1, 9, 10, 9_999, 10_000, 12_345_678]
EXTREMES_FIRST = [
    pytest.param(value, marks=() if value in (VALUES[0], VALUES[-1]) else pytest.mark.long)
    for value in VALUES
]
"""The extremes in each run, what lies between them in the longer one."""
WRITTEN = ["0", "1", "9", "10", "9,999", "10,000", "12,345,678"]
LONG = "requests that were refused although there was room"
NAMES = [("made", "counted"), (LONG, f"{LONG} twice")]
ROLES = ("work", "alarm")
TITLE = "The counter says less than what was counted, since two clients read it before either wrote"
S = 1_000_000_000
SLIDE = 6.84
"""Inches; a slide has no more room."""


def history(seconds: float = 2.0) -> History:
    found = History()
    found.origin_ns, found._over_ns = 1, int(seconds * S) + 1
    return found


def lines(value: float, names: tuple[str, str]) -> Plot:
    def points(part: float) -> Callable[[History], tuple[np.ndarray, np.ndarray]]:
        return lambda history: (np.array([0, S]), np.array([0.0, part * value]))

    gap = (*names, "alarm", "missing")
    parts = zip(names, ("limit", "work"), (1, 0.97), strict=True)
    return Lines("updates", [Line(name, role, points(part)) for name, role, part in parts], gap=gap)


def bars(noun: tuple[str, str] | None) -> Callable[[float, tuple[str, str]], Plot]:
    def make(value: float, names: tuple[str, str]) -> Plot:
        def heights(history: History, span_ns: int) -> np.ndarray:
            return np.array([0] * 38 + [int(value)])  # the highest one is the last

        parts = [Part(name, role, heights) for name, role in zip(names, ROLES, strict=True)]
        return Bars("loads per 50 ms", parts, noun=noun)

    return make


def lanes(value: float, names: tuple[str, str]) -> Plot:
    spans = np.array([[0, 0, S], [1, S // 2, 2 * S]])
    bar = Bar(names[0], "work", lambda history: spans)
    mark = Mark(names[1], "alarm", lambda history: np.array([[0, S]]))
    rows = [f"{names[0]} {number(value)}", names[1]]
    return Lanes("who holds the lock", rows, bars=[bar], marks=[mark], gap=f"neither {names[0]}")


def nodes(value: float, names: tuple[str, str]) -> Plot:
    bar = Bar(names[0], "work", lambda history: np.array([[0, 0, S]]))
    return Lanes("what each is", [f"node {at}" for at in range(6)], bars=[bar])


class Durations(Quantiles):
    """Requests of that many milliseconds, whatever has happened."""

    value = 0.0

    def add(self, rows: np.ndarray, history: History) -> None:
        self._all = [np.array([self.value])]
        self._quantiles = {3: np.array([self.value, self.value])}


def quantiles(value: float, names: tuple[str, str]) -> Plot:
    plot = Durations("latency (ms)", "request")
    plot.value = value
    return plot


PLOTS = [lines, bars(("load", "loads")), bars(None), lanes, quantiles]


def chart(plot: Plot) -> LabFigure:
    made = Chart([plot], seconds=2, title="", subtitle="naive: 40 clients")
    made.add(history().rows(), history())
    return made.finish(TITLE, "An alt text.")


def test_a_long_label_is_folded_in_a_comparison() -> None:
    """What a column shows may be a sentence: it stays in the figure, and off the next column."""
    runs = [
        Run(name, history(), [lines(9, NAMES[0]), lines(9, NAMES[0])])
        for name in ("naive", "fixed")
    ]
    for run in runs:
        for plot in run.plots:
            plot.label = f"{LONG}, or {LONG}"
    check(draw_comparison(runs, seconds=2, title=TITLE, subtitle=LONG, alt="An alt text."))


def comparison(*plots: Plot) -> LabFigure:
    runs = [Run(name, history(), [plot]) for name, plot in zip(("naive", LONG), plots, strict=True)]
    return draw_comparison(runs, seconds=2, title=TITLE, subtitle=LONG, alt="An alt text.")


def still(value: float, names: tuple[str, str]) -> Iterator[LabFigure]:
    both = [(names[0], value, "work"), (names[1], value / 3, "alarm")]
    yield bar_chart(both, title=TITLE, label="seconds", alt="An alt text.")
    rows = [(name, [0.0, value], role, f"mean {number(value)}") for name, _, role in both]
    yield histograms(rows, title=TITLE, label="loads", alt="An alt text.")


def check(figure: LabFigure) -> None:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    width, height = canvas.get_width_height()
    texts = [
        text
        for text in figure.findobj(Text)
        if isinstance(text, Text) and text.get_text().strip() and text.get_visible()
    ]
    inside = [text for text in texts if not _is_outside_its_axes(text)]
    boxes = [(text.get_text(), text.get_window_extent()) for text in inside]
    for text, box in boxes:
        assert not re.search(r"\de[+-]?\d", text), f"{text!r} is not how people write numbers"
        assert box.x0 >= -0.5, f"{text!r} is cut at the left"
        assert box.x1 <= width + 0.5, f"{text!r} is cut at the right"
        assert box.y0 >= -0.5, f"{text!r} is cut at the bottom"
        assert box.y1 <= height + 0.5, f"{text!r} is cut at the top"
    for (one, first), (two, second) in itertools.combinations(boxes, 2):
        over_x = min(first.x1, second.x1) - max(first.x0, second.x0)
        over_y = min(first.y1, second.y1) - max(first.y0, second.y0)
        assert over_x <= 1 or over_y <= 1.5, f"{one!r} and {two!r} overlap"
    for axes in figure.axes:
        assert axes.get_window_extent().width > 0.25 * width, "the axes are squeezed"


def _is_outside_its_axes(text: Text) -> bool:
    """A tick's label beyond the limits, which is not drawn."""
    for axes in text.figure.axes:  # type: ignore[union-attr]
        for labels, axis, limits in (
            (axes.get_xticklabels(), 0, axes.get_xlim()),
            (axes.get_yticklabels(), 1, axes.get_ylim()),
        ):
            if text in labels:
                return not min(limits) <= text.get_position()[axis] <= max(limits)
    minor = [label for axes in text.figure.axes for label in axes.get_yticklabels(minor=True)]  # type: ignore[union-attr]
    return text in minor


@pytest.mark.long
@pytest.mark.parametrize(
    "kinds",
    [[nodes], [nodes, bars(("load", "loads")), bars(("load", "loads"))], [PLOTS[1], quantiles]],
    ids=["lanes", "lanes and two", "two"],
)
@pytest.mark.parametrize("runs", [2, 3, 4])
def test_runs_fit_a_slide(kinds: list[Callable[[float, tuple[str, str]], Plot]], runs: int) -> None:
    """However many are compared, the figure keeps four fifths of its size; each kind has the same axes."""
    made = [
        Run(f"{run} of {runs}", history(), [kind(10_000 / (run + 1), NAMES[0]) for kind in kinds])
        for run in range(runs)
    ]
    figure = draw_comparison(made, seconds=2, title="Lost: 3", subtitle="s", alt="An alt text.")
    check(figure)
    assert len(figure.axes) == runs * len(kinds)
    assert figure.get_size_inches()[1] * 0.8 <= SLIDE or runs * len(kinds) > 8
    limits = {(axes.get_xlim(), axes.get_ylim()) for axes in figure.axes}
    assert len(limits) <= len(kinds)


def test_one_run_fits_a_slide() -> None:
    """So does a chart of three kinds, and one of many bars."""
    plots = [nodes(1, NAMES[0]), *(bars(("load", "loads"))(9, NAMES[0]) for _ in range(2))]
    made = Chart(plots, seconds=2, title="", subtitle="naive: 40 clients")
    made.add(history().rows(), history())
    bars_of = [(f"policy {at // 5}: key {at % 5}", 9.0, "work") for at in range(15)]
    for figure in (
        made.finish("Nothing is lost", "An alt text."),
        bar_chart(bars_of, title="The first", label="evicted", alt="An alt text."),
    ):
        check(figure)
        assert figure.get_size_inches()[1] * 0.8 <= SLIDE


@pytest.mark.long
@pytest.mark.parametrize("names", NAMES, ids=["short", "long"])
@pytest.mark.parametrize("value", EXTREMES_FIRST)
def test_nothing_is_cut_and_nothing_overlaps(value: int, names: tuple[str, str]) -> None:
    """All texts of all kinds of charts lie in the figure, apart from one another."""
    for make in PLOTS:
        check(chart(make(value, names)))
        check(comparison(make(value, names), make(value / 7, names)))
    for figure in still(value, names):
        check(figure)


@pytest.mark.parametrize(("value", "written"), list(zip(VALUES, WRITTEN, strict=True)))
def test_values_are_written_out(value: int, written: str) -> None:
    """A line, a bar and a stack say the whole number, with its thousands apart."""
    words = [text.get_text() for text in chart(lines(value, NAMES[0])).axes[0].texts]
    assert words[0] == f"made {written}"
    words = [text.get_text() for text in chart(bars(None)(value, NAMES[0])).axes[0].texts]
    assert words[0] == f"made {written}"
    figure = bar_chart([("a", value, "work")], title="t", label="l", alt="a")
    assert [text.get_text() for text in figure.axes[0].texts] == [written]


@pytest.mark.parametrize(
    ("value", "written"), [(1, "1 load"), (2, "2 loads"), (10_000, "10,000 loads")]
)
def test_the_peak_is_one_or_several(value: int, written: str) -> None:
    """One is singular."""
    one = Bars("loads", [Part("all", "work", lambda *_: np.array([value]))], noun=("load", "loads"))
    assert [text.get_text() for text in chart(one).axes[0].texts] == [written]


@pytest.mark.parametrize(
    ("value", "digits", "written"),
    [
        (0.1234, 4, "0.1234"),
        (0.00012, 2, "0.00012"),
        (1.5, 1, "2"),
        (9.96, 2, "10"),
        (-1234.5, 4, "−1,234"),
        (1e12, 4, "1,000,000,000,000"),
        (float("nan"), 4, "–"),
    ],
)
def test_numbers(value: float, digits: int, written: str) -> None:
    """So many digits count, a whole part is written out, and nothing is a power of ten."""
    assert number(value, digits=digits) == written


@pytest.mark.parametrize("value", VALUES)
def test_a_live_chart_makes_room_for_its_ticks(value: int) -> None:
    """While the run goes on, too, the labels of the axis are in the figure."""
    live = LiveChart([lines(value, NAMES[0])], seconds=2, title="", subtitle="", place=Place(""))
    live.draw(history())
    (axes,) = live._chart.figure.axes
    assert min(text.get_window_extent().x0 for text in axes.get_yticklabels()) >= 0


def test_the_subtitle_stands_below_the_title_however_long_that_is() -> None:
    """Also in a picture of twice as many dots, in which a title might take a line less."""
    found = set()
    for long in ("short", "The cache is not filled: 87 loads in a row, and no answer from it"):
        chart = Chart([lines(1, NAMES[0])], seconds=2, title="", subtitle="conditions")
        chart.add(history().rows(), history())
        figure = chart.finish(long, "An alt.")
        figure.set_dpi(200)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        title, subtitle = (text.get_window_extent() for text in figure.texts)
        found.add(round((title.y0 - subtitle.y1) / 200, 1))
    assert len(found) == 1


def test_labels_beside_a_stack_carry_their_hatch() -> None:
    """Each name has a patch in its layer's colour and hatch before it, and does not lie on it."""
    figure = chart(bars(None)(10, NAMES[0]))
    FigureCanvasAgg(figure).draw()
    (axes,) = figure.axes
    swatches = [
        one
        for one in axes.get_children()
        if isinstance(one, Rectangle) and one.get_hatch() is not None
    ]
    assert [one.get_hatch() for one in swatches if one is not axes.patch] == [
        ROLES_OF[role].hatch for role in ROLES
    ]
    for swatch, text in zip(swatches, axes.texts, strict=True):
        box, label = swatch.get_window_extent(), text.get_window_extent()
        assert axes.get_window_extent().x1 < box.x0 < box.x1 < label.x0
        assert label.y0 < (box.y0 + box.y1) / 2 < label.y1

"""The timeline: bars where they belong, overlaps found, a key that can be read."""

import itertools

import numpy as np
import pytest
from matplotlib.legend import Legend

from labsupport.charts import ROLES, Bar, Chart, Lanes, Mark, Run, draw_comparison, overlaps
from labsupport.history import History

S = 1_000_000_000


def spans(*rows: tuple[float, float, float]) -> np.ndarray:
    return np.array([(row, start * S, end * S) for row, start, end in rows], "i8").reshape(-1, 3)


def brute_force(found: np.ndarray) -> dict[int, set[int]]:
    """Which whole moments of each row are shared with another row."""
    open_at: dict[int, set[int]] = {}
    for row, start, end in found:
        open_at.setdefault(int(row), set()).update(range(int(start), int(end)))
    return {
        row: {m for m in mine if any(m in other for r, other in open_at.items() if r != row)}
        for row, mine in open_at.items()
    }


class TestOverlaps:
    def test_two_holders(self) -> None:
        """Both rows are marked, for the time that they share and no longer."""
        found = overlaps(spans((0, 0, 3), (1, 2, 5)))
        assert found.tolist() == spans((0, 2, 3), (1, 2, 3)).tolist()

    def test_no_overlap(self) -> None:
        """Spans that only touch, and two spans of one row, are no overlap."""
        assert len(overlaps(spans((0, 0, 2), (1, 2, 3)))) == 0
        assert len(overlaps(spans((0, 0, 2), (0, 1, 3)))) == 0
        assert overlaps(spans()).shape == (0, 3)

    def test_one_piece(self) -> None:
        """A third span that begins meanwhile does not cut the mark in two."""
        found = overlaps(spans((0, 0, 9), (1, 1, 8), (2, 3, 5)))
        assert found.tolist() == spans((0, 1, 8), (1, 1, 8), (2, 3, 5)).tolist()

    @pytest.mark.parametrize("seed", range(20))
    def test_what_a_brute_force_finds(self, seed: int) -> None:
        """Random spans: the same moments as looking at each of them."""
        dice = np.random.default_rng(seed)
        starts = dice.integers(0, 40, 12)
        random_spans = np.stack([dice.integers(0, 4, 12), starts, starts + dice.integers(1, 9, 12)])
        shared: dict[int, set[int]] = {}
        for row, start, end in overlaps(random_spans.T):
            shared.setdefault(int(row), set()).update(range(int(start), int(end)))
        wanted = brute_force(random_spans.T)
        assert shared == {row: moments for row, moments in wanted.items() if moments}


def lanes() -> Lanes:
    held = spans((0, 0.2, 1.2), (1, 1.0, 1.5))
    return Lanes(
        "who believes that it holds the lock",
        ["process 0", "process 1", "a process with a long name"],
        bars=[
            Bar("holds", "work", lambda history: held),
            Bar("two holders", "alarm", lambda history: overlaps(held)),
            Bar("paused", "gone", lambda history: spans()),
        ],
        marks=[Mark("killed", "alarm", lambda history: np.array([[2, S * 7 // 5]]))],
        gap="does not want it",
    )


@pytest.fixture
def history() -> History:
    history = History()
    history.origin_ns = 1
    return history


class TestLanes:
    def test_bars_are_where_they_belong(self, history: History) -> None:
        """A bar covers its span of time in its own row, and the first row is at the top."""
        chart = Chart([lanes()], seconds=2.0, title="", subtitle="")
        chart.add(history.rows(), history)
        figure = chart.finish("Two hold it", "Two processes hold the lock.")
        (axes,) = figure.axes
        # one path for all: thousands of bars, each hatched by itself, take a second to draw
        (path,) = axes.collections[0].get_paths()
        corners = path.vertices.reshape(-1, 5, 2)
        assert [(box[:, 0].min(), box[:, 0].max()) for box in corners] == [(0.2, 1.2), (1.0, 1.5)]
        assert [round(box[:, 1].mean()) for box in corners] == [0, 1]
        assert axes.get_ylim()[0] > axes.get_ylim()[1]

    def test_key_names_what_there_is(self, history: History) -> None:
        """Kinds that did not happen are not in the key; the others have their role's hatch."""
        chart = Chart([lanes()], seconds=2.0, title="", subtitle="")
        chart.add(history.rows(), history)
        (axes,) = chart.finish("Two hold it", "Two processes hold the lock.").axes
        legend = axes.get_legend()
        assert legend is not None
        assert [text.get_text() for text in legend.get_texts()] == [
            "holds",
            "two holders",
            "killed",
            "does not want it",
        ]
        assert axes.collections[1].get_hatch() == ROLES["alarm"].hatch

    @pytest.mark.long
    @pytest.mark.parametrize("kinds", [0, 1, 2, 3, 4])
    def test_every_word_is_in_the_figure(self, history: History, kinds: int) -> None:
        """The names of the rows and the key have the room that they need; compared, there is one key."""
        if kinds:
            runs = [
                Run(name, history, [lanes() for _ in range(kinds)]) for name in ("naive", "fixed")
            ]
            figure = draw_comparison(runs, seconds=2, title="T", subtitle="s", alt="An alt.")
        else:
            chart = Chart([lanes()], seconds=2.0, title="", subtitle="")
            chart.add(history.rows(), history)
            figure = chart.finish("Two hold it", "Two processes hold the lock.")
        figure.draw_without_rendering()
        drawn = [line for axes in figure.axes for line in axes.lines if line.get_marker() != "None"]
        assert {len(line.get_xdata()) for line in drawn} == {1}  # compared, too, no mark is missing
        width, _ = figure.get_size_inches() * figure.dpi
        assert width <= 1100
        texts = [label for axes in figure.axes for label in axes.get_yticklabels()]
        keys = [text for key in figure.findobj(Legend) for text in key.get_texts()]
        texts += keys
        boxes = [text.get_window_extent() for text in texts]
        assert min(box.x0 for box in boxes) >= 0
        assert max(box.x1 for box in boxes) <= width
        for one, other in itertools.combinations(boxes, 2):
            assert not one.overlaps(other)
        assert [text.get_text() for text in keys].count("two holders") == max(kinds, 1)

    def test_rows_end_with_the_run(self, history: History) -> None:
        """After it there is no row without a bar; a mark at the edge is whole, one beyond it away."""
        history._over_ns = 1 + int(1.2 * S)
        chart = Chart([lanes()], seconds=2.0, title="", subtitle="")
        chart.add(history.rows(), history)
        (axes,) = chart.finish("Two hold it", "Two processes hold the lock.").axes
        assert [rule.get_xdata()[1] for rule in axes.lines[:3]] == [pytest.approx(1.2)] * 3
        (dot,) = axes.lines[3:]
        assert not dot.get_clip_on()
        assert len(dot.get_xdata()) == 1
        chart.extend(0.9)
        chart.show()
        assert len(dot.get_xdata()) == 0

    def test_no_events(self, history: History) -> None:
        """A run in which nothing happened draws empty rows."""
        nothing = Lanes("l", ["a"], bars=[Bar("x", "work", lambda history: spans())])
        chart = Chart([nothing], seconds=1.0, title="", subtitle="")
        chart.add(history.rows(), history)
        (axes,) = chart.finish("Nothing", "Nothing happened.").axes
        assert axes.get_legend() is None

"""Distributions below each other."""

import pytest

from labsupport.charts import LabFigure, histograms, png

ROWS = [
    ("few", [1, 1, 2], "good", "mean 1.3"),
    ("many", [1, 2, 2, 2, 7], "alarm", "mean 2.8"),
]


def bars(figure):
    """Heights of the bars of all rows, in units of the highest."""
    heights = [-patch.get_height() for patch in figure.axes[0].patches]
    return [round(height / max(heights), 3) for height in heights]


def test_a_bar_for_each_whole_number():
    """Whole numbers have a bar each, and all rows have one scale."""
    figure = histograms(ROWS, title="Few or many", label="loads", alt="Two rows.")
    first, second = bars(figure)[:8], bars(figure)[8:]
    assert first == [0, 0.667, 0.333, 0, 0, 0, 0, 0]
    assert second == [0, 0.333, 1, 0, 0, 0, 0, 0.333]


def test_it_says_what_it_shows():
    """Names, remarks, the finding and the unit are in the figure; the alt text goes with it."""
    figure = histograms(ROWS, title="Few or many", label="loads", alt="Two rows.")
    axes = figure.axes[0]
    assert isinstance(figure, LabFigure)
    assert figure.alt == "Two rows."
    assert [text.get_text() for text in figure.texts] == ["Few or many"]
    assert axes.get_xlabel() == "loads"
    assert [text.get_text() for text in axes.get_yticklabels()] == ["few", "many"]
    assert [text.get_text() for text in axes.texts] == ["mean 1.3", "mean 2.8"]
    assert png(figure).startswith(b"\x89PNG")


@pytest.mark.parametrize("values", [[], [0], [0.0, 0.25]], ids=["none", "zero", "fractions"])
def test_odd_values(values):
    """A row without values, or with nothing but zeros, is drawn as well."""
    figure = histograms([("a", values, "work", "")], title="t", label="l", alt="a")
    assert len(png(figure)) > 0

"""A few values side by side."""

from labsupport.charts import ROLES, bar_chart

TEXTS = {
    "title": "Five times as fast",
    "label": "seconds",
    "alt": "Two bars, the upper five times as long as the lower.",
}
BARS = [("one by one", 1.185, "waiting"), ("pipelined", 0.251, "work")]


def test_every_bar_has_name_value_and_role():
    """A bar is as long as its value, which stands beside it, and looks like its role."""
    axes = bar_chart(BARS, **TEXTS).axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["one by one", "pipelined"]
    assert [bar.get_width() for bar in axes.patches] == [1.185, 0.251]
    assert [bar.get_hatch() for bar in axes.patches] == [
        ROLES["waiting"].hatch,
        ROLES["work"].hatch,
    ]
    assert [text.get_text() for text in axes.texts] == ["1.2", "0.25"]


def test_title_and_unit():
    """The title states the finding, and the axis has its unit."""
    figure = bar_chart(BARS, **TEXTS)
    assert [text.get_text() for text in figure.texts] == ["Five times as fast"]
    assert figure.axes[0].get_xlabel() == "seconds"


def test_shows_itself():
    """As a cell's last value it is a picture with a sentence for those who do not see it."""
    data, metadata = bar_chart(BARS, **TEXTS)._repr_mimebundle_()
    assert data["image/png"]
    assert metadata["image/png"]["alt"] == TEXTS["alt"]


def test_large_values_are_written_out():
    """Above a hundred a value keeps its digits: 5.4e+02 bytes say less than 544."""
    axes = bar_chart([("a", 99.4, "work"), ("b", 544.0, "work"), ("c", 12345.6, "work")], **TEXTS)
    assert [text.get_text() for text in axes.axes[0].texts] == ["99", "544", "12,346"]

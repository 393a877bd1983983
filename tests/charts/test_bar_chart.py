"""A few values side by side."""

from matplotlib.legend import Legend

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


def test_a_unit_behind_each_number():
    """Where it is given, a number and its unit stand beside the bar."""
    axes = bar_chart(BARS, **TEXTS, unit="s").axes[0]
    assert [text.get_text() for text in axes.texts] == ["1.2\u00a0s", "0.25\u00a0s"]


def test_a_key_says_what_the_colours_stand_for():
    """Where the names of the bars don't; it stands above them, between the title and the bars."""
    figure = bar_chart(BARS, **TEXTS, key={"waiting": "on the way", "work": "at work"})
    (key,) = figure.findobj(Legend)
    assert [text.get_text() for text in key.get_texts()] == ["on the way", "at work"]
    box, title = key.get_window_extent(), figure.texts[0].get_window_extent()
    assert figure.axes[0].get_window_extent().y1 < box.y0 < box.y1 < title.y0
    assert not bar_chart(BARS, **TEXTS).findobj(Legend)


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


def test_a_small_bar_is_seen():
    """What is more than nothing has a stub of its colour; nothing has none."""
    bars = [("a miss", 247.0, "waiting"), ("a hit", 0.12, "good"), ("none", 0.0, "good")]
    axes = bar_chart(bars, **TEXTS).axes[0]
    assert [bar.get_width() > 1 for bar in axes.patches] == [True, True, False]
    assert [text.get_text() for text in axes.texts] == ["247", "0.12", "0"]


def test_bars_of_a_group_stand_under_its_name():
    """A name before a colon is written once, above what it is about; the bars are beside their names."""
    names = ["lru: locks", "lru: pages", "ttl: locks", "ttl: pages"]
    axes = bar_chart([(name, 1.0, "work") for name in names], **TEXTS).axes[0]
    ticks = axes.get_yticklabels()
    words = ["lru", "locks", "pages", "ttl", "locks", "pages"]
    assert [tick.get_text() for tick in ticks] == words
    assert [tick.get_fontweight() == "bold" for tick in ticks] == [
        word in words[::3] for word in words
    ]
    assert [round(bar.get_y() + bar.get_height() / 2) for bar in axes.patches] == [1, 2, 4, 5]


def test_a_colon_alone_makes_no_group():
    """One of a kind keeps its whole name, and so does what does not stand together."""
    for names in (["hash: tokens", "string: full at"], ["a: x", "b: x", "a: y"], ["a: x", "a: y"]):
        axes = bar_chart([(name, 1.0, "work") for name in names], **TEXTS).axes[0]
        assert [tick.get_text() for tick in axes.get_yticklabels()] == names

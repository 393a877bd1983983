"""Schematics: whatever the words, each is in its box, no two overlap, and none leaves the sheet."""

import itertools

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.patches import FancyArrowPatch, Rectangle
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from labsupport.charts import ROLES, LabFigure, flow, timeline

WORDS = [
    "held",
    "goes on without a lease",
    "a load that is slower than its lease, or one whose process is killed before its fill",
]
TEXTS = {"title": "A lease ends once", "alt": "Three rows of bars over time."}


def leases(text: str) -> LabFigure:
    """Two rows; in the first, three moments close to each other, the last at the very end."""
    spans = [(0, 0, 4, text, "work"), (0, 4, 10, text, "gone"), (1, 3, 3.5, text, "good")]
    marks = [(0, 3.5, text, "tail"), (0, 4, text, "waiting"), (0, 10, text, "second")]
    marks += [(-1, 2, text, "limit"), (-1, 9, text, "limit")]
    return timeline(["used", text], spans, marks, **TEXTS)


def fence(text: str) -> LabFigure:
    """Arrows along a row, across corners, and down a column."""
    boxes = {
        "lock": ((1, 0, 0), text, "waiting"),
        "ada": ((0, 1, 1), text, "gone"),
        "bob": ((2, 1, 1), text, "work"),
        "row": ((1, 2, 2), text, "good"),
        "note": ((3, 0, 2), text, "tail"),
    }
    pairs = [("lock", "ada"), ("lock", "bob"), ("bob", "row"), ("ada", "row"), ("note", "bob")]
    return flow(boxes, [(*pair, text, "work") for pair in pairs], **TEXTS)


FIGURES = [leases, fence]


def extents(figure: LabFigure, kind: type) -> dict[str, Bbox]:
    """The boxes of all artists of a kind that show something, in pixels, with a name for each."""
    FigureCanvasAgg(figure).draw()
    found = [one for one in figure.findobj(kind) if one not in (figure.patch, figure.axes[0].patch)]
    words = [one.get_text() if isinstance(one, Text) else "" for one in found]
    return {
        f"{number} {word}": one.get_window_extent()
        for number, (one, word) in enumerate(zip(found, words, strict=True))
        if word.strip() or not isinstance(one, Text)
    }


def assert_apart(boxes: dict[str, Bbox]) -> None:
    for (one, first), (two, second) in itertools.combinations(boxes.items(), 2):
        over_x = min(first.x1, second.x1) - max(first.x0, second.x0)
        over_y = min(first.y1, second.y1) - max(first.y0, second.y0)
        assert over_x <= 1 or over_y <= 1.5, f"{one!r} and {two!r} overlap"


def frames(figure: LabFigure) -> dict[str, Bbox]:
    """The boxes with a border, without the strips in them."""
    boxes = extents(figure, Rectangle)
    return dict(itertools.islice(boxes.items(), 0, None, 2))


@pytest.mark.long
@pytest.mark.parametrize("text", WORDS)
@pytest.mark.parametrize("draw", FIGURES)
def test_nothing_is_cut_and_nothing_overlaps(draw, text) -> None:
    """Texts lie apart, and so do boxes; all of it is on the sheet."""
    figure = draw(text)
    texts, boxes = extents(figure, Text), frames(figure)
    assert_apart(texts)
    assert_apart(boxes)
    width, height = figure.get_size_inches() * figure.dpi
    for name, box in (texts | boxes).items():
        assert box.x0 >= -0.5, name
        assert box.y0 >= -0.5, name
        assert box.x1 <= width + 0.5, name
        assert box.y1 <= height + 0.5, name


@pytest.mark.parametrize("draw", FIGURES)
def test_words_are_in_their_boxes(draw) -> None:
    """What stands in a box doesn't run over its border."""
    figure = draw(WORDS[1])
    boxes = frames(figure).values()
    for name, text in extents(figure, Text).items():
        for box in boxes:
            if box.contains((text.x0 + text.x1) / 2, (text.y0 + text.y1) / 2):
                assert box.x0 <= text.x0, name
                assert text.x1 <= box.x1 + 1, name
                assert box.y0 <= text.y0, name
                assert text.y1 <= box.y1, name


@pytest.mark.parametrize("draw", FIGURES)
def test_every_word_is_written(draw) -> None:
    """As often as it was given, even where a bar is too narrow for it."""
    written = [text.get_text().replace("\n", " ") for text in draw(WORDS[1]).findobj(Text)]
    assert written.count(WORDS[1]) == {leases: 9, fence: 10}[draw]


@pytest.mark.parametrize("draw", FIGURES)
def test_roles_title_and_alt_text(draw) -> None:
    """A box has the colour and the hatch of its role; the figure has its title and alt text."""
    figure = draw("held")
    assert [text.get_text() for text in figure.texts] == [TEXTS["title"]]
    assert figure.alt == TEXTS["alt"]
    roles = {leases: ["work", "gone", "good"], fence: ["waiting", "gone", "work", "good", "tail"]}
    patches = [one for one in figure.axes[0].patches if isinstance(one, Rectangle)]
    strips = [(to_hex(strip.get_facecolor()), strip.get_hatch() or "") for strip in patches[1::2]]
    looks = [ROLES[role] for role in roles[draw]]
    assert strips == [(look.colour.lower(), look.hatch) for look in looks]
    arrows = [one for one in figure.axes[0].patches if isinstance(one, FancyArrowPatch)]
    assert len(arrows) == {leases: 1, fence: 5}[draw]

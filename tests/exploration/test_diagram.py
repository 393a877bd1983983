"""The sequence diagram: whatever the steps are called, each label is whole and can be read."""

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from labsupport.charts import ALARM, CLIENTS, INK, MUTED
from labsupport.charts.style import legible, legible_on, luminance, number
from labsupport.exploration.diagram import Diagram, draw
from labsupport.explorer import Step
from tests.charts.test_sheet import EXTREMES_FIRST, LONG, SLIDE, check

CLAUSE = "AND fence_of_the_last_writer <= 7"
UPDATE = f"UPDATE products SET stock = stock - 1, price_cents = price_cents WHERE id = 1 {CLAUSE}"
NAMES = {
    "one": ["ada"],
    "two": ["ada", "bob"],
    "long": [LONG, "stale while revalidate", "cleo"],
    "five": ["ada", "bob", "cleo", "dan", "eve"],
}


def schedule(clients: list[str], value: int) -> list[Step]:
    first, last = clients[0], clients[-1]
    written = number(value)
    return [
        Step(first, "step", f"GET visits:{written}", written),
        Step(last, "step", f"SET lock:kettle ‹token 1› NX PX {written}", "OK"),
        Step("redis", "expire", f"lock:{LONG}"),
        Step(last, "step", UPDATE, written, "database"),
        Step("time", "pass", f"{written} s"),
        Step(first, "lose", f"EVALSHA take_one stock:{written} lock:kettle:fence", "OK"),
        Step(first, "timeout", "BLPOP jobs 5"),
        Step(last, "crash", UPDATE, "", "database"),
        Step(first, "stuck", f"SET lock:kettle {written} NX"),
    ]


def diagram(clients: list[str], value: int = 10_000, reason: str = LONG) -> Diagram:
    return draw(schedule(clients, value), clients, reason, "6 interleavings, 4 break the invariant")


def texts(found: Diagram) -> list[Text]:
    FigureCanvasAgg(found.figure).draw()
    return [one for one in found.figure.findobj(Text) if isinstance(one, Text) and one.get_text()]


@pytest.mark.long
@pytest.mark.parametrize("value", EXTREMES_FIRST)
@pytest.mark.parametrize("names", NAMES)
def test_nothing_is_cut_and_nothing_overlaps(names: str, value: int) -> None:
    """All texts lie in the figure, apart from one another."""
    check(diagram(NAMES[names], value, f"{LONG}; {LONG}; {LONG}").figure)


def test_many_steps_stand_closer() -> None:
    """Fifteen and more keep four fifths of their size on a slide; those with a sign are apart, too."""
    steps = [Step(NAMES["two"][at % 2], "step", f"GET visits:{at}", "1") for at in range(17)]
    figure = draw(steps, NAMES["two"], "Two pay", "145 interleavings").figure
    assert figure.get_size_inches()[1] * 0.8 <= SLIDE
    check(figure)
    check(draw(3 * schedule(NAMES["two"], 1), NAMES["two"], LONG, "145 interleavings").figure)


@pytest.mark.parametrize("names", ["one", "two"])
def test_a_label_ends_before_the_lifeline_where_its_arrow_goes(names: str) -> None:
    """No letter lies on the store's line, and a ground keeps all other lines out of the letters."""
    found = diagram(NAMES[names])
    labels = {" ".join(one.get_text().split()): one for one in texts(found)}
    redis = labels["Redis"].get_window_extent()
    for text in (
        "GET visits:10,000 → 10,000",
        "SET lock:kettle ‹token 1› NX PX 10,000 → OK",
        "EVALSHA take_one stock:10,000 lock:kettle:fence → OK, and the reply is lost",
    ):
        assert labels[text].get_window_extent().x1 < (redis.x0 + redis.x1) / 2 - 5, text
        assert labels[text].get_bbox_patch().get_facecolor() == (1, 1, 1, 1)


@pytest.mark.parametrize("names", NAMES)
def test_every_clause_is_whole(names: str) -> None:
    """A long statement takes more lines; its last clause is what often decides."""
    found = [" ".join(one.get_text().split()) for one in texts(diagram(NAMES[names]))]
    assert f"{UPDATE} → 10,000" in found
    assert f"crashes before {UPDATE}" in found


@pytest.mark.parametrize("width", range(8, 40))
def test_no_line_is_three_dots_or_ends_with_an_arrow(width: int) -> None:
    """Wherever a label is folded, what is left out follows a word, and a reply its arrow."""
    command = f"SELECT * FROM products WHERE name = '{'x' * width}'"
    steps = [Step("ada", "step", command, "1, Brass Kettle, 2495, …", "database")]
    (label,) = [one for one in texts(draw(steps, ["ada"], LONG, "1")) if "SELECT" in one.get_text()]
    lines = label.get_text().split("\n")
    assert not any(line == "…" or line.endswith("→") for line in lines)


def test_the_finding_is_the_title() -> None:
    """What is wrong stands above how many orders there are."""
    told = "When all have finished, this does not hold: "
    for reason, title in (
        (f"{told}Two visits make the counter two", "Broken: Two visits make the counter two"),
        (f"{told}the invariant holds", "The invariant does not hold"),
        ("bob raised KeyError: 1", "bob raised KeyError: 1"),
    ):
        figure = diagram(["ada"], reason=reason).figure
        assert [text.get_text() for text in figure.texts] == [
            title,
            "6 interleavings, 4 break the invariant",
        ]


def test_it_has_the_margins_of_a_chart() -> None:
    """Its title begins where a chart's does, and no text comes nearer to an edge than that."""
    found = diagram(["ada", "bob"])
    boxes = [text.get_window_extent() for text in texts(found)]
    width = found.figure.bbox.width
    assert width == 960
    assert min(box.x0 for box in boxes) >= 29
    assert max(box.x1 for box in boxes) <= width - 29


def test_each_step_has_its_band() -> None:
    """The bands lie one below the other, inside the picture; the stepper marks them."""
    bands = diagram(["ada", "bob"]).bands
    assert len(bands) == 9
    edges = [round(edge, 9) for band in bands for edge in band]
    assert edges == sorted(edges)
    assert 0 < edges[0] < edges[-1] < 1


def test_the_alt_text_tells_the_steps() -> None:
    """Who does not see the picture gets the schedule."""
    alt = diagram(["ada"]).figure.alt
    assert alt.startswith("Sequence diagram. 6 interleavings, 4 break the invariant. ")
    assert " 1. ada: GET visits:10,000 → 10,000. 2. ada: SET " in alt


@pytest.mark.parametrize("colour", [MUTED, ALARM, *(colour for colour, _ in CLIENTS)])
def test_names_have_contrast_on_their_colour(colour: str) -> None:
    """At least 4.5 : 1, as WCAG 2.1 asks of text (1.4.3)."""
    low, high = sorted([luminance(colour), luminance(legible_on(colour))])
    assert (high + 0.05) / (low + 0.05) >= 4.5
    assert legible_on(INK) == "white"
    assert 1.05 / (luminance(legible(colour)) + 0.05) >= 4.5

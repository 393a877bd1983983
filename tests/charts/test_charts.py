"""Charts: the numbers that are drawn are right, and they can be read by everyone."""

import base64
import io
import itertools
import random
import signal
import time
import weakref
from pathlib import Path

import matplotlib
import nbformat
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.text import Text
from PIL import Image

from labsupport import charts
from labsupport.charts import (
    ROLES,
    Bars,
    Chart,
    LabFigure,
    LiveChart,
    Part,
    Place,
    Plot,
    Quantiles,
    Run,
    Size,
    count_per_span,
    draw_comparison,
    most_at_once,
    png,
    style,
)
from labsupport.charts.picture import FrameEncoder
from labsupport.charts.style import legible
from labsupport.history import History, Recorder, Rows
from tools.notebooks import clean

MS = 1_000_000


@pytest.fixture
def run(tmp_path: Path) -> tuple[Recorder, History]:
    recorder, history = Recorder(tmp_path / "0"), History()
    history.add(tmp_path / "0", process=0)
    history.origin_ns = time.monotonic_ns()
    return recorder, history


def request(run: tuple[Recorder, History], start_ms: float, took_ms: float) -> None:
    recorder, history = run
    start = history.origin_ns + int(start_ms * MS)
    recorder.record("request", 0, start, start + int(took_ms * MS), 1.0)


def plots() -> list[Plot]:
    def loads(history: History, span_ns: int) -> np.ndarray:
        starts = history.select("request")["start_ns"] - history.origin_ns
        return count_per_span(starts, span_ns=span_ns, until_ns=history.elapsed_ns)

    def most(history: History, span_ns: int) -> np.ndarray:
        return np.maximum(loads(history, span_ns) - 1, 0)

    def one(history: History, span_ns: int) -> np.ndarray:
        return np.minimum(loads(history, span_ns), 1)

    parts = (Part("needed", "work", one), Part("needless", "alarm", most))
    return [
        Bars("loads per 50 ms", parts, noun=("load", "loads"), top=4),
        Quantiles("latency (ms)", "request"),
    ]


def test_most_at_once_is_what_a_sweep_finds() -> None:
    """For random intervals, some of them open, each span has its highest moment."""
    chance = random.Random(1)
    for _ in range(300):
        starts = [chance.randrange(200) for _ in range(chance.randrange(12))]
        ends = [start + chance.randrange(1, 60) for start in starts if chance.random() < 0.8]
        found = most_at_once(np.array(starts, "i8"), np.array(ends, "i8"), span_ns=20, until_ns=300)
        level = [
            sum(start <= t for start in starts) - sum(end <= t for end in ends)
            for t in range(len(found) * 20)
        ]
        assert found.tolist() == [max(level[at : at + 20]) for at in range(0, len(level), 20)]


def test_intervals_that_touch_do_not_overlap() -> None:
    """One load after another is one at a time."""
    times = np.arange(0, 100, 10)
    found = most_at_once(times, times + 10, span_ns=25, until_ns=99)
    assert found.tolist() == [1, 1, 1, 1, 0]


def test_counts_per_span_reach_to_the_end() -> None:
    """A span without events counts none."""
    found = count_per_span(np.array([0, 49, 50, 120]), span_ns=50, until_ns=200)
    assert found.tolist() == [2, 1, 1, 0, 0]


def test_quantiles_grow_to_the_same_lines(run: tuple[Recorder, History]) -> None:
    """Taking events in bit by bit draws what taking them in at once does; long ones fill spans."""
    live, whole = Quantiles("latency (ms)", "request"), Quantiles("latency (ms)", "request")
    for plot in (live, whole):
        plot.prepare(Figure().add_subplot())
    chance = random.Random(2)
    for _ in range(30):
        for _ in range(20):
            request(run, chance.uniform(0, 900), chance.choice([1, 3, 5, 170]))
        live.add(run[1].read(), run[1])
        live.show()
    whole.add(run[1].rows(), run[1])
    whole.show()
    for one, other in zip(live._lines, whole._lines, strict=True):
        np.testing.assert_array_equal(one.get_xydata(), other.get_xydata())
    frame = run[1].frame()
    inside = frame[(frame.start_seconds < 0.35) & (frame.end_seconds >= 0.3)]
    took = (inside.end_seconds - inside.start_seconds) * 1000
    at = np.argmin(np.abs(np.asarray(whole._lines[1].get_xdata()) - 0.325))
    assert whole._lines[1].get_ydata()[at] == pytest.approx(took.median())  # type: ignore[index]


def test_a_slow_answer_shows_while_nothing_else_happens(run: tuple[Recorder, History]) -> None:
    """A request counts in each span that it touches, so a standstill is no gap."""
    plot = Quantiles("latency (ms)", "request")
    plot.prepare(Figure().add_subplot())
    request(run, 0, 1000)
    plot.add(run[1].read(), run[1])
    plot.show()
    assert np.asarray(plot._lines[0].get_ydata()).tolist() == [1000.0] * 21


def test_quick_requests_are_on_the_axis(run: tuple[Recorder, History]) -> None:
    """A median below the first decade moves the axis down, so that its line and its name are seen."""
    plot = Quantiles("latency (ms)", "request")
    axes = Figure().add_subplot()
    plot.prepare(axes)
    for start in range(100):
        request(run, start, 0.03)
    plot.add(run[1].read(), run[1])
    assert plot.show()
    plot.finish()
    assert axes.get_ylim() == (pytest.approx(0.01), 1000)
    assert not plot.show()


@pytest.fixture
def figures(run: tuple[Recorder, History]) -> list[LabFigure]:
    chance = random.Random(3)
    for _ in range(300):
        request(run, chance.uniform(0, 1900), chance.choice([0.5, 1, 800]))
    history = run[1]
    history.read()
    chart = Chart(plots(), seconds=2, title="", subtitle="naive: 40 clients")
    chart.add(history.rows(), history)
    finished = chart.finish(
        "All 40 clients query the database at once", "All clients query at once."
    )
    runs = [Run(name, history, plots()) for name in ("naive", "single_flight")]
    both = draw_comparison(
        runs, seconds=2, title="40 and 1", subtitle="40 clients", alt="40 and 1."
    )
    return [finished, both]


def test_text_has_three_sizes_and_stays_in_the_figure(figures: list[LabFigure]) -> None:
    """No more than three sizes, none small, nothing cut off."""
    for figure in figures:
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        texts = [
            text
            for text in figure.findobj(Text)
            if isinstance(text, Text) and text.get_text() and text.get_visible()
        ]
        sizes = {text.get_fontsize() for text in texts}
        assert len(sizes) <= 3
        assert min(sizes) >= 11
        width, height = canvas.get_width_height()
        for axes in figure.axes:
            for label in (*axes.texts, axes.yaxis.label, axes.xaxis.label, axes.title):
                box = label.get_window_extent()
                assert box.x0 >= 0, label
                assert box.x1 <= width, label
                assert box.y0 >= 0, label
                assert box.y1 <= height, label


def test_axes_are_labelled_with_units(figures: list[LabFigure]) -> None:
    """Each plot says what it shows; the time axis says seconds."""
    finished, both = figures
    assert [axes.get_ylabel() for axes in finished.axes] == ["loads per 50 ms", "latency (ms)"]
    assert finished.axes[-1].get_xlabel() == "seconds since the start"
    assert [axes.get_ylabel() for axes in both.axes[:2]] == ["loads per 50 ms", "latency (ms)"]


def test_a_comparison_has_the_same_axes_for_all(figures: list[LabFigure]) -> None:
    """Each column shares its limits."""
    axes = figures[1].axes
    for one, other in ((0, 2), (1, 3)):
        assert axes[one].get_xlim() == axes[other].get_xlim()
        assert axes[one].get_ylim() == axes[other].get_ylim()


def test_a_comparison_cuts_no_run_off(run: tuple[Recorder, History], tmp_path: Path) -> None:
    """The axes reach as far as the slowest and the quickest run need, wherever these stand."""
    for start in range(100):
        request(run, start, 5000 if start == 7 else 0.03)
    run[1].read()
    calm = History()
    calm.add(tmp_path / "1", process=0)
    calm.origin_ns = run[1].origin_ns
    recorder = Recorder(tmp_path / "1")
    recorder.record("request", 0, calm.origin_ns, calm.origin_ns + 5 * MS, 1.0)
    calm.read()
    runs = [Run(name, one, plots()) for name, one in (("a", calm), ("b", run[1]), ("c", calm))]
    both = draw_comparison(runs, seconds=2, title="T", subtitle="s", alt="An alt.")
    for axes in both.axes[1::2]:
        assert axes.get_ylim() == (pytest.approx(0.01), pytest.approx(10_000))


def test_a_label_stands_clear_of_the_axis(run: tuple[Recorder, History]) -> None:
    """Also that of a bar at the very start of narrow axes."""
    request(run, 0, 1)
    run[1].read()
    runs = [Run(name, run[1], plots()) for name in ("naive", "fixed")]
    both = draw_comparison(runs, seconds=60, title="T", subtitle="s", alt="An alt.")
    both.draw_without_rendering()
    for axes in both.axes[::2]:
        (label,) = axes.texts
        assert label.get_window_extent().x0 >= axes.get_window_extent().x0 + 3


def test_colours_of_bars_are_explained(figures: list[LabFigure]) -> None:
    """A key names the parts that there are: beside a run's bars, and once above those of several."""
    finished, both = figures
    for figure in (finished, both):
        texts = [text.get_text() for key in figure.findobj(Legend) for text in key.get_texts()]
        assert [text for text in texts if text.startswith("need")] == ["needless", "needed"]


def test_the_quantiles_of_all_requests_are_no_label_of_a_line(figures: list[LabFigure]) -> None:
    """Their values stand under a title that says of what they are."""
    for figure, runs in zip(figures, (1, 2), strict=True):
        titled = [key for key in figure.findobj(Legend) if key.get_title().get_text()]
        assert [key.get_title().get_text() for key in titled] == ["all requests:"] * runs
        assert {text.get_text()[:4] for key in titled for text in key.get_texts()} == {
            "p99 ",
            "p50 ",
        }
        assert not figure.axes[1].texts


@pytest.mark.long
@pytest.mark.parametrize("columns", [1, 2, 3, 4, 5])
def test_a_comparison_is_narrow(run: tuple[Recorder, History], columns: int) -> None:
    """Its letters have 12 pixels and more where the page has 1,008, however many kinds of plots."""
    request(run, 0, 10)
    run[1].read()
    runs = [Run(name, run[1], (plots() * 3)[:columns]) for name in ("naive", "fixed")]
    figure = draw_comparison(runs, seconds=2, title="T", subtitle="s", alt="An alt.")
    assert len(figure.axes) == 2 * columns
    figure.draw_without_rendering()
    titled = [axes for axes in figure.axes if axes.get_ylabel()]
    labels = [axes.yaxis.label.get_window_extent() for axes in titled]
    times = [axes.xaxis.label.get_window_extent() for axes in figure.axes if axes.get_xlabel()]
    assert len(labels) == columns
    assert len(times) == min(columns, 2)  # at the bottom only
    heights = {round(label.y0) for label in labels}
    assert len(heights) == columns // 2 + columns % 2  # those of a band stand beside each other
    for one, other in itertools.combinations([*labels, *times], 2):
        assert not one.overlaps(other)
    inches = figure.get_size_inches()[0]
    assert Size.NOTE / 72 * 1008 / inches >= 12
    boxes = [axes.get_position() for axes in figure.axes]
    assert len({round(box.x0, 3) for box in boxes}) <= 2


def test_no_line_of_the_grid_runs_through_a_number() -> None:
    """Neither through that of the highest bar nor through those of a bar chart."""
    bars = [("a", 47.8, "work"), ("b", 50.0, "work")]
    figure = charts.bar_chart(bars, title="T", label="ms", alt="An alt.", unit="ms")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    label = next(one for one in figure.axes[0].texts if one.get_text().startswith("48"))
    box = label.get_window_extent()
    pixels = np.asarray(canvas.buffer_rgba())[:, :, :3]
    beneath = pixels[
        -int(box.y0) : -int(box.y0) + 1, int(box.x0) : int(box.x1)
    ]  # below the letters
    assert (beneath == 255).all()


def test_the_highest_bar_says_its_number(figures: list[LabFigure], run: object) -> None:
    """The direct label holds the total and the needless part."""
    label = next(text.get_text() for text in figures[0].axes[0].texts)
    total, needless = (int(word) for word in label.replace(",", "").split() if word.isdigit())
    assert total == needless + 1
    assert label.endswith("needless")


@pytest.mark.parametrize("inches", [8.03, 8.04, 8.12, 8.2, 8.28])
def test_a_picture_is_as_wide_as_its_canvas(inches: float) -> None:
    """An upright line stays upright where the inches times the dots are one dot less than the canvas."""
    figure = Figure(figsize=(inches, 2))
    figure.add_artist(Line2D([0.5, 0.5], [0, 1], color="black", linewidth=3))
    image = np.asarray(Image.open(io.BytesIO(png(figure))).convert("L"))
    assert np.ptp(image.argmin(axis=1)) == 0


def test_pictures_are_opaque_white(figures: list[LabFigure]) -> None:
    """They can be read in a dark theme."""
    image = np.asarray(Image.open(io.BytesIO(png(figures[0], dpi=50))).convert("RGBA"))
    assert image[..., 3].min() == 255
    assert image[0, 0].tolist() == [255, 255, 255, 255]


def test_a_small_mark_keeps_its_colour() -> None:
    """The palette is made of few pixels; what covers little is among them."""
    figure = LabFigure(figsize=(9.6, 5))
    axes = figure.add_axes((0.1, 0.1, 0.8, 0.8))
    axes.barh(range(4), [1, 2, 3, 4], color=["#0072B2", "#009E73", "#CC79A7", "#56B4E9"])
    axes.plot([3.5], [0.0], marker="o", markersize=4, color="#E69F00")
    for at in range(8):  # what else wants a place in the palette
        axes.text(at / 2, 0.5, "label", color=str(at / 10), rotation=at)
    image = np.asarray(Image.open(io.BytesIO(png(figure))).convert("RGB")).astype(int)
    for colour in ("#E69F00", "#0072B2", "#009E73", "#CC79A7"):
        due = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
        assert np.abs(image - due).max(axis=-1).min() <= 4, colour


def test_a_word_has_its_colour_in_every_picture() -> None:
    """Whatever else is in a picture, the names in a key are as they were chosen."""
    for crowd in (0, 300):
        figure = LabFigure(figsize=(6, 2))
        figure.text(
            0.1, 0.5, "waits", color=legible(ROLES["waiting"].colour), size=13, weight="bold"
        )
        for at in range(crowd):
            shade = (at / crowd, 0.5, 1 - at / crowd)
            figure.add_artist(Line2D([at / crowd] * 2, [0, 0.3], color=shade, linewidth=2))
        image = np.asarray(Image.open(io.BytesIO(png(figure))).convert("RGB")).astype(int)
        due = np.round(255 * np.array(to_rgb(legible(ROLES["waiting"].colour))))
        assert np.abs(image - due).max(axis=-1).min() <= 1


def test_a_frame_is_the_canvas_pixel_for_pixel(figures: list[LabFigure]) -> None:
    """The lab's own PNG writer loses nothing, whatever it keeps of the frame before."""
    canvas = FigureCanvasAgg(figures[0])
    encoder = FrameEncoder()
    for title in ("one", "two", "two"):
        figures[0].texts[0].set_text(title)
        canvas.draw()
        image = Image.open(io.BytesIO(encoder.encode(canvas)))
        image.load()
        np.testing.assert_array_equal(np.asarray(image), np.asarray(canvas.buffer_rgba()))


def test_a_picture_carries_its_alt_text_and_size(figures: list[LabFigure]) -> None:
    """Twice the pixels on the same room, a sentence for screen readers, stable text for CI."""
    data, metadata = figures[0]._repr_mimebundle_()
    assert data["text/plain"].startswith("<LabFigure size 960x")
    assert metadata["image/png"]["alt"] == "All clients query at once."
    image = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    assert image.width == 2 * metadata["image/png"]["width"]


def test_roles_have_a_second_cue() -> None:
    """Nothing is told by colour alone: lines differ in dashes, areas in hatch."""
    assert ROLES["median"].dashes != ROLES["tail"].dashes
    assert ROLES["work"].hatch != ROLES["alarm"].hatch
    looks = {(role.colour, role.marker, role.dashes, role.hatch) for role in ROLES.values()}
    assert len(looks) >= len(ROLES) - 1


@pytest.mark.parametrize("colour", [charts.INK, charts.MUTED, ROLES["median"].colour])
def test_text_has_contrast_on_white(colour: str) -> None:
    """At least 4.5 : 1, as WCAG 2.1 asks of text (1.4.3)."""
    parts = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    luminance = np.dot([0.2126, 0.7152, 0.0722], parts)
    assert 1.05 / (luminance + 0.05) >= 4.5


def test_style_gives_back_what_was_set() -> None:
    """The learner's own plots look as before."""
    before = dict(matplotlib.rcParams)
    with style():
        pass
    assert dict(matplotlib.rcParams) == before


def live(history: History) -> LiveChart:
    return LiveChart(plots(), seconds=2, title="naive, so far", subtitle="", place=Place("naive"))


def test_a_live_chart_has_its_key(run: tuple[Recorder, History]) -> None:
    """From its first frame on, also of what may not come; it is drawn once, with the background."""
    chart = live(run[1])
    keys = [axes.get_legend() for axes in chart._chart.figure.axes]
    names = [[text.get_text() for text in key.get_texts()] for key in keys if key]
    assert names == [["needless", "needed"], ["p99", "p50"]]
    assert not any(key.get_animated() for key in keys if key)


def pixels(chart: LiveChart) -> np.ndarray:
    return np.asarray(chart._canvas.buffer_rgba()).copy()


def test_a_live_chart_moves(run: tuple[Recorder, History]) -> None:
    """Each frame shows the new events and where the run is."""
    chart = live(run[1])
    empty = pixels(chart)
    request(run, 10, 300)
    run[1].read()
    chart.draw(run[1])
    first = pixels(chart)
    for _ in range(3):
        request(run, 900, 30)
    run[1].read()
    chart.draw(run[1])
    assert (empty != first).any()
    assert (first != pixels(chart)).any()
    assert chart.frames == 3


def test_a_live_chart_takes_its_time(run: tuple[Recorder, History]) -> None:
    """However often it is asked, it draws a dozen frames a second at the most."""
    begin = time.monotonic()
    chart = live(run[1])
    assert chart._due > begin  # it has just drawn one
    while time.monotonic() < begin + 0.5:
        chart.tick(run[1])
    assert chart.frames <= 2 + 12 * (time.monotonic() - begin)


class Collects(Quantiles):
    """While it is drawn, something is collected, and Interrupt comes in that callback."""

    def add(self, rows: Rows, history: History) -> None:
        chosen = np.arange(3)
        self._gone = weakref.ref(chosen, lambda _: signal.raise_signal(signal.SIGINT))
        del chosen
        super().add(rows, history)


def test_an_interrupt_is_not_lost_in_a_frame(run: tuple[Recorder, History]) -> None:
    """Python drops what is raised in a callback of the collector; so it is raised after the frame."""
    plot = Collects("latency (ms)", "request", bottom_ms=0.1, top_ms=1000.0)
    chart = LiveChart([plot], seconds=2, title="naive", subtitle="", place=Place("naive"))
    chart._due = 0.0
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            chart.tick(run[1])
    finally:
        signal.signal(signal.SIGINT, before)
    assert chart.frames == 2  # the one that it began with, and this one


def test_a_live_frame_is_what_a_full_drawing_shows(run: tuple[Recorder, History]) -> None:
    """The kept background hides nothing and leaves nothing behind."""
    chart = live(run[1])
    for at in range(0, 1500, 100):
        request(run, at, 40)
        run[1].read()
        chart.draw(run[1])
    blitted = pixels(chart)
    for artist in chart._moving:
        artist.set_animated(False)
    chart._canvas.draw()
    differing = (blitted != pixels(chart)).any(axis=2).mean()
    assert differing < 0.01  # only what is drawn over or under the axes' lines


def test_the_time_axis_grows_with_a_long_run(run: tuple[Recorder, History]) -> None:
    """It is never too short while the run goes on, and stays as it is when it is being ended."""
    chart = live(run[1])
    run[1].origin_ns -= 3_000_000_000
    chart.draw(run[1])
    assert chart._chart.seconds >= 3
    chart.hold()
    run[1].origin_ns -= 30_000_000_000
    chart.draw(run[1])
    assert chart._chart.seconds < 30


def test_a_run_that_was_stopped_says_so(run: tuple[Recorder, History]) -> None:
    """The last frame has what was drawn, and another title."""
    chart = live(run[1])
    request(run, 10, 300)
    run[1].read()
    chart.draw(run[1])
    last = pixels(chart)
    chart.stop("naive was stopped")
    rows = np.flatnonzero((last != pixels(chart)).any(axis=(1, 2)))
    assert len(rows)
    assert rows.max() < 60, "only the title has changed"
    stopped = pixels(chart)
    chart._draw_background()
    chart._draw_frame()
    assert (stopped == pixels(chart)).all(), "as if all had been drawn anew"
    assert chart._chart.figure.texts[0].get_text() == chart._alt[:-1] == "naive was stopped"


def test_nothing_is_displayed_outside_a_notebook(
    run: tuple[Recorder, History], capsys: pytest.CaptureFixture[str]
) -> None:
    """In a script or a test a live chart is silent."""
    live(run[1]).draw(run[1])
    assert capsys.readouterr().out == ""


def test_a_saved_picture_takes_no_more_room_than_it_must():
    """What is drawn in haste is packed once, when its notebook is saved; not a pixel changes."""
    drawn, picture = io.BytesIO(), Image.radial_gradient("L").quantize(8)
    picture.save(drawn, "png", compress_level=0)
    text = base64.b64encode(drawn.getvalue()).decode()
    output = nbformat.v4.new_output("display_data", {"image/png": text})
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("", outputs=[output])])
    clean(notebook)
    saved = base64.b64decode(notebook.cells[0].outputs[0].data["image/png"])
    assert len(saved) < len(drawn.getvalue()) / 2
    assert Image.open(io.BytesIO(saved)).tobytes() == picture.tobytes()

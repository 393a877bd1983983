"""The panel: runs in a thread, is stopped in the middle, says what is wrong, keeps its results."""

import json
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel
from matplotlib import get_data_path
from nbclient import NotebookClient
from PIL import ImageFont

from labsupport.errors import InvalidSettingError
from labsupport.experiments import panel as panels
from labsupport.experiments.panel import ControlPanel
from labsupport.labs.cache_aside import ThunderingHerd
from labsupport.labs.pubsub import LostMessages
from labsupport.labs.redis_outage import Outage
from labsupport.labs.write_behind import WriteBehindCrash
from tools.notebooks import clean, problems

PATIENCE = 60.0


def naive(redis: Any, key: str, load: Callable[[], Any], ttl: float) -> Any:
    cached = redis.get(key)
    if cached is None:
        cached = json.dumps(load())
        redis.set(key, cached, px=int(ttl * 1000))
    return json.loads(cached)


def other(redis: Any, key: str, load: Callable[[], Any], ttl: float) -> Any:
    return naive(redis, key, load, ttl)


def broken(redis: Any, key: str, load: Callable[[], Any], ttl: float) -> Any:
    raise ValueError("no")


@pytest.fixture
def panel(monkeypatch: pytest.MonkeyPatch) -> ControlPanel:
    herd = ThunderingHerd(clients=4, processes=2, seconds=0.6, ttl_seconds=0.2)
    made = herd.panel(naive=naive, other=other, broken=broken)
    said: list[str] = []
    monkeypatch.setattr(made, "_say", said.append)
    monkeypatch.setattr(made, "said", said, raising=False)
    return made


def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def choose(panel: Any, name: str) -> None:
    panel._choice.value = name


def test_a_list_for_a_choice() -> None:
    """A knob that is one of a few words offers these, and begins where the experiment is."""
    crash = WriteBehindCrash(persistence="always")
    made: Any = crash.panel(naive=dict)
    assert list(made._knobs) == ["persistence", "processes", "seconds"]
    assert made._knobs["persistence"].options == ("no", "everysec", "always")
    assert made._knobs["persistence"].value == "always"


def test_a_slider_for_each_knob(panel: Any) -> None:
    """It begins where the experiment is, within its range, and reaches some times as far."""
    assert list(panel._knobs) == ["clients", "seconds", "ttl_seconds", "processes"]
    clients, ttl = panel._knobs["clients"], panel._knobs["ttl_seconds"]
    assert (clients.value, clients.min, clients.max) == (4, 2, 20)
    assert (ttl.value, ttl.min, ttl.max) == (0.2, 0.05, 1.0)


@pytest.mark.parametrize("experiment", [LostMessages(), WriteBehindCrash(), Outage()])
def test_a_knob_has_room_for_its_name(experiment: Any) -> None:
    """Also for one with wide letters, in a font that is wider than most."""
    font = ImageFont.truetype(str(Path(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), 100)
    for control in experiment.panel(naive=dict)._knobs.values():
        ems = float(control.style.description_width.removesuffix("em"))
        assert font.getlength(control.description) / 100 + 0.1 < ems


def test_a_slider_shows_its_least_value() -> None:
    """Where that is a few thousandths, they are seen."""
    made: Any = Outage(pace_seconds=0.01).panel(naive=lambda connect, load: load)
    assert made._knobs["pace_seconds"].min == 0.005
    assert made._knobs["pace_seconds"].readout_format == ".3f"
    assert made._knobs["away_seconds"].readout_format == ".2f"


def test_runs_with_the_settings_of_the_sliders(panel: Any) -> None:
    """Run takes what the sliders say; the verdict is shown, the result kept."""
    panel._knobs["clients"].value = 6
    panel._run.click()
    assert panel.running
    assert panel._run.disabled
    assert not panel._halt.disabled
    until(lambda: not panel.running)
    assert not panel._run.disabled
    assert panel._halt.disabled
    assert panel.results["naive"].history["client"].nunique() == 6
    assert "Every request gets the value" in panel.said[-1]


def test_stop_ends_it_in_the_middle(panel: Any) -> None:
    """Stop ends a run of any length, and nothing runs on."""
    titles: list[str] = []
    panel._place.put = lambda picture: titles.append(picture.alt)
    panel._knobs["seconds"].value = 3.0
    threads = threading.active_count()
    panel._run.click()
    until(lambda: panel._thread.is_alive())
    panel._halt.click()
    until(lambda: not panel.running)
    assert panel.said[-1] == "Stopped."
    assert titles[-1] == "naive was stopped."
    assert panel.results == {}
    assert threading.active_count() <= threads
    assert panel._halt.disabled


def test_a_page_that_is_loaded_anew_finds_the_chart_in_the_kernel(panel: Any) -> None:
    """Picture, alt text and verdict are the state of widgets; the output below is for no widgets."""
    kept: list[bytes] = []
    panel._place.keep = lambda: kept.append(panel._place.image.value)
    panel.run()
    until(lambda: not panel.running)
    assert kept == [panel._place.image.value]
    assert bytes(kept[0]).startswith(b"\x89PNG")
    assert panel._place.image.layout.display == ""
    assert "database loads at once" in panel._place.alt.value
    ControlPanel._say(panel, "<b>told</b>")
    assert panel._told.value == "<b>told</b>"


SOURCE = """
from labsupport.labs.cache_aside import ThunderingHerd
panel = ThunderingHerd(clients=2, seconds=60.0).panel(naive=lambda redis, key, load, ttl: load())
"""


@pytest.mark.long
def test_interrupt_stops_a_run_between_two_cells() -> None:
    """There the kernel itself would ignore it."""
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        for cell in (SOURCE, "panel.run()", "0"):
            client.execute_interactive(cell, timeout=PATIENCE, output_hook=lambda _: None)
        manager.interrupt_kernel()
        cell = "panel._thread.join(30); panel.running or panel._told.value"
        told: list[str] = []

        def hear(message: Any) -> None:
            told.append(message["content"].get("data", {}).get("text/plain", ""))

        client.execute_interactive(cell, timeout=PATIENCE, output_hook=hear)
        assert "'Stopped.'" in told
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_an_interrupt_ends_nothing_that_is_begun_after_it(
    panel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop hears of it later, perhaps when another run is under way."""
    stops: list[bool] = []
    monkeypatch.setattr(panel, "stop", lambda: stops.append(True))
    monkeypatch.setattr(panels, "_running", {panel})
    panels._stop_at_once(signal.SIGINT, None)
    panels._stop_later()
    assert len(stops) == 1
    panels._stop_later()  # it went to a cell
    assert len(stops) == 2


def test_only_one_run_at_a_time(panel: Any) -> None:
    """A second click while it runs does nothing."""
    panel.run()
    first = panel._thread
    panel.run()
    assert panel._thread is first
    panel.stop()
    until(lambda: not panel.running)


@pytest.mark.long
def test_compares_what_ran_with_the_same_settings(panel: Any) -> None:
    """Compare waits for two implementations, in the order of the buttons; each setting has its own."""
    for name, waits_for in (("other", "two of them"), ("naive", "another of them")):
        assert panel._both.disabled
        assert waits_for in panel._both.tooltip
        choose(panel, name)
        panel.run()
        until(lambda: not panel.running)
    assert list(panel.results) == ["naive", "other"]
    assert not panel._both.disabled
    assert "same axes" in panel._both.tooltip
    panel._both.click()
    assert panel.said[-2] == "Drawing …"
    assert "as many loads at once as naive" in panel.said[-1]
    panel._knobs["clients"].value = 5
    panel.run()
    until(lambda: not panel.running)
    assert list(panel.results) == ["naive"]
    panel._knobs["clients"].value = 4
    panel.run()
    until(lambda: not panel.running)
    assert list(panel.results) == ["naive", "other"]


def test_a_slider_that_moves_meanwhile_says_from_when_on_it_counts(panel: Any) -> None:
    """The run goes on with what it has; afterwards a slider says nothing."""
    panel._knobs["seconds"].value = 3.0
    assert panel.said == []
    panel.run()
    panel._knobs["clients"].value = 5
    assert panel.said[-1] == "The new settings count from the next run on."
    panel.stop()
    until(lambda: not panel.running)
    panel._knobs["clients"].value = 4
    assert panel.said[-2:] == ["Stopping …", "Stopped."]


def test_says_what_is_wrong(panel: Any) -> None:
    """Settings that do not fit and a function that raises are told in two lines."""
    panel._knobs["ttl_seconds"].value = 0.9
    panel.run()
    assert not panel.running
    assert "would not expire" in panel.said[-1]
    panel._knobs["ttl_seconds"].value = 0.2
    choose(panel, "broken")
    panel.run()
    until(lambda: not panel.running)
    assert "raised ValueError: no" in panel.said[-1]
    assert not panel._run.disabled


def test_refuses_what_cannot_run() -> None:
    """No implementation, or one with other parameters, is refused at once."""
    herd = ThunderingHerd()
    with pytest.raises(InvalidSettingError, match="no implementation"):
        herd.panel()
    with pytest.raises(InvalidSettingError, match="does not take redis, key, load, ttl"):
        herd.panel(naive=lambda redis: None)


@pytest.mark.long
def test_what_is_saved_needs_no_kernel() -> None:
    """A saved notebook has a sentence in the panel's place, and no widget.

    While there is a kernel it has both, each in an output of its own: a page that prefers the widget
    and cannot draw it leaves no blank.
    """
    source = """
from labsupport.labs.cache_aside import ThunderingHerd
from labsupport.labs.pubsub import LostMessages
from labsupport.labs.redis_outage import Outage
from labsupport.labs.write_behind import WriteBehindCrash
ThunderingHerd(clients=2).panel(naive=lambda redis, key, load, ttl: load())
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    (cell,) = notebook.cells
    kinds = [set(one["data"]) for one in cell.outputs]
    assert kinds[:2] == [
        {"application/vnd.jupyter.widget-view+json"},
        {"text/html", "text/plain"},
    ]
    assert not any(kinds[2:])  # the chart's place and the line below it, until Run
    clean(notebook)
    (output,) = cell.outputs
    assert set(output["data"]) == {"text/html", "text/plain"}
    assert "while the notebook has a kernel" in output["data"]["text/plain"]
    assert problems(notebook) == []

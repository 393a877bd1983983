"""Sliders over an experiment's knobs, a choice of implementations, Run and Stop: for presenting."""

import dataclasses
import signal
import threading
from collections.abc import Callable, Mapping
from html import escape
from typing import Any

import ipywidgets as widgets
from IPython import get_ipython
from IPython.display import DisplayHandle, display
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from labsupport.charts import Picture, Place
from labsupport.errors import InvalidSettingError, LabError
from labsupport.experiments.result import Result
from labsupport.experiments.stage import RunStopped

_REACH = 5  # a slider goes to so many times the value that the experiment was made with
_NOTE = "A panel with sliders, Run and Stop stands here while the notebook has a kernel."
_WIDGET = "application/vnd.jupyter.widget-view+json"
_LETTERS = 16  # pixels
_SLIDER_EMS = 10  # with its number
_LOOK = """<style>
.lab-panel { --jp-widgets-font-size: 16px; --jp-widgets-inline-height: 36px;
  column-gap: 16px; flex-flow: row wrap; padding: 4px 0; }
.lab-panel > *, .lab-panel::before { flex: 1 1 100%; }
.lab-panel > .widget-image { flex: 0 1 auto; }
.lab-panel > .lab-panel-said { align-self: flex-start; flex: 1 1 22em; }
.lab-panel .widget-slider { width: 96%; }
.lab-panel .widget-dropdown { max-width: 96%; }
.lab-panel .widget-toggle-buttons { width: auto; margin: 2px 2em 2px 0; }
.lab-panel .widget-toggle-buttons .widget-toggle-button { margin-top: 0; margin-bottom: 0; }
.lab-panel button { flex-shrink: 0; font-weight: 600; }
.lab-panel .widget-button { min-width: 6.5em; padding: 0 1.1em; width: auto; }
.lab-panel .widget-image { align-self: flex-start; height: auto; margin: 2px 0;
  max-height: 46vh; width: auto; }
.lab-panel:where(:has(.lab-panel-said > div > div:only-of-type)) .widget-image { max-height: 54vh; }
.lab-panel .lab-panel-said, .lab-panel .lab-panel-said > div { height: auto; line-height: 1.5; }
.lab-panel .lab-panel-said > div:has(> div:nth-of-type(4)) { display: grid; column-gap: 2em;
  grid-template-columns: repeat(auto-fit, minmax(min(26em, 100%), 1fr)); }
@media (max-height: 850px) { .lab-panel { --jp-widgets-inline-height: 30px; }
  .lab-panel .widget-image { max-height: 38vh; }
  .lab-panel:where(:has(.lab-panel-said > div > div:only-of-type)) .widget-image {
    max-height: 48vh; }
  .lab-panel .lab-panel-said > div > div { margin: 0 !important; } }
@media (max-height: 850px) and (max-width: 1100px) {
  .lab-panel:where(:has(.lab-panel-said > div > div:nth-of-type(4))) .widget-image {
    max-height: 36vh; }
  .lab-panel .lab-panel-said > div:has(> div:nth-of-type(4)) { font-size: 13px;
    line-height: 1.35; } }
.lab-panel.jupyter-widgets-disconnected > * { opacity: .5; pointer-events: none; }
.lab-panel .jupyter-widgets-disconnected::before { display: none; }
.lab-panel.jupyter-widgets-disconnected::before { content: "The kernel of this panel has ended. Run\
 the cell again."; color: var(--jp-content-font-color1); font: 600 16px var(--jp-content-font-family);
  padding: 8px 2px; }
.jp-OutputArea-child:has(.lab-panel) + .jp-OutputArea-child,
.jp-OutputArea-child:has(.lab-panel) + .jp-OutputArea-child + .jp-OutputArea-child,
.jp-OutputArea-child:has(.lab-panel) + .jp-OutputArea-child + .jp-OutputArea-child
  + .jp-OutputArea-child { display: none !important; }
</style>"""

_running: set["ControlPanel"] = set()


class _Screen(Place):
    """The place of the chart: a widget, which a page that is loaded anew finds in the kernel.

    What it showed last is an output, too, for where no widget is drawn.

    Attributes:
        image: the widget.
        alt: what it shows in words: the lab's extension gives it to the picture.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.image = widgets.Image(layout={"display": "none"})
        self.alt = widgets.HTML(layout={"display": "none"})
        self._shown: Picture | None = None

    def put(self, picture: Picture) -> None:
        self._shown, look = picture, self.image.layout
        self.alt.value = escape(picture.alt)
        self.image.value = picture.data
        look.max_width, look.display = f"min(100%, {picture.width}px)", ""

    def keep(self) -> None:
        """Let the output be what the widget shows."""
        if self._shown is not None:
            super().put(self._shown)


class ControlPanel:
    """What `Experiment.panel` returns; as a cell's last value it shows itself.

    The chart is drawn by a thread, so that the sliders and Stop work, and other cells too, while the
    experiment runs. Settings count from the next run on.

    Args:
        experiment: an `Experiment`; its knobs are what the sliders begin with.
        implementations: the functions under study, by the names to choose from.
    """

    def __init__(self, experiment: Any, implementations: Mapping[str, Callable[..., Any]]) -> None:
        if not implementations:
            raise InvalidSettingError(
                "The panel has no implementation to choose.",
                "Name one or more, for example herd.panel(naive=get_user).",
            )
        self._kept: dict[Any, dict[str, Result]] = {}
        self._experiment = self._ran = experiment
        self._implementations = dict(implementations)
        self._stopped = False
        self._thread: threading.Thread | None = None
        self._place = _Screen(f"{type(experiment).__name__}: a panel")
        self._told = widgets.HTML()
        self._status: DisplayHandle | None = None
        self._knobs = {
            field.name: _control(field, getattr(experiment, field.name))
            for field in dataclasses.fields(experiment)
            if field.metadata
        }
        self._choice = widgets.ToggleButtons(
            options=list(implementations), tooltips=list(implementations)
        )
        self._choice.style.button_width = "auto"  # a name is shown whole
        self._run = widgets.Button(description="Run", icon="play", button_style="primary")
        self._halt = widgets.Button(description="Stop", icon="stop", disabled=True)
        self._both = widgets.Button(description="Compare", icon="columns", disabled=True)
        names = [control.description for control in self._knobs.values()]
        self._name_ems = max(map(_ems, names), default=0.0)
        for control in self._knobs.values():
            control.style.description_width = f"{self._name_ems:.2f}em"
            control.observe(lambda _: self._note_settings(), "value")
        self._run.on_click(lambda _: self.run())
        self._halt.on_click(lambda _: self.stop())
        self._both.on_click(lambda _: self.compare())
        self._enable(running=False)

    def run(self) -> None:
        """Start the chosen implementation with the sliders' settings, as the button does."""
        if self.running:
            return
        settings = {name: control.value for name, control in self._knobs.items()}
        try:
            experiment = dataclasses.replace(self._experiment, **settings)
        except LabError as error:
            self._say(_told(error))
            return
        self._ran = experiment
        name = self._choice.value
        self._stopped = False
        self._say("")
        self._enable(running=True)
        _running.add(self)
        _hear_interrupts()
        self._thread = threading.Thread(target=self._work, args=(experiment, name), daemon=True)
        self._thread.start()

    @property
    def results(self) -> dict[str, Result]:
        """The last result of each implementation with the settings of the last run, by its name.

        What ran with other settings is kept until these are set again.
        """
        found = self._kept.get(self._ran, {})  # the same order as the buttons, whichever ran first
        return {one: found[one] for one in self._implementations if one in found}

    def stop(self) -> None:
        """End the run, as the kernel's Interrupt does; nothing of it is left but its last frame."""
        if self.running:
            self._halt.disabled = True
            self._say("Stopping …")
        self._stopped = True

    def compare(self) -> None:
        """Draw the last result of each implementation on the same axes."""
        self._say("Drawing …")
        comparison = self._ran.compare(*self.results.values(), live=False)
        self._place.put(Picture.of(comparison.figure, comparison.figure.alt))
        self._place.keep()
        self._say(comparison.verdict._repr_html_())

    @property
    def running(self) -> bool:
        """Whether a run is under way."""
        return self._thread is not None and self._thread.is_alive()

    def _work(self, experiment: Any, name: str) -> None:
        said = ""
        try:
            result = experiment.perform(
                self._implementations[name],
                name,
                place=self._place,
                stopped=lambda: self._stopped,
            )
            self._kept.setdefault(experiment, {})[name] = result
            said = result.verdict._repr_html_()
        except RunStopped:
            said = "Stopped."
        except LabError as error:
            said = _told(error)
        finally:
            _running.discard(self)
            self._place.keep()
            self._say(said)
            self._enable(running=False)

    def _enable(self, *, running: bool) -> None:
        self._run.disabled = running
        self._halt.disabled = not running
        self._both.disabled = running or len(self.results) < 2
        self._both.tooltip = self._why_not(running=running)

    def _why_not(self, *, running: bool) -> str:
        """What Compare waits for; what it does when it waits for nothing."""
        if len(self._implementations) < 2:
            return "There is only one to choose: nothing to compare it with."
        if running:
            return "Wait until the run is over, or stop it."
        if missing := 2 - len(self.results):
            also = " another of them" if missing == 1 else " two of them, one after the other,"
            return f"First run{also} with these settings."
        return "Draw the last results on the same axes."

    def _note_settings(self) -> None:
        if self.running:
            self._say("The new settings count from the next run on.")

    def _say(self, html: str) -> None:
        self._told.value = html
        if self._status is not None:
            self._status.update({"text/html": f"<div>{html}</div>"}, raw=True)

    def _ipython_display_(self) -> None:
        wrap = widgets.Layout(flex_flow="row wrap")
        buttons = widgets.HBox([self._run, self._halt, self._both], layout=wrap)
        least = _LETTERS * (self._name_ems + _SLIDER_EMS)  # the more columns, the shorter a slider
        columns = widgets.Layout(
            grid_template_columns=f"repeat(auto-fit, minmax(min(100%, max({least:.0f}px, 30%)), 1fr))"
        )
        box = widgets.VBox(
            [
                widgets.HTML(_LOOK),
                widgets.HBox([self._choice, buttons], layout=wrap),
                widgets.GridBox(list(self._knobs.values()), layout=columns),
                self._place.image,
                self._place.alt,
                self._told,
            ]
        )
        box.add_class("lab-panel")
        self._told.add_class("lab-panel-said")
        # The note is an output of its own: a page that knows of widgets but cannot draw this one (an
        # export, a notebook opened again) prefers it to any text beside it, and leaves a blank. Where
        # JupyterLab draws it, its style hides the three outputs below: the note, the chart, the verdict.
        view = box._repr_mimebundle_()
        display({_WIDGET: view[_WIDGET]}, raw=True)
        display({"text/html": f"<em>{_NOTE}</em>", "text/plain": _NOTE}, raw=True)
        self._place.reserve()
        self._status = DisplayHandle()
        self._status.display({}, raw=True)


def _hear_interrupts() -> None:
    """Let Interrupt stop the panels' runs, also when no cell runs, where the kernel would ignore it."""
    kernel: Any = getattr(get_ipython(), "kernel", None)
    if not hasattr(kernel, "saved_sigint_handler"):
        return

    def hear() -> None:
        usual = signal.getsignal(signal.SIGINT)
        # the event loop's own: a signal that another thread receives wakes the main thread, too
        kernel.io_loop.asyncio_loop.add_signal_handler(signal.SIGINT, _stop_later)
        # and one that is at once: the next cell may be there before the loop comes to its own
        signal.signal(signal.SIGINT, _stop_at_once)
        kernel.saved_sigint_handler = signal.getsignal(signal.SIGINT)  # set anew after each cell
        if callable(usual):  # a cell runs: it is interrupted as usual
            signal.signal(signal.SIGINT, usual)

    kernel.io_loop.add_callback(hear)  # only the main thread may, and a button has one of its own


_stopped_at_once: list[int] = []


def _stop_at_once(number: int, frame: object) -> None:
    """Where no cell runs; what is begun after this is not meant."""
    _stopped_at_once.append(number)
    _stop_all()


def _stop_later() -> None:
    """The same interrupt, when the loop comes to it: news only where it went to a cell."""
    if _stopped_at_once:
        _stopped_at_once.clear()
    else:
        _stop_all()


def _stop_all() -> None:
    for panel in list(_running):
        panel.stop()


def _control(field: "dataclasses.Field[Any]", value: Any) -> widgets.Widget:
    """A slider within the knob's range, or a list of its choices."""
    name = field.name.replace("_", " ")
    if "choices" in field.metadata:
        return widgets.Dropdown(value=value, options=field.metadata["choices"], description=name)
    look: dict[str, Any] = {"description": name, "continuous_update": False}
    low, high, step = (field.metadata[name] for name in ("low", "high", "step"))
    high = min(high, max(_REACH * value, low + step))
    if isinstance(field.default, int):
        return widgets.IntSlider(value, min=low, max=int(high), step=step, **look)
    digits = max(2, *(len(f"{one:g}".partition(".")[2]) for one in (low, value)))
    look |= {"readout_format": f".{digits}f"}
    return widgets.FloatSlider(value, min=low, max=high, step=step, **look)


def _ems(name: str) -> float:
    """Room for a name in DejaVu Sans, which is wider than what a page usually has."""
    font = FontProperties(family="DejaVu Sans", size=1)
    return 0.3 + float(text_to_path.get_text_width_height_descent(name, font, False)[0])


def _told(error: LabError) -> str:
    return f"<b>{escape(error.problem)}</b><br>→ {escape(error.remedy)}"

"""Stepping through a schedule: what there is after each step, and what if a step came elsewhere."""

import base64
from collections.abc import Sequence
from html import escape
from typing import Any

import ipywidgets as widgets
from IPython.display import display

from labsupport.charts import MUTED, ROLES, png
from labsupport.exploration.diagram import Diagram, draw
from labsupport.explorer import Moment, Report, Rerun, Step
from labsupport.verdict import row as badge

__all__ = ["Stepper"]

_WIDGET = "application/vnd.jupyter.widget-view+json"
_MILLISECONDS = 1400  # from one step to the next while it plays
_DOTS_PER_INCH = 170
_INCHES = 7.0  # of the picture: its letters are 16 pixels high where it is 700 wide
_MOST_LANES = 4  # in so many inches
_ANOTHER_WAY = "Not every step can come there: the clients go another way."
_LOOK = f"""<style>
.lab-steps {{ --jp-widgets-font-size: 16px; overflow: hidden; }}
.lab-steps button {{ font-weight: 600; width: auto; }}
.lab-steps-stage {{ position: relative; overflow: hidden; max-width: clamp(700px, 85vh, 840px); }}
.lab-steps-stage > * {{ margin: 0; }}
.lab-steps-stage .widget-html-content img {{ display: block; width: 100%; }}
.lab-steps-veil, .lab-steps-band {{ left: 0; position: absolute; right: 0; pointer-events: none;
  transition: top .35s, height .35s; }}
.lab-steps-veil {{ background: rgba(255, 255, 255, .7); }}
.lab-steps-band {{ border-left: 6px solid {ROLES["work"].colour};
  background: rgba(0, 114, 178, .1); }}
.lab-steps-state {{ line-height: 1.45; }}
.lab-steps-state table {{ border-collapse: collapse; margin: 0 0 12px; }}
.lab-steps-state td {{ padding: 3px 14px 3px 6px; vertical-align: top; overflow-wrap: anywhere;
  font-family: var(--jp-code-font-family); font-size: 16px; }}
.lab-steps-state p {{ margin: 10px 0 2px; }}
.lab-steps-state tr.new td {{ background: rgba(0, 114, 178, .1); font-weight: 600; }}
.lab-steps-state tr.new td:first-child {{ border-left: 4px solid {ROLES["work"].colour}; }}
.lab-steps-state tr.gone td {{ color: {MUTED}; text-decoration: line-through; }}
.lab-steps.jupyter-widgets-disconnected > * {{ opacity: .5; pointer-events: none; }}
.lab-steps .jupyter-widgets-disconnected::before {{ display: none; }}
.lab-steps.jupyter-widgets-disconnected::before {{ content: "The kernel of these steps has ended. Run\
 the cell again."; color: var(--jp-content-font-color1); font: 600 16px var(--jp-content-font-family);
  padding: 8px 2px; }}
@media (prefers-reduced-motion: reduce) {{ .lab-steps-veil, .lab-steps-band {{ transition: none; }} }}
.jp-OutputArea-child:has(.lab-steps) + .jp-OutputArea-child {{ display: none !important; }}
</style>"""


class Stepper:
    """What `report.step_through()` returns; as a cell's last value it shows itself.

    The buttons and the arrow keys go on and back; "earlier" and "later" move the marked
    step past a neighbour's and run that order. Without a front end it is the report's picture.

    Args:
        report: one with a counterexample.

    Attributes:
        at: the step that is marked; 0 is the state before the first.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self._play = widgets.Play(min=0, interval=_MILLISECONDS, show_repeat=False)
        self._slider = widgets.IntSlider(min=0, description="step", layout={"width": "22em"})
        widgets.jslink((self._play, "value"), (self._slider, "value"))
        self._back = _button("◀ back", "One step back", lambda: self._go(-1))
        self._on = _button("on ▶", "One step on", lambda: self._go(1))
        self._earlier = _button("▲ earlier", "Move this step before the one above", self._move_up)
        self._later = _button("▼ later", "Move this step behind the one below", self._move_down)
        self._found = _button("as found", "Back to the shortest schedule", self._restore)
        self._picture, self._state, self._verdict = (widgets.HTML() for _ in range(3))
        self._veil, self._band = widgets.Box(), widgets.Box()
        self._slider.observe(lambda _: self._show(), "value")
        self._restore()

    @property
    def at(self) -> int:
        """The step that is marked."""
        return int(self._slider.value)

    @at.setter
    def at(self, step: int) -> None:
        self._slider.value = step

    # what the buttons do

    def _go(self, by: int) -> None:
        self.at = min(max(self.at + by, 0), self._slider.max)

    def _restore(self) -> None:
        self._take(self._report.rerun(), moved=False)
        self._show()

    def _move_up(self) -> None:
        moves = self._run.moves
        first = self._block(-1)
        if first > 0:
            self._try([*range(first - 1), *range(first, self.at), first - 1], len(moves), -1)

    def _move_down(self) -> None:
        moves, last = self._run.moves, self._block(1)
        if last + 1 < len(moves):
            here = self.at - 1
            self._try([*range(here), last + 1, *range(here, last + 1)], len(moves), 1)

    def _block(self, way: int) -> int:
        """The last of the same client's moves from the marked one on: they cannot pass each other."""
        at, moves = self.at - 1, self._run.moves
        while 0 <= at + way < len(moves) and moves[at + way].who == moves[at].who:
            at += way
        return at

    def _try(self, places: list[int], count: int, way: int) -> None:
        """Run the order in which the first moves are those at `places`."""
        moves = self._run.moves
        wanted = tuple(moves[place] for place in [*places, *range(len(places), count)])
        run = self._report.rerun(wanted)
        came = run.moves[: len(places)] == wanted[: len(places)]
        self._take(run, moved=True, note="" if came else _ANOTHER_WAY)
        self._slider.value = min(self.at + way, self._slider.max)
        self._show()

    # what is shown

    def _take(self, run: Rerun, *, moved: bool, note: str = "") -> None:
        """Show an order that was run."""
        self._run = run
        steps = [moment.step for moment in run.moments[1:]]
        stuck: list[Step] = []
        if run.finding is not None:
            stuck = [step for step in run.finding.schedule if step.move == "stuck"]
        claim = self._report.verdict.claims[0].text.partition(": ")[2]
        reason = run.finding.reason if run.finding else f"In this order it holds: {claim}"
        self._drawn = self._draw([*steps, *stuck], reason, held=run.finding is None)
        self._play.max = self._slider.max = len(steps)
        breaks = "It still breaks." if moved else "It breaks."
        told = breaks if run.finding else "Now it holds."
        self._verdict.value = badge("broken" if run.finding else "holds", told, note)

    def _draw(self, steps: Sequence[Step], reason: str, *, held: bool) -> Diagram:
        clients = self._report.clients
        lanes = len(clients) + len({step.store for step in steps if step.store})
        look: dict[str, Any] = {"width": _INCHES} if lanes <= _MOST_LANES else {}
        drawn = draw(steps, clients, reason, self._report.headline, held=held, **look)
        data = base64.b64encode(png(drawn.figure, dpi=_DOTS_PER_INCH)).decode()
        alt = escape(drawn.figure.alt, quote=True)
        self._picture.value = f'<img alt="{alt}" src="data:image/png;base64,{data}">'
        return drawn

    def _show(self) -> None:
        """Mark the step, and tell what there is after it."""
        at = min(self.at, self._slider.max)
        bands = self._drawn.bands
        top, bottom = bands[at - 1] if at else (bands[0][0], bands[0][0])
        self._band.layout.top, self._band.layout.height = _share(top), _share(bottom - top)
        # before the first step all of them are to be read
        self._veil.layout.top, self._veil.layout.height = _share(bottom), _share(at and 1 - bottom)
        before, now = self._run.moments[max(at - 1, 0)], self._run.moments[at]
        told = f"{at}. {now.step.client}: {now.step}" if at else "Before the first step"
        parts = [
            f"<b>{escape(told)}</b>",
            "<p>In Redis</p>",
            _rows(before.redis, now.redis),
        ]
        if now.tables:
            parts += ["<p>In the tables</p>", _rows(self._changing(before), self._changing(now))]
        self._state.value = (
            f'<div class="lab-steps-state" aria-live="polite">{"".join(parts)}</div>'
        )
        self._back.disabled, self._on.disabled = at == 0, at == self._slider.max
        self._earlier.disabled = at == 0 or self._block(-1) == 0
        self._later.disabled = at == 0 or self._block(1) + 1 == len(self._run.moves)

    def _changing(self, moment: Moment) -> dict[str, str]:
        """The rows that this order changes, by table and id, with the columns that differ."""
        found: dict[str, str] = {}
        for table, rows in moment.tables.items():
            known = [{_key(row): row for row in other.tables[table]} for other in self._run.moments]
            for row in rows:
                others = [rows_then.get(_key(row), {}) for rows_then in known]
                told = [
                    f"{name} {value}"
                    for name, value in row.items()
                    if any(other.get(name) != value for other in others)
                ]
                if told:
                    found[f"{table} {_key(row)}"] = ", ".join(told)
        return found

    def _ipython_display_(self) -> None:
        stage = widgets.Box([self._picture, self._band, self._veil])
        named = {"stage": stage, "band": self._band, "veil": self._veil}
        named |= {"back": self._back, "on": self._on}
        for name, part in named.items():
            part.add_class(f"lab-steps-{name}")
        wrap = widgets.Layout(flex_flow="row wrap", overflow="hidden")
        # beside each other where there is room for letters that one can read
        beside = widgets.Layout(flex_flow="row wrap", grid_gap="18px", overflow="hidden")
        stage.layout.flex, self._state.layout.flex = "3 1 700px", "1 1 14em"
        box = widgets.VBox(
            [
                widgets.HTML(_LOOK),
                widgets.HBox([self._back, self._on, self._play, self._slider], layout=wrap),
                widgets.HBox([self._earlier, self._later, self._found], layout=wrap),
                self._verdict,
                widgets.Box([stage, self._state], layout=beside),
            ]
        )
        box.add_class("lab-steps")
        # The picture is an output of its own, for where no widget is drawn: see `ControlPanel`.
        view = box._repr_mimebundle_()
        display({_WIDGET: view[_WIDGET]}, raw=True)
        display(self._report)


def _button(text: str, told: str, act: Any) -> Any:
    button = widgets.Button(description=text, tooltip=told)
    button.on_click(lambda _: act())
    return button


def _share(part: float) -> str:
    return f"{100 * part:.2f}%"


def _key(row: dict[str, Any]) -> Any:
    return next(iter(row.values()), None)


def _rows(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Names and values as a table; what the step changed is marked, what it removed is struck."""
    lines = []
    for name in sorted({**before, **now}):
        kind = "gone" if name not in now else "new" if before.get(name) != now[name] else ""
        value = now.get(name, before.get(name))
        sign = {"gone": "− ", "new": "● "}.get(kind, "")
        cells = f"<td>{sign}{escape(name)}</td><td>{escape(str(value))}</td>"
        lines.append(f'<tr class="{kind}">{cells}</tr>')
    return f"<table>{''.join(lines)}</table>" if lines else "<p><em>nothing</em></p>"

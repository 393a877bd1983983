"""The frame of every experiment: run an implementation, chart it live, judge it, compare."""

import functools
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from labsupport.charts import (
    Chart,
    LabFigure,
    LiveChart,
    Place,
    Plot,
    Run,
    draw_comparison,
    show,
)
from labsupport.errors import Interrupted, InvalidSettingError, NotOnThisServerError, called_as
from labsupport.experiments.knobs import check_knobs, require_knobs
from labsupport.experiments.parameters import check_parameters
from labsupport.experiments.result import Comparison, Result
from labsupport.experiments.stage import RunStopped, Stage
from labsupport.experiments.tables import Contrast, Finding, Rule, enumerated
from labsupport.history import History
from labsupport.verdict import Claim, Verdict
from labsupport.workers import warm_up

if TYPE_CHECKING:
    from labsupport.experiments.panel import ControlPanel

_MUCH_LONGER = 1.05
_MORE_SECONDS = 35.0

_RUN = "run(function); knobs are set where the experiment is made, e.g. {type}(seconds=1.0)"

Implementation = Callable[..., Any]


class Experiment(ABC):
    """A workload with its faults, its claims and its chart; subclasses are frozen dataclasses.

    The fields are the knobs, made with `knob`, among them `seconds`. A subclass says what happens
    (`conduct`), what is measured (`measure`), what that means (the tables `claims`, `findings` and
    `contrast`), and what is drawn (`plots`).
    """

    parameters: ClassVar[tuple[str, ...]]
    """The parameters of the function under study."""
    seconds: float

    @property
    def budget_seconds(self) -> float:
        """How long a run may take at the most, however busy the machine; then it is cut short."""
        return self.seconds + _MORE_SECONDS

    def __new__(cls, *args: Any, **knobs: Any) -> Self:
        require_knobs(cls, args, knobs)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        check_knobs(self)
        self.check()
        warm_up()

    def check(self) -> None:  # noqa: B027 (most have nothing more to check)
        """Check the knobs that depend on each other; raise InvalidSettingError."""

    @property
    @abstractmethod
    def conditions(self) -> str:
        """The knobs in words, for the chart."""

    @abstractmethod
    def conduct(self, stage: Stage, implementation: Implementation, name: str) -> None:
        """Do it: start servers and workers, strike, and wait until all is over."""

    @abstractmethod
    def measure(self, history: History, facts: Mapping[str, Any]) -> dict[str, float]:
        """The numbers of a run, with units in their names."""

    @property
    @abstractmethod
    def claims(self) -> Sequence[Rule]:
        """What the numbers are asked, in the order of the verdict."""

    @property
    @abstractmethod
    def findings(self) -> Sequence[Finding]:
        """What the chart's title may be, the worst first; the last one always applies."""

    @property
    @abstractmethod
    def contrast(self) -> Contrast:
        """How its runs are compared."""

    @abstractmethod
    def plots(self) -> Sequence[Plot]:
        """New plots for a chart."""

    def judge(self, numbers: dict[str, float]) -> list[Claim]:
        """What the numbers say of each claim."""
        known = self._knobs() | numbers
        return [rule.judge(known) for rule in self.claims]

    def find(self, numbers: dict[str, float]) -> str:
        """The finding in one line: the chart's title."""
        known = self._knobs() | numbers
        finding = next(one for one in self.findings if one.applies(known)).say(known)
        return f"Cut short: {finding}" if known.get("cut_short") else finding

    @called_as(_RUN)
    def run(
        self, implementation: Implementation, *, live: bool = True, name: str | None = None
    ) -> Result:
        """Put an implementation to the test.

        Args:
            implementation: the function under study; it may be defined in a cell.
            live: show the chart, drawn while the run goes on.
            name: what to call it; default: the function's name.

        Raises:
            ImplementationError: the function raised.
            InvalidSettingError: it is not a function of the right parameters, or cannot be sent to
                another process.
            WorkerError: the run could not be done.
        """
        name = name or _name(implementation)
        try:
            text = f"{type(self).__name__}: {name}"
            return self.perform(implementation, name, place=Place(text) if live else None)
        except KeyboardInterrupt:
            raise Interrupted from None

    def perform(
        self,
        implementation: Implementation,
        name: str,
        *,
        place: Place | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Result:
        """What `run` does, drawn in a place that is there already.

        Args:
            implementation: see `run`.
            name: see `run`.
            place: where the chart is shown; None shows none.
            stopped: asked all the time; once it says True, the run ends with `RunStopped`.

        Raises:
            RunStopped: `stopped` said so.
            LabError: see `run`.
        """
        self._check_parameters(implementation, name)
        chart = None if place is None else self._live_chart(name, place)
        try:
            with Stage(chart, budget_seconds=self.budget_seconds, stopped=stopped) as stage:
                self.conduct(stage, implementation, name)
        except NotOnThisServerError as error:
            return self._not_exercised(name, error.problem, stage.history, chart)
        except BaseException as error:
            if chart is not None:
                asked = isinstance(error, KeyboardInterrupt | RunStopped)
                chart.stop(f"{name} {'was stopped' if asked else 'failed'}")
            raise
        # a moment more than asked for is no reason for another axis; it ends where the run does
        longer = stage.seconds > _MUCH_LONGER * self.seconds
        ended = stage.history.elapsed_ns / 1e9
        seconds = stage.seconds if longer else min(self.seconds, ended)
        numbers = self.measure(stage.history, stage.facts)
        if stage.cut_short:
            numbers["cut_short"] = 1
        result = Result(
            name,
            Verdict(self.judge(numbers)),
            numbers,
            stage.history,
            seconds,
            self.conditions,
            functools.partial(self._draw, name, self.find(numbers), stage.history, seconds),
            functools.partial(self._live_chart, name),
        )
        if chart is not None:
            chart.finish(result.figure)
        return result

    def _not_exercised(
        self, name: str, lacking: str, history: History, chart: LiveChart | None
    ) -> Result:
        """What is left of a run that the server does not allow: no claim was put to the test."""
        if chart is not None:
            chart.stop(f"{name} was not run: not on this server")
        return Result(
            name,
            Verdict(Claim(rule.text, "not exercised", lacking) for rule in self.claims),
            {},
            history,
            self.seconds,
            self.conditions,
            functools.partial(self._draw, name, "Not on this server", history, self.seconds),
            functools.partial(self._live_chart, name),
            lacking,
        )

    @called_as("panel(naive=get_user, fixed=get_user_once), a name for each function")
    def panel(self, **implementations: Implementation) -> "ControlPanel":
        """Sliders for the knobs, a choice of implementations, Run, Stop and Compare.

        Args:
            implementations: the functions under study, by the names that the buttons show.

        Returns:
            a `ControlPanel`, which shows itself as a cell's last value.

        Raises:
            InvalidSettingError: there is none, or one is not a function of the right parameters.
        """
        for name, implementation in implementations.items():
            self._check_parameters(implementation, name)
        # not above: a run without a panel needs no widgets
        from labsupport.experiments.panel import ControlPanel

        return ControlPanel(self, implementations)

    @called_as("compare(naive, fixed), with what run returned")
    def compare(self, *results: Result, live: bool = True) -> Comparison:
        """Draw runs of this experiment on the same axes, and judge them by the first.

        Args:
            results: what `run` returned; the first is the one to beat.
            live: show the figure.

        Raises:
            InvalidSettingError: there are fewer than two, or they are not all results.
        """
        if len(results) < 2 or not all(isinstance(result, Result) for result in results):
            raise InvalidSettingError(
                "compare needs at least two results of run.",
                "For example herd.compare(naive, fixed), with naive = herd.run(get_user).",
            )
        finding, claims = self.contrast.compare(results)
        names = ", ".join(result.name for result in results)
        shared, own = _told_apart([result.conditions for result in results])
        rows = [
            f"{result.name} ({one})" if one else result.name
            for result, one in zip(results, own, strict=True)
        ]
        figure = draw_comparison(
            [
                Run(row, result.events, self.plots())
                for row, result in zip(rows, results, strict=True)
            ],
            seconds=max(result.seconds for result in results),
            title=finding,
            subtitle=shared,
            alt=f"{finding}. Charts of {enumerated(rows)} on the same axes: {shared}.",
        )
        if live:
            show(figure, text=f"{type(self).__name__}: {names}")
        return Comparison(results, Verdict(claims), figure)

    def _knobs(self) -> dict[str, float]:
        """The knobs that are numbers, for the tables."""
        return {name: v for name, v in vars(self).items() if isinstance(v, int | float)}

    def _live_chart(self, name: str, place: Place) -> LiveChart:
        title = f"{name}, so far"  # true also when the kernel dies, and this frame stays
        plots, conditions = self.plots(), self.conditions
        return LiveChart(plots, seconds=self.seconds, title=title, subtitle=conditions, place=place)

    def _draw(self, name: str, finding: str, history: History, seconds: float) -> LabFigure:
        plots = self.plots()
        chart = Chart(plots, seconds=seconds, title="", subtitle=f"{name}: {self.conditions}")
        chart.add(history.rows(), history)
        shown = "; ".join(plot.label for plot in plots)
        alt = f"{finding}. Chart over time of {shown}: {name}, {self.conditions}."
        return chart.finish(finding, alt)

    def _check_parameters(self, implementation: Any, name: str) -> None:
        form = f"({', '.join(self.parameters)})"
        check_parameters(implementation, self.parameters, given_to="run", name=name, form=form)


def _told_apart(conditions: Sequence[str]) -> tuple[str, list[str]]:
    """The conditions that all runs have in common, and those that each has for itself."""
    parts = [re.split("[,;] ", text) for text in conditions]
    common = [part for part in parts[0] if all(part in others for others in parts)]
    own = [", ".join(part for part in mine if part not in common) for mine in parts]
    return (", ".join(common) if any(own) else conditions[0]), own


def _name(implementation: Any) -> str:
    while isinstance(implementation, functools.partial):
        implementation = implementation.func
    found = getattr(implementation, "__name__", type(implementation).__name__)
    return "lambda" if found == "<lambda>" else str(found)

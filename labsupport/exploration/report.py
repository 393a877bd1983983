"""A report that shows itself in a notebook: text, and the counterexample as a sequence diagram."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from html import escape
from typing import TYPE_CHECKING, Any

from labsupport.errors import NotInstalledError
from labsupport.explorer import Report
from labsupport.verdict import Verdict

if TYPE_CHECKING:
    from labsupport.charts import LabFigure
    from labsupport.exploration.stepper import Stepper

__all__ = ["ShownReport", "as_html"]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ShownReport(Report):
    """A `Report` that draws its counterexample; without matplotlib it is the text alone."""

    @classmethod
    def of(cls, report: Report) -> "ShownReport":
        """The same report, to be shown."""
        return cls(**{one.name: getattr(report, one.name) for one in fields(report)})

    @property
    def figure(self) -> "LabFigure | None":
        """The counterexample as a sequence diagram; None when there is none.

        Raises:
            NotInstalledError: there is no matplotlib.
        """
        if self.counterexample is None:
            return None
        with _shown_by_packages():
            from labsupport.exploration.diagram import draw

        return draw(self.counterexample, self.clients, self.reason, self.headline).figure

    def step_through(self) -> "Stepper":
        """The counterexample, a step at a time, with what is in Redis and in the tables after each.

        Raises:
            InvalidSettingError: there is no counterexample.
            NotInstalledError: there are no ipywidgets.
        """
        with _shown_by_packages():  # not above: a report without it needs no widgets
            from labsupport.exploration.stepper import Stepper

        return Stepper(self)

    def _repr_mimebundle_(self, **_: Any) -> Any:
        try:
            figure = self.figure
        except NotInstalledError:  # the explorer was taken home without the figures
            figure = None
        if figure is None:
            return {"text/plain": str(self), "text/html": as_html(str(self), self.verdict)}
        from labsupport.charts import Picture

        return Picture.of(figure, figure.alt).bundle(str(self))


@contextmanager
def _shown_by_packages() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise NotInstalledError(
            f"To show this takes {error.name}, which is not installed.",
            "Install matplotlib and ipywidgets; print(report) and report.replay() do without.",
        ) from None


def as_html(text: str, verdict: Verdict) -> str:
    """What a report without a counterexample says: its headline, its notes, and the claim with its badge."""
    headline, *notes = text.removesuffix(str(verdict)).strip().split("\n")
    said = "".join(f"<div>{escape(note)}</div>" for note in notes)
    return f"<div><b>{escape(headline)}</b></div>{said}{verdict._repr_html_()}"

"""A few measured values side by side, as horizontal bars with their values."""

from collections.abc import Sequence

from labsupport.charts.picture import LabFigure
from labsupport.charts.style import INK, MUTED, ROLES, Size, style

_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM, _ROW = 9.6, 3.3, 0.9, 0.8, 0.75, 0.5


def bar_chart(
    bars: Sequence[tuple[str, float, str]], *, title: str, label: str, alt: str
) -> LabFigure:
    """Draw values that belong together, from the top.

    Args:
        bars: name, value and role (see `ROLES`) of each.
        title: the finding.
        label: what is measured, with the unit.
        alt: what the figure shows, in a full sentence.
    """
    height = _TOP + _BOTTOM + _ROW * len(bars)
    with style():
        figure = LabFigure(figsize=(_WIDTH, height), facecolor="white")
        figure.alt = alt
        axes = figure.add_axes(
            (
                _LEFT / _WIDTH,
                _BOTTOM / height,
                1 - (_LEFT + _RIGHT) / _WIDTH,
                _ROW * len(bars) / height,
            )
        )
        for place, (_, value, role) in enumerate(bars):
            look = ROLES[role]
            axes.barh(
                place,
                value,
                height=0.7,
                facecolor=look.colour,
                edgecolor="white",
                hatch=look.hatch,
                linewidth=0,
            )
            axes.annotate(
                f"{value:.2g}" if value < 99.5 else f"{value:,.0f}",
                (value, place),
                xytext=(6, 0),
                textcoords="offset points",
                fontsize=Size.LABEL,
                fontweight="bold",
                color=INK,
                va="center",
            )
        axes.set_yticks(range(len(bars)), [name for name, _, _ in bars], fontsize=Size.LABEL)
        axes.set_ylim(len(bars) - 0.4, -0.6)
        axes.set_xlabel(label, fontsize=Size.LABEL)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=True, axis="x")
        axes.grid(visible=False, axis="y")
        axes.axvline(0, color=MUTED, linewidth=1)
        figure.text(
            0.3 / _WIDTH,
            1 - 0.22 / height,
            title,
            fontsize=Size.TITLE,
            fontweight="bold",
            color=INK,
            va="top",
        )
    return figure

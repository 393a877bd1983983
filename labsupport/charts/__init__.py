"""Live figures, in one style: one role has one colour and one shape wherever it is drawn."""

from labsupport.charts.bar_chart import bar_chart
from labsupport.charts.bars import Bars, Part
from labsupport.charts.chart import Chart, Run, draw_comparison
from labsupport.charts.histograms import histograms
from labsupport.charts.lanes import Bar, Lanes, Mark, overlaps
from labsupport.charts.lines import Line, Lines
from labsupport.charts.live import LiveChart
from labsupport.charts.picture import LabFigure, Picture, Place, png, show
from labsupport.charts.plot import Plot
from labsupport.charts.quantiles import Quantiles
from labsupport.charts.spans import count_per_span, most_at_once
from labsupport.charts.style import ALARM, CLIENTS, INK, MUTED, ROLES, Role, Size, style

__all__ = [
    "ALARM",
    "CLIENTS",
    "INK",
    "MUTED",
    "ROLES",
    "Bar",
    "Bars",
    "Chart",
    "LabFigure",
    "Lanes",
    "Line",
    "Lines",
    "LiveChart",
    "Mark",
    "Part",
    "Picture",
    "Place",
    "Plot",
    "Quantiles",
    "Role",
    "Run",
    "Size",
    "bar_chart",
    "count_per_span",
    "draw_comparison",
    "histograms",
    "most_at_once",
    "overlaps",
    "png",
    "show",
    "style",
]

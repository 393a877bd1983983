"""Live figures, in one style: one role has one colour and one shape wherever it is drawn."""

from labsupport.charts.bars import Bars, Part, count_per_span, most_at_once
from labsupport.charts.chart import Chart, Run, draw_comparison
from labsupport.charts.lanes import Bar, Lanes, Mark, overlaps
from labsupport.charts.lines import Line, Lines, Quantiles
from labsupport.charts.live import LiveChart
from labsupport.charts.picture import LabFigure, Picture, Place, Reel, png, show
from labsupport.charts.plot import Plot
from labsupport.charts.schematic import flow, timeline
from labsupport.charts.still import bar_chart, histograms
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
    "Reel",
    "Role",
    "Run",
    "Size",
    "bar_chart",
    "count_per_span",
    "draw_comparison",
    "flow",
    "histograms",
    "most_at_once",
    "overlaps",
    "png",
    "show",
    "style",
    "timeline",
]

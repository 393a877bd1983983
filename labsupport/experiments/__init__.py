"""The frame of an experiment: real processes under load, with real faults, charted live."""

from labsupport.experiments.experiment import Experiment, Implementation
from labsupport.experiments.knobs import choice, knob
from labsupport.experiments.parameters import check_parameters
from labsupport.experiments.result import Comparison, Result
from labsupport.experiments.stage import Stage
from labsupport.experiments.tables import Contrast, Finding, Numbers, Rule

__all__ = [
    "Comparison",
    "Contrast",
    "Experiment",
    "Finding",
    "Implementation",
    "Numbers",
    "Result",
    "Rule",
    "Stage",
    "check_parameters",
    "choice",
    "knob",
]

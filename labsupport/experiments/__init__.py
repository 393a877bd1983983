"""The frame of an experiment: real processes under load, with real faults, charted live."""

from labsupport.experiments.experiment import Experiment, Implementation, Numbers
from labsupport.experiments.knobs import choice, knob
from labsupport.experiments.result import Comparison, Result
from labsupport.experiments.stage import Stage

__all__ = [
    "Comparison",
    "Experiment",
    "Implementation",
    "Numbers",
    "Result",
    "Stage",
    "choice",
    "knob",
]

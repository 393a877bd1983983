"""Experiments: real processes under load, with real faults, charted live."""

from labsupport.experiments.experiment import Experiment
from labsupport.experiments.knobs import knob
from labsupport.experiments.lock_race import LockRace
from labsupport.experiments.lost_updates import LostUpdates
from labsupport.experiments.result import Comparison, Result
from labsupport.experiments.stage import Stage
from labsupport.experiments.thundering_herd import ThunderingHerd

__all__ = [
    "Comparison",
    "Experiment",
    "LockRace",
    "LostUpdates",
    "Result",
    "Stage",
    "ThunderingHerd",
    "knob",
]

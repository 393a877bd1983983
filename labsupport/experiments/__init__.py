"""Experiments: real processes under load, with real faults, charted live."""

from labsupport.experiments.bucket_limit import BucketLimit
from labsupport.experiments.experiment import Experiment
from labsupport.experiments.knobs import knob
from labsupport.experiments.lost_updates import LostUpdates
from labsupport.experiments.rate_limit import RateLimit
from labsupport.experiments.result import Comparison, Result
from labsupport.experiments.stage import Stage
from labsupport.experiments.thundering_herd import ThunderingHerd

__all__ = [
    "BucketLimit",
    "Comparison",
    "Experiment",
    "LostUpdates",
    "RateLimit",
    "Result",
    "Stage",
    "ThunderingHerd",
    "knob",
]

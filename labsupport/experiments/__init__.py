"""Experiments: real processes under load, with real faults, charted live."""

from labsupport.experiments.bucket_limit import BucketLimit
from labsupport.experiments.experiment import Experiment
from labsupport.experiments.job_queue import JobQueue
from labsupport.experiments.knobs import choice, knob
from labsupport.experiments.lock_race import LockRace
from labsupport.experiments.lost_messages import LostMessages
from labsupport.experiments.lost_updates import LostUpdates
from labsupport.experiments.rate_limit import RateLimit
from labsupport.experiments.result import Comparison, Result
from labsupport.experiments.session_lifetimes import SessionLifetimes
from labsupport.experiments.stage import Stage
from labsupport.experiments.stale_reads import StaleReads
from labsupport.experiments.thundering_herd import ThunderingHerd
from labsupport.experiments.two_holders import TwoHolders
from labsupport.experiments.write_behind_crash import WriteBehindCrash
from labsupport.experiments.write_cost import WriteCost

__all__ = [
    "BucketLimit",
    "Comparison",
    "Experiment",
    "JobQueue",
    "LockRace",
    "LostMessages",
    "LostUpdates",
    "RateLimit",
    "Result",
    "SessionLifetimes",
    "Stage",
    "StaleReads",
    "ThunderingHerd",
    "TwoHolders",
    "WriteBehindCrash",
    "WriteCost",
    "choice",
    "knob",
]

"""The interleaving explorer: every order of a few clients' steps, on a real Redis and database."""

import importlib
from typing import TYPE_CHECKING, Any

from labsupport.explorer.report import Finding, Moment, Report, Rerun, Step
from labsupport.explorer.testbed import Session, Testbed

if TYPE_CHECKING:
    from labsupport.explorer.clients.nodes import as_nodes
    from labsupport.explorer.entry import explore
    from labsupport.explorer.stand_ins.machine import one_process
    from labsupport.explorer.system import System

__all__ = [
    "Finding",
    "Moment",
    "Report",
    "Rerun",
    "Session",
    "Step",
    "System",
    "Testbed",
    "as_nodes",
    "explore",
    "one_process",
]

# What needs redis-py, whose import takes longer than all of the explorer's own.
_LATER = {
    "System": "system",
    "as_nodes": "clients.nodes",
    "explore": "entry",
    "one_process": "stand_ins.machine",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)

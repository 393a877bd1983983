"""The interleaving explorer: every order of a few clients' steps, on a real Redis and database."""

from labsupport.explorer.clients.nodes import as_nodes
from labsupport.explorer.entry import explore
from labsupport.explorer.report import Finding, Moment, Report, Step
from labsupport.explorer.system import System
from labsupport.explorer.testbed import Session, Testbed

__all__ = [
    "Finding",
    "Moment",
    "Report",
    "Session",
    "Step",
    "System",
    "Testbed",
    "as_nodes",
    "explore",
]

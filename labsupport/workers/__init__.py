"""Real processes, and threads in them, that run a learner's functions; pause, resume, kill."""

from labsupport.workers.breakpoints import Breakpoint, breakpoint_client
from labsupport.workers.client import Client, point
from labsupport.workers.launch import warm_up
from labsupport.workers.pool import WorkerPool
from labsupport.workers.worker import Worker

__all__ = ["Breakpoint", "Client", "Worker", "WorkerPool", "breakpoint_client", "point", "warm_up"]

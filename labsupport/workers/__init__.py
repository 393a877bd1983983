"""Real processes, and threads in them, that run a learner's functions; pause, resume, kill."""

from labsupport.workers.client import Client, point
from labsupport.workers.crew import Crew
from labsupport.workers.held import Hold, held_client
from labsupport.workers.worker import Worker

__all__ = ["Client", "Crew", "Hold", "Worker", "held_client", "point"]

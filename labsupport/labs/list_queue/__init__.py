"""10 List queue: the job that dies with its worker."""

from labsupport.labs.queues.job_queue import JobQueue

__all__ = ["JobQueue"]

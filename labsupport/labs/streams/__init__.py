"""11 Streams: jobs that stay pending, or run twice."""

from labsupport.labs.queues.job_queue import JobQueue

__all__ = ["JobQueue"]

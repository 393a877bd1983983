"""The Redis Patterns Lab: what the notebooks call."""

from labsupport.errors import LabError
from labsupport.exercises import check, hint, solution
from labsupport.explore import explore
from labsupport.lab import Lab

__all__ = ["Lab", "LabError", "check", "explore", "hint", "solution"]

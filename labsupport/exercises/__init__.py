"""The frame of an exercise: a stub, hints that come one at a time, a check that tries to break it."""

from labsupport.exercises.exercise import Exercise, Outcome, source
from labsupport.exercises.progress import Progress

__all__ = ["Exercise", "Outcome", "Progress", "source"]

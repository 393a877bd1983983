"""The frame of an exercise: a stub, hints that come one at a time, a check that tries to break it."""

from labsupport.exercises.exercise import Exercise, Outcome, source

__all__ = ["Exercise", "Outcome", "source"]

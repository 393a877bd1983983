"""Lab 16: its stubs fail, its solutions pass, and each wrong answer of its zoo is refused."""

from tests.exercises.frame import TestSolutions, TestStubs, TestZoo

__all__ = ["TestSolutions", "TestStubs", "TestZoo"]

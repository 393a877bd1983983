"""What the labs of the two limiters share: the callers, the counts, the checks."""

"""One case, for real: an answer is run in it by the explorer and compared with what may come of it."""

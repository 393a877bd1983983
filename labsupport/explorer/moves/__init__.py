"""What the adversary may do in one run, and what comes of it."""

"""What the adversary may do in one run, what comes of it, and the search through all orders of that."""

"""What is noticed while clients are explored: what escapes the explorer, stands still, or has no order."""

"""What the labs of the caches share: rows of the database as part of a contract's state."""

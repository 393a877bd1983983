"""What a client is handed, and what holds it back until the explorer lets it take a step."""

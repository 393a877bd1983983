"""What goes over the wire to Redis in place of a command, so that the explorer's clock and chance count."""

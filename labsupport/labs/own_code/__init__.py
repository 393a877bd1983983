"""15 Your own code: a service as it is written today, four bugs in it, and tests that find them."""

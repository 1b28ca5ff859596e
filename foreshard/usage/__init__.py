"""Step 1: usage and query records from landing files into Delta tables."""

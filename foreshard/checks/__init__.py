"""Great Expectations as a gate: every table's suite runs on what is about to be committed."""

"""Step 4: carrying out a plan: copy at a pinned version, catch up, verify, and retire what is no longer routed to."""

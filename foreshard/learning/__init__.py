"""Step 7: what came, against what was forecast and published."""

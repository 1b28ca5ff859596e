"""Local search over an assignment of units to nodes: any time, deterministic for a seed and an iteration budget."""

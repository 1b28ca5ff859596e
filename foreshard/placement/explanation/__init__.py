"""A plan in words: why each move, why a shard is where it is and not elsewhere, and what else could be chosen."""

"""The nodes of a pool: starting, emptying and removing them, watching that they live, and planning around those that do not."""

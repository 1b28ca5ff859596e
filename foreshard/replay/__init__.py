"""Plays a recorded load through a pool of nodes, to say what a policy of capacity would have cost and what it would have
missed.

`trace` reads a trace, `pool` says what the nodes are like, `simulation` plays a policy, `outcome` has the figures. Policies:
`static`, `reactive` (also by hashing alone) and, as a bound, `oracle`. See docs/value.md.
"""

"""Step 3, plan: current layout + forecast + node states → the next layout and the moves to it. Pure: no I/O, no clock."""

from foreshard.placement.initial import initial_layout
from foreshard.placement.loads import node_load
from foreshard.placement.planning import solve

__all__ = ["initial_layout", "node_load", "solve"]

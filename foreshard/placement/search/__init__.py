"""Local search over an assignment of units to nodes: any time, deterministic for a seed and an iteration budget."""

from foreshard.placement.search.evaluation import Cost, broken, evaluate
from foreshard.placement.search.improve import improve

__all__ = ["Cost", "broken", "evaluate", "improve"]

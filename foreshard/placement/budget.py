"""The movement budget of stages that change many replicas at once."""

from __future__ import annotations

from foreshard.placement.changes import moves_to
from foreshard.placement.cluster import Cluster
from foreshard.placement.working import Draft


def left_of_budget(cluster: Cluster, draft: Draft) -> tuple[int, int]:
    """Moves and bytes that the draft leaves of the budget; below 0 where repair took more. Time O(S × K² + changes)."""
    moves, policy = moves_to(cluster, draft), cluster.policy
    return policy.max_moves - len(moves.shard), policy.max_move_bytes - int(moves.bytes.sum())


def restore_if_too_dear(cluster: Cluster, draft: Draft, before: Draft) -> bool:
    """Puts the draft back to `before`, in place, if it takes more than the budget allows and more than that did.

    Whether it did so. Time O(S × K² + changes).
    """
    policy = cluster.policy
    now, was = (moves_to(cluster, each) for each in (draft, before))
    more_moves = len(now.shard) > max(policy.max_moves, len(was.shard))
    if not more_moves and int(now.bytes.sum()) <= max(policy.max_move_bytes, int(was.bytes.sum())):
        return False
    for name, column in draft._asdict().items():
        column[...] = getattr(before, name)
    return True

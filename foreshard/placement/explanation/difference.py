"""What differs between two layouts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import date

from foreshard.model import Layout, Replica

# A weight that differs by less is the same: gateways would not notice.
_SAME_WEIGHT = 1e-6


@dataclass(frozen=True, slots=True)
class Change:
    """One replica that differs. `what`: added, removed, widened, narrowed or weighed."""

    shard_id: int
    node_id: str
    what: str
    weight_before: float | None
    weight_after: float | None
    covers_before: date | None
    covers_after: date | None


@dataclass(frozen=True, slots=True)
class NodeChange:
    node_id: str
    replicas_before: int
    replicas_after: int
    added: int
    removed: int


@dataclass(frozen=True, slots=True)
class Difference:
    changes: tuple[Change, ...]
    nodes: tuple[NodeChange, ...]  # those that hold anything in either

    def count(self, what: str) -> int:
        return sum(c.what == what for c in self.changes)


def difference(before: Layout, after: Layout) -> Difference:
    """Replicas that differ, by shard and node, and how many each node has. Time O(replicas log replicas)."""
    old = {(r.shard_id, r.node_id): r for r in before.replicas}
    new = {(r.shard_id, r.node_id): r for r in after.replicas}
    changes = tuple(
        change for key in sorted(old.keys() | new.keys()) if (change := _change(old.get(key), new.get(key))) is not None
    )
    held, holds = Counter(n for _, n in old), Counter(n for _, n in new)
    added = Counter(c.node_id for c in changes if c.what == "added")
    removed = Counter(c.node_id for c in changes if c.what == "removed")
    names = sorted(held.keys() | holds.keys())
    return Difference(changes, tuple(NodeChange(n, held[n], holds[n], added[n], removed[n]) for n in names))


def _change(old: Replica | None, new: Replica | None) -> Change | None:
    known = new or old
    if known is None:
        return None
    if old is None or new is None:
        what = "added" if old is None else "removed"
    elif old.covers_from != new.covers_from:
        earlier = new.covers_from is None or (old.covers_from is not None and new.covers_from < old.covers_from)
        what = "widened" if earlier else "narrowed"
    elif abs(old.weight - new.weight) > _SAME_WEIGHT:
        what = "weighed"
    else:
        return None
    return Change(
        known.shard_id,
        known.node_id,
        what,
        old.weight if old else None,
        new.weight if new else None,
        old.covers_from if old else None,
        new.covers_from if new else None,
    )

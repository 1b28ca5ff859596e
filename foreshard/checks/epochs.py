"""The check of every epoch before it is published: layout, weights and capacity, by the suite `routing_epoch`."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from foreshard.checks.gate import require
from foreshard.checks.layouts import layout_summary
from foreshard.checks.outcome import Finding
from foreshard.model import Policy
from foreshard.routing.predicted_peaks import predicted_peaks
from foreshard.routing.snapshot import Snapshot
from foreshard.settings import Settings

# Part of its capacity by which a node's load may grow before that counts as making it worse.
_SLACK = 0.01


def require_epoch(
    settings: Settings,
    snapshot: Snapshot,
    policy: Policy,
    *,
    now: Mapping[int, int] | None = None,
    before: Snapshot | None = None,
    foreseen: Collection[str] | None = None,
) -> list[Finding]:
    """The suite's warnings; raises QualityError, and then the epoch may not be published.

    `now`: see `layout_summary`. A node with more predicted load than capacity is a warning if its plan said so (`foreseen`), or
    if it is no worse off than in the epoch `before`, which is to be replaced; else it is critical. `foreseen` None: whoever
    publishes knows, as in a rollback.
    """
    summary = layout_summary(snapshot.replicas, snapshot.nodes, policy, 1 << snapshot.slot_bits, now)
    over = overloads(snapshot, before)
    unforeseen = {name for name, worse in over.items() if worse and foreseen is not None and name not in foreseen}
    return require("routing_epoch", summary.assign(overloaded_nodes=len(over), unforeseen_overloads=len(unforeseen)), settings)


def overloads(snapshot: Snapshot, before: Snapshot | None) -> dict[str, bool]:
    """The nodes with more predicted load than capacity at some time, and whether the epoch makes the pool worse by them.

    It does if the node has more than in the epoch before, and is worse off than the worst was then: where all are short, an
    epoch that spreads the want is what is wanted.
    """
    peaks = _peaks(snapshot, snapshot)
    over = [node for node in snapshot.nodes if peaks.get(node.node_id, 0.0) > node.capacity * (1 + _SLACK)]
    if not over:
        return {}
    # By the same forecast: what counts is what this epoch changes.
    were = _peaks(before, snapshot) if before is not None else {}
    worst = max((were.get(node.node_id, 0.0) / node.capacity for node in snapshot.nodes), default=0.0)
    return {n.node_id: peaks[n.node_id] / n.capacity > max(worst, were.get(n.node_id, 0.0) / n.capacity) + _SLACK for n in over}


def _peaks(layout: Snapshot, forecast: Snapshot) -> dict[str, float]:
    isolated = dict(layout.isolated)
    return predicted_peaks(forecast.nodes, layout.replicas, isolated, forecast.predicted, layout.slot_bits)

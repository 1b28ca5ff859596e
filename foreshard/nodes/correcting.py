"""Every few minutes: what nodes say that they have to do, against what the current epoch expected of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from foreshard.learning.correction import Correction, Work, corrected
from foreshard.model import Node, NodeState
from foreshard.routing import corrections, pool, store
from foreshard.routing.expected import expected_loads
from foreshard.routing.store import Heartbeat
from foreshard.settings import Settings

# An older heartbeat says nothing of now.
_FRESH_SECONDS = 15.0


def correct_nodes(settings: Settings, url: str, now: datetime) -> dict[str, float]:
    """Moves each node's correction by one bounded step; node → its factor. Empty while the last step is not old enough, and in
    shadow mode.

    `now` says which interval's forecast counts. Reads the heartbeats and the current epoch; writes in one statement, so
    that of two looks at once one counts. Nodes that nothing can be said of go back to what was learnt of them before, or to 1.
    """
    least_seconds = 60 * settings.watch.correct_minutes
    nodes = [n for n in pool.read_nodes(url, settings.pool_id) if n.is_live]
    before = corrections.read_corrections(url, settings.pool_id)
    due = {n.node_id: before.get(n.node_id, Correction()) for n in nodes if _is_due(before.get(n.node_id), least_seconds)}
    snapshot = store.current(url, settings.pool_id) if due else None
    if snapshot is None:
        return {}
    expected = expected_loads(snapshot, now, [n.node_id for n in nodes])
    factors = corrected(due, expected, _observed(nodes, store.read_heartbeats(url, settings.pool_id)))
    written = corrections.write_corrections(url, settings.pool_id, factors, least_seconds)
    return {node_id: factors[node_id] for node_id in written}


def _is_due(correction: Correction | None, least_seconds: float) -> bool:
    return correction is None or correction.age_seconds >= least_seconds


def _observed(nodes: list[Node], beats: Mapping[str, Heartbeat]) -> dict[str, Work]:
    """Of the active nodes that beat: a node that drains or joins gets other queries than the forecast says."""
    active = [n.node_id for n in nodes if n.state is NodeState.ACTIVE]
    fresh = {n: beats[n] for n in active if n in beats and beats[n].age_seconds <= _FRESH_SECONDS}
    return {node_id: Work(beat.load, beat.service_seconds) for node_id, beat in fresh.items()}

"""What every published epoch must satisfy (invariant 1), checked on the snapshot itself before it is written."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping

from foreshard.errors import Refused
from foreshard.model import Policy, Replica
from foreshard.routing.snapshot import Snapshot


def full_replicas(replicas: Iterable[Replica], live: Collection[str]) -> dict[int, int]:
    """Shard → its full replicas on live nodes; shards without one are left out. Time O(replicas)."""
    found: dict[int, int] = {}
    for replica in replicas:
        if replica.is_full and replica.node_id in live:
            found[replica.shard_id] = found.get(replica.shard_id, 0) + 1
    return found


def enough_full_replicas(policy: Policy, live: int, now: int | None = None) -> int:
    """How many full replicas a shard must have: the policy's, and 1 while only one node lives.

    After a death no layout has them all before the last shard is repaired: a step of a plan may then leave a shard with what
    it has `now`, but not with less. `now` None: no step of a plan.
    """
    needed = 1 if live == 1 else policy.min_full_replicas
    return needed if now is None else min(needed, now)


def check_snapshot(snapshot: Snapshot, policy: Policy, live: Collection[str], now: Mapping[int, int] | None = None) -> None:
    """Raises Refused, naming the shard, unless each slot has enough full replicas on distinct live nodes.

    `live` are the nodes that the control plane holds for live; enough is what `enough_full_replicas` says, with `now` (slot →
    full replicas in the epoch to be replaced) for a plan's steps. An isolated shard needs no full replica of its own: the
    replicas of its slot hold its rows. Time O(replicas).
    """
    _check_isolated(snapshot)
    known = {node.node_id for node in snapshot.nodes}
    usable = {node.node_id for node in snapshot.nodes if node.is_live} & set(live)
    slots = 1 << snapshot.slot_bits
    shards = set(range(slots)) | {shard for _, shard in snapshot.isolated}
    full = [0] * slots
    seen: set[tuple[int, str]] = set()
    for replica in snapshot.replicas:
        key = (replica.shard_id, replica.node_id)
        if replica.shard_id not in shards or replica.node_id not in known or key in seen or not 0 < replica.weight < math.inf:
            raise Refused(f"epoch {snapshot.epoch}: {_fault(replica, slots, shards, known)}")
        seen.add(key)
        if replica.covers_from is None and replica.shard_id < slots and replica.node_id in usable:
            full[replica.shard_id] += 1
    for shard_id, count in enumerate(full):
        needed = enough_full_replicas(policy, len(usable), None if now is None else now.get(shard_id, 0))
        if count < needed:
            raise Refused(
                f"epoch {snapshot.epoch}: shard {shard_id} has {count} full replicas on live nodes and needs {needed}; "
                "plan again from the current nodes"
            )


def _fault(replica: Replica, slots: int, shards: Collection[int], known: Collection[str]) -> str:
    """What is wrong with a replica that is."""
    where = f"shard {replica.shard_id} on {replica.node_id}"
    if replica.shard_id not in shards:
        return f"{where}: there is no such shard among {slots} slots and the isolated entities"
    if replica.node_id not in known:
        return f"{where}: the node is not among the epoch's nodes"
    if not 0 < replica.weight < math.inf:
        return f"{where}: weight {replica.weight} is not a positive number"
    return f"{where}: the replica is listed twice"


def _check_isolated(snapshot: Snapshot) -> None:
    slots = 1 << snapshot.slot_bits
    for entity_id, shard_id in snapshot.isolated:
        if shard_id < slots:
            raise Refused(f"epoch {snapshot.epoch}: isolated entity {entity_id} has shard {shard_id}, which is a slot's number")
    if len({entity for entity, _ in snapshot.isolated}) != len(snapshot.isolated):
        raise Refused(f"epoch {snapshot.epoch}: an entity is isolated twice")
    if len({shard for _, shard in snapshot.isolated}) != len(snapshot.isolated):
        raise Refused(f"epoch {snapshot.epoch}: two isolated entities have the same shard")

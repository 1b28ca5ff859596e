"""What killed, failed or rolled back transitions leave behind in serving tables, and how it is put away.

A repair takes the lease of the node's table, looks again, and marks the replicas' rows before it touches a row of data,
behind the lock that every publication takes: no epoch can then come to route to what is about to go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from foreshard.errors import Refused
from foreshard.model import NodeState
from foreshard.placement.explanation.wording import numbers
from foreshard.routing import database, pool
from foreshard.routing import store as routing_store
from foreshard.settings import Settings
from foreshard.transition import store
from foreshard.transition.acts import serving_lease
from foreshard.transition.retire import compact, drop_shards, narrow_shards
from foreshard.transition.standstill import Standstill, standstill
from foreshard.transition.store import ReplicaRecord
from foreshard.upkeep.finding import Finding
from foreshard.upkeep.scene import NodeScene, look_at, look_at_nodes
from foreshard.upkeep.staged_folders import remove_staged, staged_leftovers
from foreshard.usage.watermark import watermark

ACTOR = "doctor"
_SHOWN = 10


def leftovers(settings: Settings, url: str) -> list[Finding]:
    """Everything found wrong with the nodes' copies; nothing is changed before a finding's `repair` is called."""
    source = watermark(settings, "usage_hourly").version
    found: list[Finding] = []
    for node in look_at_nodes(settings, url):
        found += _orphans(settings, url, node)
        found += _too_wide(settings, url, node)
        found += _rows(settings, url, node)
        found += _absent(node)
        found += _behind(node, source)
        found += _staged(settings, url, node)
    return found


def _orphans(settings: Settings, url: str, node: NodeScene) -> Iterator[Finding]:
    if node.orphans:
        what = f"copies that nothing routes to and no move needs: {_shards(node.orphans)}"
        yield _gated(settings, url, node, what, "drop them", partial(_drop, settings, url, node.node_id))


def _too_wide(settings: Settings, url: str, node: NodeScene) -> Iterator[Finding]:
    if node.too_wide:
        what = f"hot replicas with older days than they are asked for: {_shards(list(node.too_wide))}"
        yield _gated(settings, url, node, what, "drop those days", partial(_narrow, settings, url, node.node_id))


def _gated(settings: Settings, url: str, node: NodeScene, what: str, do: str, repair: Callable[[], str]) -> Finding:
    """A finding that is repaired once all live gateways follow the current epoch: until then they may ask for it."""
    epoch = pool.read_pool(url, settings.pool_id).current_epoch
    waiting = routing_store.unacknowledged(url, settings.pool_id, epoch)
    if waiting:
        return Finding(what, node.node_id, f"{do} when gateways {', '.join(waiting)} follow epoch {epoch}, or are gone")
    return Finding(what, node.node_id, f"{do}: `foreshard doctor --repair`", repair)


def _rows(settings: Settings, url: str, node: NodeScene) -> Iterator[Finding]:
    if node.empty_rows:
        what = f"replicas on record that the table does not have: {_shards(node.empty_rows)}"
        do = "forget them: `foreshard doctor --repair`"
        yield Finding(what, node.node_id, do, partial(_forget, settings, url, node.node_id))
    if node.unrecorded:
        what = f"copies without a record: {_shards(node.unrecorded)}"
        do = "record them: `foreshard doctor --repair`"
        yield Finding(what, node.node_id, do, partial(_record, settings, url, node.node_id))


def _absent(node: NodeScene) -> Iterator[Finding]:
    if not node.absent:
        return
    if node.state is NodeState.DEAD:
        do = "the node is dead: `foreshard node watch` makes a plan that repairs it, `foreshard transition run` carries it out"
    else:
        do = "run the DAG or job follow_source now: it copies them anew, and other replicas answer meanwhile"
    yield Finding(f"routed but not held: {_shards(node.absent)}", node.node_id, do)


def _behind(node: NodeScene, source: int) -> Iterator[Finding]:
    late = [s for s, h in node.said.holdings.items() if h.applied_version < source and s not in node.orphans]
    if late and node.state is not NodeState.DEAD:
        do = "run the DAG follow_source, or spark-submit spark_jobs/follow_source.py"
        yield Finding(f"{len(late)} copies behind usage_hourly", node.node_id, do)


def _staged(settings: Settings, url: str, node: NodeScene) -> Iterator[Finding]:
    folders = staged_leftovers(settings.table(f"serving/{node.node_id}"))
    if folders:
        what = f"{len(folders)} folders of staged files that no version of the table names"
        do = "remove them: `foreshard doctor --repair`"
        yield Finding(what, node.node_id, do, partial(_remove_staged, settings, url, node.node_id))


def _drop(settings: Settings, url: str, node_id: str) -> str:
    with serving_lease(url, settings.pool_id, node_id, ACTOR):
        shards = look_at(settings, url, node_id).orphans
        with _unrouted(settings, url, node_id, shards) as now:
            now.refuse_unfollowed()
            now.mark_retiring(shards)
        drop_shards(settings, node_id, shards)
        store.delete_replicas(url, settings.pool_id, [(shard, node_id) for shard in shards])
        compact(settings, node_id)
    return f"dropped {_shards(shards)}"


def _narrow(settings: Settings, url: str, node_id: str) -> str:
    with serving_lease(url, settings.pool_id, node_id, ACTOR):
        first_days = look_at(settings, url, node_id).too_wide
        with _unrouted(settings, url, node_id, ()) as now:
            now.refuse_unfollowed()
            # An epoch that was published since, and asks for more, is seen here: none comes between this and the row.
            first_days = {s: day for s, day in first_days.items() if look_at(settings, url, node_id).too_wide.get(s) == day}
            parameters = {"pool_id": settings.pool_id, "node_id": node_id}
            days = {"shard_ids": list(first_days), "covers_from": list(first_days.values())}
            database.run(now.cursor, "narrow_replicas", {**parameters, **days})
        narrow_shards(settings, node_id, first_days)
        compact(settings, node_id)
    return f"dropped the older days of {_shards(list(first_days))}"


def _forget(settings: Settings, url: str, node_id: str) -> str:
    with serving_lease(url, settings.pool_id, node_id, ACTOR):
        shards = look_at(settings, url, node_id).empty_rows
        with _unrouted(settings, url, node_id, shards) as now:
            now.forget(shards)
    return f"forgot {_shards(shards)}"


def _record(settings: Settings, url: str, node_id: str) -> str:
    with serving_lease(url, settings.pool_id, node_id, ACTOR):
        node = look_at(settings, url, node_id)
        held = {s: node.said.holdings[s] for s in node.unrecorded}
        rows = [ReplicaRecord(s, node_id, "serving", h.covers_from, h.applied_version) for s, h in held.items()]
        store.upsert_replicas(url, settings.pool_id, rows)
    return f"recorded {_shards(list(held))}"


def _remove_staged(settings: Settings, url: str, node_id: str) -> str:
    with serving_lease(url, settings.pool_id, node_id, ACTOR):
        return f"removed {remove_staged(settings.table(f'serving/{node_id}'))} folders"


@contextmanager
def _unrouted(settings: Settings, url: str, node_id: str, shards: Sequence[int]) -> Iterator[Standstill]:
    """A transaction in which no epoch is published; Refused while the current one routes to a shard."""
    with standstill(url, settings.pool_id, node_id) as now:
        routed = now.routed(shards)
        if routed:
            raise Refused(f"shard {routed[0]} on {node_id} is routed to by epoch {now.epoch} now; look again")
        yield now


def _shards(shards: Sequence[int]) -> str:
    return f"shards {numbers(shards, _SHOWN)}" if shards else "nothing"

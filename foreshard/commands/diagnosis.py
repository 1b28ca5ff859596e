"""What `foreshard doctor` looks for: parts missing, tables behind, copies that nothing knows of."""

from __future__ import annotations

from dataclasses import dataclass

from foreshard.errors import ForeshardError
from foreshard.local.postgres import resolve_url
from foreshard.local.spark import jars, java_home
from foreshard.routing import pool, store
from foreshard.settings import Settings
from foreshard.transition.retire import holdings_of
from foreshard.transition.store import read_replicas
from foreshard.usage.watermark import watermark


@dataclass(frozen=True)
class Finding:
    """Something wrong: what, where, and what to do about it."""

    what: str
    where: str
    do: str


def diagnose(settings: Settings) -> list[Finding]:
    """Everything found wrong, the parts that others need first; nothing is changed."""
    found = []
    for part, check in (("Java", java_home), ("Delta's jars", jars)):
        try:
            check()
        except ForeshardError as error:
            found.append(Finding(f"{part} missing", "this machine", str(error)))
    try:
        url = resolve_url(settings)
        registered = pool.read_pool(url, settings.pool_id)
    except ForeshardError as error:
        return [*found, Finding("control plane", "Postgres", str(error))]
    if registered.current_epoch == 0:
        found.append(Finding("no epoch published", settings.pool_id, "run `foreshard init`"))
    return [*found, *_lag(settings), *_copies(settings, url)]


def _lag(settings: Settings) -> list[Finding]:
    marks = {name: watermark(settings, name) for name in ("usage_hourly", "query_load", "query_pattern_observed")}
    reached = [m.hour for m in marks.values() if m.hour]
    if not reached:
        return [Finding("nothing aggregated yet", settings.lake, "land files and run the aggregate DAG or job")]
    newest = max(reached)
    return [
        Finding(
            f"table behind the others by {newest - m.hour if m.hour else 'everything'}", name, "run the aggregate job again"
        )
        for name, m in marks.items()
        if m.hour != newest
    ]


def _copies(settings: Settings, url: str) -> list[Finding]:
    known = {(r.shard_id, r.node_id) for r in read_replicas(url, settings.pool_id)}
    snapshot = store.current(url, settings.pool_id)
    routed = {(r.shard_id, r.node_id) for r in snapshot.replicas} if snapshot else set()
    source = watermark(settings, "usage_hourly").version
    found = []
    for node in pool.read_nodes(url, settings.pool_id):
        holdings = holdings_of(settings, node.node_id)
        orphans = [s for s in holdings if (s, node.node_id) not in known]
        if orphans:
            found.append(
                Finding(f"copies without a record: shards {orphans[:10]}", node.node_id, "retire them, or run the plan again")
            )
        absent = [s for s, n in sorted(routed) if n == node.node_id and s not in holdings]
        if absent:
            found.append(
                Finding(f"routed but not held: shards {absent[:10]}", node.node_id, "run warm_up_replicas for the plan")
            )
        behind = [s for s, h in holdings.items() if h.applied_version < source]
        if behind:
            found.append(Finding(f"{len(behind)} copies behind usage_hourly", node.node_id, "run follow_source"))
    return found

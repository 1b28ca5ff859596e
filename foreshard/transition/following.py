"""Keeping nodes' copies up to the source: by its change feed, or made anew where the feed no longer reaches back to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Any

from pyspark.sql import SparkSession

from foreshard.lake import log
from foreshard.lake.kept_versions import VersionGone
from foreshard.lake.tables import USAGE_HOURLY
from foreshard.routing.pool import read_nodes
from foreshard.settings import Settings
from foreshard.transition import store, throttle
from foreshard.transition.acts import serving_lease
from foreshard.transition.copy import Changes, changes_of, contents_of, copy_shards, follow, held, is_of_source
from foreshard.transition.holdings import UNKNOWN_VERSION
from foreshard.transition.segments import segment_bytes
from foreshard.transition.verification import require_equal
from foreshard.transition.verify import verify

# A source that is written faster than copies follow it would never be caught up with.
_ROUNDS = 20
ChangesSince = Callable[[int], Changes]


@dataclass(frozen=True, slots=True)
class Followed:
    """What was done to a node's copies: days that changed, and shards that were copied anew."""

    days: int
    made_anew: int


def follow_source(spark: SparkSession, settings: Settings, url: str, isolated: Mapping[str, int]) -> dict[str, Any]:
    """Brings every node's copies to the newest version of usage_hourly and writes what they hold into Postgres.

    Copies that a node should hold and lost, that the change feed no longer reaches back to, and all of a source that was itself
    made anew, are made anew and verified.
    """
    nodes = [node.node_id for node in read_nodes(url, settings.pool_id)]
    version, done = _round(spark, settings, url, nodes, isolated, "follow_source")
    return {
        "version": version,
        "days_rewritten": {node_id: followed.days for node_id, followed in done.items()},
        "restored": {node_id: followed.made_anew for node_id, followed in done.items()},
    }


def catch_up(
    spark: SparkSession, settings: Settings, url: str, node_ids: Sequence[str], isolated: Mapping[str, int], *, bound: int
) -> dict[str, int]:
    """Brings the nodes' copies up until each is at most `bound` versions behind the source, which may go on meanwhile.

    Returns node → versions behind. It is above the bound only if the source was written faster than the copies could follow in
    many rounds; then the next call goes on.
    """
    # The first round is for all: it joins what was copied to hot replicas with what they have.
    behind = sorted(set(node_ids))
    lags: dict[str, int] = {}
    for _ in range(_ROUNDS):
        _round(spark, settings, url, behind, isolated, "catch_up")
        lags = {node_id: _lag(settings, node_id) for node_id in node_ids}
        behind = sorted(node_id for node_id, lag in lags.items() if lag > bound)
        if not behind:
            break
    return lags


def _round(
    spark: SparkSession, settings: Settings, url: str, node_ids: Sequence[str], isolated: Mapping[str, int], actor: str
) -> tuple[int, dict[str, Followed]]:
    """Brings these nodes to the version that is the newest now; returns it with what was done."""
    USAGE_HOURLY.ensure(spark, settings)
    version = log.latest_version(settings.table("usage_hourly"))
    # Nodes that are at the same version need the same changes.
    changes_since = cache(lambda after: changes_of(spark, settings, after, version))
    done = {}
    for node_id in node_ids:
        with serving_lease(url, settings.pool_id, node_id, actor):
            done[node_id] = _follow_node(spark, settings, url, node_id, version, isolated, changes_since)
    return version, done


def _follow_node(
    spark: SparkSession,
    settings: Settings,
    url: str,
    node_id: str,
    version: int,
    isolated: Mapping[str, int],
    changes_since: ChangesSince,
) -> Followed:
    known = {r.shard_id: r for r in store.read_replicas(url, settings.pool_id) if r.node_id == node_id}
    lost = _lost_copies(settings, node_id, known)
    _make_anew(spark, settings, url, node_id, lost, version, isolated)
    days = 0
    while True:
        try:
            days = follow(spark, settings, node_id, version, isolated, changes_since)
            break
        except VersionGone as gone:
            out_of_reach = _applied(settings, node_id, gone.version)
            if not out_of_reach:
                raise
            _make_anew(spark, settings, url, node_id, out_of_reach, version, isolated)
            lost |= out_of_reach
    mirrored = [
        store.ReplicaRecord(
            shard, node_id, known[shard].state, h.covers_from, h.applied_version, version if shard in lost else None
        )
        for shard, h in held(settings, node_id).items()
        if shard in known
    ]
    store.upsert_replicas(url, settings.pool_id, mirrored)
    return Followed(days, len(lost))


def _lost_copies(settings: Settings, node_id: str, known: Mapping[int, store.ReplicaRecord]) -> dict[int, date | None]:
    """Shard → first day of the copies that the control plane counts on and the table lacks or has of another source."""
    wanted = {s: r.covers_from for s, r in known.items() if r.state in ("verified", "serving")}
    holdings = held(settings, node_id)
    is_current = is_of_source(settings, node_id)
    stale = {s: h.covers_from for s, h in holdings.items() if not is_current or h.applied_version == UNKNOWN_VERSION}
    return stale | {s: day for s, day in wanted.items() if s not in holdings}


def _applied(settings: Settings, node_id: str, version: int) -> dict[int, date | None]:
    """Shard → first day of the copies that have applied this version of the source or an older one."""
    said = contents_of(settings, node_id)
    return {s: h.covers_from for s, h in {**said.holdings, **said.widened}.items() if h.applied_version <= version}


def _make_anew(
    spark: SparkSession,
    settings: Settings,
    url: str,
    node_id: str,
    shards: Mapping[int, date | None],
    version: int,
    isolated: Mapping[str, int],
) -> None:
    """Copies these shards at a version pinned meanwhile, within the pool's throttle, and verifies them.

    Until then the node goes on with what it has.
    """
    if not shards:
        return
    holder = f"{node_id} made anew"
    store.pin_version(url, settings.pool_id, "usage_hourly", version, holder)
    if throttle.read_rate(url, settings.pool_id) is not None:
        sizes = segment_bytes(spark, settings, version, shards, isolated)
        throttle.wait(url, settings.pool_id, sum(sum(days.values()) for days in sizes.values()))
    copy_shards(spark, settings, node_id, shards, version, isolated)
    require_equal(verify(settings, {node_id: shards}, version, isolated), settings)
    store.unpin(url, settings.pool_id, "usage_hourly", holder)


def _lag(settings: Settings, node_id: str) -> int:
    """Versions by which the node's copies are behind the source, at most; 0 for a node without copies."""
    said = contents_of(settings, node_id)
    applied = [h.applied_version for h in {**said.holdings, **said.widened}.values()]
    newest = log.latest_version(settings.table("usage_hourly"))
    return max((newest - one for one in applied), default=0) if is_of_source(settings, node_id) or not applied else newest + 1

"""The Spark half of a transition: copy what a plan needs at a pinned version, verify it, and follow the source after that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from datetime import date
from functools import cache
from typing import Any

import pandas as pd
from pyspark.sql import SparkSession

from foreshard.checks.gate import QualityError, require
from foreshard.errors import ForeshardError, Refused
from foreshard.lake import log
from foreshard.lake.tables import USAGE_HOURLY
from foreshard.model import MoveKind
from foreshard.routing.pool import read_nodes
from foreshard.settings import Settings
from foreshard.transition import lease, store
from foreshard.transition.copy import changes_of, copy_shards, follow, held, is_of_source
from foreshard.transition.holdings import UNKNOWN_VERSION
from foreshard.transition.verify import Verification, verify

ACTOR = "warm_up_replicas"
_LEASE_SECONDS = 60
_WAIT_SECONDS = 180
_COPIED_KINDS = (MoveKind.MOVE, MoveKind.REPLICATE, MoveKind.WIDEN)
Coverage = dict[str, dict[int, date | None]]


def warm_up(spark: SparkSession, settings: Settings, url: str, plan_id: str, isolated: Mapping[str, int]) -> dict[str, Any]:
    """Copies and verifies every replica that the plan adds; safe to repeat after a kill at any point.

    `isolated`: entity → its own shard, also of those that the plan isolates: all that `entity_shards.known` has.
    Raises Refused if the plan is not approved, ForeshardError naming the segments if a copy differs from its source.
    """
    pool_id = settings.pool_id
    moves = _moves_to_copy(url, pool_id, plan_id)
    USAGE_HOURLY.ensure(spark, settings)
    version = log.latest_version(settings.table("usage_hourly"))
    store.pin_version(url, pool_id, "usage_hourly", version, plan_id)
    coverage: Coverage = {}
    for move in moves:
        coverage.setdefault(move.target, {})[move.shard_id] = move.covers_from
    if not coverage:
        return {"plan_id": plan_id, "version": version, "rows": 0, "replicas": 0}
    with _leases(url, pool_id, coverage, plan_id):
        for node_id, shards in sorted(coverage.items()):
            positions = [m.position for m in moves if m.target == node_id]
            store.advance_moves(url, pool_id, plan_id, positions, "copying", ACTOR, source_version=version)
            _mirror(url, pool_id, {node_id: shards}, version, "copying")
            copy_shards(spark, settings, node_id, shards, version, isolated)
        outcome = verify(spark, settings, coverage, version, isolated)
        _conclude(settings, url, plan_id, moves, coverage, version, outcome)
    return {"plan_id": plan_id, "version": version, "rows": sum(outcome.rows.values()), "replicas": len(outcome.rows)}


def verify_again(
    spark: SparkSession, settings: Settings, url: str, plan_id: str, isolated: Mapping[str, int]
) -> dict[str, Any]:
    """Verifies the plan's copies without copying, each node at the version it has applied."""
    coverage: Coverage = {}
    moves = _moves_to_copy(url, settings.pool_id, plan_id)
    for move in moves:
        coverage.setdefault(move.target, {})[move.shard_id] = move.covers_from
    rows = 0
    with _leases(url, settings.pool_id, coverage, plan_id):
        for node_id, shards in sorted(coverage.items()):
            holdings = held(settings, node_id)
            versions = {holdings[s].applied_version for s in shards if s in holdings}
            if len(versions) != 1 or not set(shards) <= set(holdings):
                raise ForeshardError(f"{node_id} does not hold all of plan {plan_id}'s shards at one version; warm up again")
            version = versions.pop()
            outcome = verify(spark, settings, {node_id: shards}, version, isolated)
            mine = [m for m in moves if m.target == node_id]
            _conclude(settings, url, plan_id, mine, {node_id: shards}, version, outcome)
            rows += sum(outcome.rows.values())
    return {"plan_id": plan_id, "rows": rows, "nodes": len(coverage)}


def follow_source(spark: SparkSession, settings: Settings, url: str, isolated: Mapping[str, int]) -> dict[str, Any]:
    """Brings every node's copies to the newest version of usage_hourly and mirrors what they hold into Postgres.

    Copies that a node should hold and lost are made anew and verified, as are all of a source that was itself made anew.
    """
    USAGE_HOURLY.ensure(spark, settings)
    version = log.latest_version(settings.table("usage_hourly"))
    # Nodes that are at the same version need the same changes.
    changes_since = cache(lambda after: changes_of(spark, settings, after, version))
    days: dict[str, int] = {}
    restored: dict[str, int] = {}
    for node in read_nodes(url, settings.pool_id):
        with lease.held(url, _lease_name(settings.pool_id, node.node_id), "follow_source", _LEASE_SECONDS, _WAIT_SECONDS):
            known = {r.shard_id: r for r in store.read_replicas(url, settings.pool_id) if r.node_id == node.node_id}
            lost = _lost_copies(settings, node.node_id, known)
            _restore(spark, settings, node.node_id, lost, version, isolated)
            restored[node.node_id] = len(lost)
            days[node.node_id] = follow(spark, settings, node.node_id, version, isolated, changes_since)
            holdings = held(settings, node.node_id)
            mirrored = [
                store.ReplicaRecord(
                    shard,
                    node.node_id,
                    known[shard].state,
                    h.covers_from,
                    h.applied_version,
                    version if shard in lost else None,
                )
                for shard, h in holdings.items()
                if shard in known
            ]
            store.upsert_replicas(url, settings.pool_id, mirrored)
    return {"version": version, "days_rewritten": days, "restored": restored}


def _lost_copies(settings: Settings, node_id: str, known: Mapping[int, store.ReplicaRecord]) -> dict[int, date | None]:
    """Shard → first day of the copies that the control plane counts on and the table lacks or has of another source."""
    wanted = {s: r.covers_from for s, r in known.items() if r.state in ("verified", "serving")}
    holdings = held(settings, node_id)
    is_current = is_of_source(settings, node_id)
    stale = {s: h.covers_from for s, h in holdings.items() if not is_current or h.applied_version == UNKNOWN_VERSION}
    return stale | {s: day for s, day in wanted.items() if s not in holdings}


def _restore(
    spark: SparkSession,
    settings: Settings,
    node_id: str,
    lost: dict[int, date | None],
    version: int,
    isolated: Mapping[str, int],
) -> None:
    if not lost:
        return
    copy_shards(spark, settings, node_id, lost, version, isolated)
    _require_equal(verify(spark, settings, {node_id: lost}, version, isolated), settings)


def _moves_to_copy(url: str, pool_id: str, plan_id: str) -> list[store.MoveRecord]:
    plan = store.read_plan(url, pool_id, plan_id)
    if plan.state not in ("approved", "running", "failed"):
        raise Refused(f"plan {plan_id} is {plan.state}; only an approved plan is carried out")
    store.set_plan_state(url, pool_id, plan_id, "running", ACTOR)
    return [m for m in store.read_moves(url, pool_id, plan_id) if m.kind in _COPIED_KINDS]


def _leases(url: str, pool_id: str, node_ids: Iterable[str], holder: str) -> ExitStack:
    with ExitStack() as guarded:
        for node_id in sorted(node_ids):
            guarded.enter_context(lease.held(url, _lease_name(pool_id, node_id), holder, _LEASE_SECONDS, _WAIT_SECONDS))
        return guarded.pop_all()


def _lease_name(pool_id: str, node_id: str) -> str:
    return f"{pool_id}/serving/{node_id}"


def _mirror(url: str, pool_id: str, coverage: Mapping[str, Mapping[int, date | None]], version: int, state: str) -> None:
    verified = version if state == "verified" else None
    rows = [
        store.ReplicaRecord(shard, node_id, state, day, version, verified)
        for node_id, shards in coverage.items()
        for shard, day in shards.items()
    ]
    store.upsert_replicas(url, pool_id, rows)


def _conclude(
    settings: Settings,
    url: str,
    plan_id: str,
    moves: list[store.MoveRecord],
    coverage: Coverage,
    version: int,
    outcome: Verification,
) -> None:
    wrong = outcome.mismatches
    if wrong:
        nodes = {(m.node_id, m.shard_id) for m in wrong}
        failed = [m.position for m in moves if (m.target, m.shard_id) in nodes]
        store.advance_moves(url, settings.pool_id, plan_id, failed, "failed", ACTOR, detail=str(wrong[0]))
    _require_equal(outcome, settings)
    rows_by_position = {m.position: outcome.rows[m.target, m.shard_id] for m in moves}
    store.advance_moves(
        url,
        settings.pool_id,
        plan_id,
        list(rows_by_position),
        "verified",
        ACTOR,
        source_version=version,
        rows_by_position=rows_by_position,
    )
    _mirror(url, settings.pool_id, coverage, version, "verified")


def _require_equal(outcome: Verification, settings: Settings) -> None:
    """Records the suite's report of the verification; raises ForeshardError naming the first segment that differs."""
    wrong = outcome.mismatches
    figures = {"mismatched_segments": len(wrong), "shards": len(outcome.rows), "rows": sum(outcome.rows.values())}
    try:
        require("serving", pd.DataFrame([figures]), settings)
    except QualityError:
        if not wrong:
            raise
        raise ForeshardError(
            f"verification failed for {len(wrong)} segments, first {wrong[0]}; nothing was published"
        ) from None

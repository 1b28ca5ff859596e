"""The steps of a transition that need Spark: copy at a pinned version, catch up with the source, verify."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from pyspark.sql import SparkSession

from foreshard.errors import ForeshardError, Refused
from foreshard.lake.tables import USAGE_HOURLY
from foreshard.model import MoveKind
from foreshard.routing import database
from foreshard.settings import Settings
from foreshard.transition import lease as leases
from foreshard.transition import progress, store, throttle
from foreshard.transition.acts import LEASE_SECONDS, Hold, serving_lease
from foreshard.transition.controller import SparkStep, carry_out, controlling
from foreshard.transition.copy_state import CopyJob
from foreshard.transition.copying import Stopped, copy_moves
from foreshard.transition.decision import NEEDS_SPARK, Act, Decision
from foreshard.transition.following import catch_up
from foreshard.transition.machine import MoveState
from foreshard.transition.picture import COPIED_KINDS, MoveView, Picture
from foreshard.transition.verification import report, require_equal, verified

ACTOR = "warm_up_replicas"
# A job holds a cluster's memory: it does not wait for people, but for nodes that are about to answer.
_PATIENCE_SECONDS = 15.0


def warm_up(spark: SparkSession, settings: Settings, url: str, plan_id: str, isolated: Mapping[str, int]) -> dict[str, Any]:
    """Copies, catches up and verifies the plan's current wave; safe to repeat after a kill at any point.

    `isolated`: entity → its own shard, also of those that the plan isolates: all that `entity_shards.known` has. Returns what
    was verified. Refused if the plan is not to be carried out; ForeshardError naming the first move that could not be copied.
    """
    USAGE_HOURLY.ensure(spark, settings)
    with controlling(settings, url, plan_id, ACTOR, wait_seconds=3 * LEASE_SECONDS) as hold:
        last = carry_out(
            hold,
            lambda sentence: print(sentence, flush=True),
            seconds=_PATIENCE_SECONDS,
            only=NEEDS_SPARK | {Act.ADVANCE, Act.WAIT},
            spark_step=spark_step_of(spark, isolated),
        )
    if last.decision.act is Act.STOP:
        raise Refused(last.decision.sentence)
    moves = [m for m in store.read_moves(url, settings.pool_id, plan_id) if m.kind in COPIED_KINDS]
    failed = next((m for m in moves if m.state == MoveState.FAILED.value), None)
    if failed:
        raise ForeshardError(f"shard {failed.shard_id} to {failed.target}: {failed.detail}")
    copied = [m for m in moves if m.rows_copied is not None]
    version = max((m.source_version for m in copied if m.source_version is not None), default=-1)
    rows = sum(m.rows_copied or 0 for m in copied)
    return {"plan_id": plan_id, "version": version, "rows": rows, "replicas": len(copied), "next": last.decision.sentence}


def verify_again(settings: Settings, url: str, plan_id: str, isolated: Mapping[str, int]) -> dict[str, Any]:
    """Verifies the plan's copies once more, each node's at the version it has applied; ForeshardError if one differs."""
    after = {s.value for s in (MoveState.VERIFIED, MoveState.SHADOWING, MoveState.CUTTING_OVER, MoveState.REVERSIBLE)}
    moves = store.read_moves(url, settings.pool_id, plan_id)
    chosen = [m for m in moves if m.kind in COPIED_KINDS and m.state in after | {MoveState.DONE.value}]
    coverage = _coverage([(m.target, m.shard_id, m.covers_from) for m in chosen])
    outcome = verified(settings, url, coverage, isolated, ACTOR)
    require_equal(outcome, settings)
    return {"plan_id": plan_id, "rows": sum(outcome.rows.values()), "nodes": len(coverage)}


def spark_step_of(spark: SparkSession, isolated: Mapping[str, int]) -> SparkStep:
    """What the controller calls for a step that needs Spark."""

    def step(hold: Hold, picture: Picture, decision: Decision) -> None:
        moves = [m for m in picture.moves if m.position in set(decision.positions)]
        if decision.act is Act.COPY:
            _copy(spark, hold, picture, moves, isolated)
        elif decision.act is Act.CATCH_UP:
            nodes, bound = sorted({m.target for m in moves}), hold.settings.transition.catch_up_versions
            catch_up(spark, hold.settings, hold.url, nodes, isolated, bound=bound)
        else:
            _verify(hold, moves, isolated)

    return step


def _copy(spark: SparkSession, hold: Hold, picture: Picture, moves: Sequence[MoveView], isolated: Mapping[str, int]) -> None:
    """Copies node by node; a node that cannot be written to fails its own moves only."""
    settings, url, key, pool_id = hold.settings, hold.url, hold.key, hold.settings.pool_id
    version = _version_to_copy(moves, picture.source_version)
    _begin(hold, [m.position for m in moves], version)
    _mirror(hold, moves)
    for node_id in sorted({m.target for m in moves}):
        mine = [m for m in moves if m.target == node_id]
        copied = dict.fromkeys((m.position for m in mine), 0)

        def goes_on(now: Mapping[int, int], copied: dict[int, int] = copied) -> bool:
            copied.update(now)
            return progress.record_bytes(url, hold.lease, key, copied)

        try:
            rows = copy_moves(
                spark,
                settings,
                node_id,
                [CopyJob(m.position, m.shard_id, m.covers_from, f"{key.plan_id}/{m.position}/{m.attempts}") for m in mine],
                version,
                isolated,
                rate=lambda: throttle.read_rate(url, pool_id),
                allowed=lambda size, go_on=goes_on: throttle.wait(url, pool_id, size, lambda: go_on({})),  # type: ignore[misc]
                on_chunk=goes_on,
                turn=lambda node=node_id: serving_lease(url, pool_id, node, key.actor),  # type: ignore[misc]
            )
        except Stopped as stopped:
            raise Refused(str(stopped)) from None
        except ForeshardError as error:
            progress.advance_alone(url, hold.lease, key, list(copied), MoveState.FAILED, detail=str(error))
            continue
        _mirror(hold, mine, version)
        progress.advance_alone(url, hold.lease, key, list(rows), MoveState.CATCHING_UP, source_version=version, rows=rows)


def _version_to_copy(moves: Sequence[MoveView], newest: int) -> int:
    """The version at which a copy was begun, if it is still that of the same table; else the newest."""
    begun = [m.source_version for m in moves if m.state is MoveState.COPYING and m.source_version is not None]
    return max(begun) if begun and max(begun) <= newest else newest


def _begin(hold: Hold, positions: Sequence[int], version: int) -> None:
    """Pins the version and moves on to `copying`, in one transaction: a controller that lost its lease pins nothing."""
    key = hold.key
    pin = {"pool_id": key.pool_id, "table_name": "usage_hourly", "version": version, "holder": key.plan_id}
    with database.transaction(hold.url) as cursor:
        leases.check(cursor, hold.lease)
        database.run(cursor, "pin_version", pin)
        progress.advance(cursor, key, positions, MoveState.COPYING, source_version=version)


def _mirror(hold: Hold, moves: Sequence[MoveView], version: int | None = None) -> None:
    """Notes what is being copied, and the version once it is there. A hot replica that becomes full serves what it has."""
    new = [m for m in moves if m.kind is not MoveKind.WIDEN]
    rows = [store.ReplicaRecord(m.shard_id, m.target, "copying", m.covers_from, version) for m in new]
    store.upsert_replicas(hold.url, hold.settings.pool_id, rows)


def _verify(hold: Hold, moves: Sequence[MoveView], isolated: Mapping[str, int]) -> None:
    coverage = _coverage([(m.target, m.shard_id, m.covers_from) for m in moves])
    outcome = verified(hold.settings, hold.url, coverage, isolated, hold.key.actor)
    wrong: dict[tuple[str, int], str] = {}
    for mismatch in outcome.mismatches:
        wrong.setdefault((mismatch.node_id, mismatch.shard_id), str(mismatch))
    for move in moves:
        why = wrong.get((move.target, move.shard_id))
        if why:
            progress.advance_alone(hold.url, hold.lease, hold.key, [move.position], MoveState.FAILED, detail=why)
    equal = [m for m in moves if (m.target, m.shard_id) not in wrong]
    rows = {m.position: outcome.rows[m.target, m.shard_id] for m in equal}
    progress.advance_alone(hold.url, hold.lease, hold.key, list(rows), MoveState.VERIFIED, rows=rows)
    report(outcome, hold.settings)


def _coverage(copies: Sequence[tuple[str, int, date | None]]) -> dict[str, dict[int, date | None]]:
    found: dict[str, dict[int, date | None]] = {}
    for node_id, shard_id, day in copies:
        found.setdefault(node_id, {})[shard_id] = day
    return found

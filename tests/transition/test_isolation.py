"""A hot entity gets a shard of its own by a plan, and loses it again when it is cold: from the forecast to the last copy."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from serving_tables import copied_shards, source_shard, write_source
from tables import version
from written_forecasts import write_forecast

from foreshard.errors import ForeshardError, Refused
from foreshard.gateway.routing_table import RoutingTable
from foreshard.hashing import entity_slot
from foreshard.placement import initial_layout, solve
from foreshard.routing import pool
from foreshard.routing import store as epochs
from foreshard.routing.snapshot import Snapshot
from foreshard.settings import Settings
from foreshard.transition import entity_shards, steps, store
from foreshard.transition.copy import copy_shards
from foreshard.transition.following import follow_source
from foreshard.transition.inputs import newest_forecasts, placement_problem
from foreshard.transition.retire import holdings_of
from foreshard.transition.spark_steps import verify_again, warm_up

ORIGIN = datetime(2013, 11, 28, tzinfo=UTC)
HOT = "hot"
ROWS = [(e, ORIGIN - timedelta(days=2, hours=n), 10 + n) for n, e in enumerate([HOT, *(f"e{i}" for i in range(12))])]


def write_load(settings: Settings, upto: datetime) -> None:
    """A week of query_load in which the entity is nine tenths of its slot by day, and not seen by night."""
    hours = [upto - timedelta(hours=h) for h in range(1, 7 * 24 + 1)]
    rows = [(HOT, at, 9.0 * 3600) for at in hours if at.hour >= 6] + [("", at, 3600.0) for at in hours]
    table = pa.table(
        {
            "slot": pa.array([entity_slot(HOT, settings.slot_bits)] * len(rows), pa.int32()),
            "entity_id": [entity for entity, _, _ in rows],
            "interval_start": pa.array([at for _, at, _ in rows], pa.timestamp("us", "UTC")),
            "load": pa.array([Decimal(load) for _, _, load in rows], pa.decimal128(20, 6)),
            "day": pa.array([at.date() for _, at, _ in rows], pa.date32()),
        }
    )
    write_deltalake(settings.table("query_load"), table, partition_by=["day"])


def forecast(settings: Settings, origin: datetime, means: Mapping[int, float], isolated: Mapping[str, int]) -> None:
    """The forecast made at `origin` from 6 o'clock on: these shards' means, 0.5 for all other slots."""
    shards = {slot: 0.5 for slot in range(settings.slots)} | dict(means)
    write_forecast(settings, origin, shards, after=6, isolated=isolated, spread_own=0.1, spread_common=0.05)


def current(settings: Settings) -> Snapshot:
    snapshot = epochs.current(settings.postgres_url, settings.pool_id)
    assert snapshot is not None
    return snapshot


def candidates(settings: Settings) -> set[str]:
    return {c.node.node_id for c in RoutingTable(current(settings)).candidates(HOT)}


def carry_out(spark: Any, settings: Settings, plan_id: str) -> None:
    """All steps of the DAG after the plan."""
    known = entity_shards.known(settings.postgres_url, settings.pool_id)
    while not (done := steps.carry_on(settings, plan_id, "test", lambda _: None)).is_over:
        assert done.needs_spark, done.decision.sentence
        warm_up(spark, settings, settings.postgres_url, plan_id, known)


@pytest.mark.spark
def test_a_hot_entity_is_isolated_and_consolidated_back_when_it_is_cold(spark: Any, module_lake: Settings) -> None:
    settings, url = module_lake, module_lake.postgres_url
    slot, own = entity_slot(HOT, settings.slot_bits), settings.slots
    pool.register(url, settings)
    first = steps.propose_first(settings)
    write_source(spark, settings, ROWS)
    carry_out(spark, settings, first.plan_id)
    before = candidates(settings)
    assert len(before) == 2

    # Hot: nine tenths of a slot that is forecast at 9 a second; above 0.3 × the mean node of 13.3 a second.
    write_load(settings, ORIGIN)
    forecast(settings, ORIGIN, {slot: 9.0}, {})
    problem = placement_problem(settings, url, newest_forecasts(settings))
    (heavy,) = problem.heavy
    assert (heavy.entity_id, heavy.slot, heavy.shard_id, heavy.reserved) == (HOT, slot, None, own)
    assert heavy.mean == pytest.approx([8.1] * 6)
    assert 0 < heavy.bytes_full < sum(s.bytes_full for s in problem.shards)
    plan = steps.propose(settings)
    assert plan.plan_id == steps.propose(settings).plan_id, "a repeat after a kill gives the same plan"
    assert current(settings).isolated == (), "nothing is isolated before the publication"

    # Killed after a copy, and the source goes on before the next try and before the publication.
    known = entity_shards.known(url, settings.pool_id)
    assert known == {HOT: own}
    targets = {m.target for m in store.read_moves(url, settings.pool_id, plan.plan_id) if m.shard_id == own}
    assert targets
    with pytest.raises(ForeshardError, match=f"shard {own} is no slot and no entity's own"):
        copy_shards(spark, settings, min(targets), {own: None}, version(settings, "usage_hourly"), {})
    copy_shards(spark, settings, min(targets), {own: None}, version(settings, "usage_hourly"), known)
    assert steps.carry_on(settings, plan.plan_id, "test", lambda _: None).needs_spark
    warm_up(spark, settings, url, plan.plan_id, known)
    write_source(spark, settings, [(HOT, ORIGIN - timedelta(days=1), 77)])
    follow_source(spark, settings, url, known)
    assert verify_again(settings, url, plan.plan_id, known)["rows"] > 0
    carry_out(spark, settings, plan.plan_id)

    assert current(settings).isolated == ((HOT, own),)
    assert {r.node_id for r in current(settings).replicas if r.shard_id == own} == targets
    assert candidates(settings) == before | targets
    assert len(candidates(settings)) > len(before)
    rows = [row for row in source_shard(settings, slot) if row[0] == HOT]
    assert len(rows) == 2
    for node in targets:
        assert copied_shards(settings, node)[own] == rows
    sums = {s: sum(p.mean for p in current(settings).predicted if p.shard_id == s) for s in (slot, own)}
    assert sums == pytest.approx({slot: 6 * 0.9, own: 6 * 8.1}), "gateways weigh by the forecast taken apart"

    # Before the next forecast and after it, nothing changes while the load stays.
    for means, isolated in (({slot: 9.0}, {}), ({slot: 0.9, own: 8.1}, {HOT: own})):
        forecast(settings, ORIGIN, means, isolated)
        problem = placement_problem(settings, url, newest_forecasts(settings))
        assert {s.shard_id: s.parent for s in problem.shards if s.parent is not None} == {own: slot}
        (heavy,) = problem.heavy
        assert (heavy.shard_id, heavy.reserved) == (own, None)
        assert heavy.mean == pytest.approx([8.1] * 6)
        assert solve(problem, seed=settings.forecast.seed).isolations == ()

    # Cold: below 0.6 × the bound.
    later = ORIGIN + timedelta(days=1)
    forecast(settings, later, {slot: 0.9, own: 0.3}, {HOT: own})
    last = steps.propose(settings)
    document = store.read_plan(url, settings.pool_id, last.plan_id).document
    assert [(i["entity_id"], i["shard_id"], i["ends"]) for i in document["isolations"]] == [(HOT, own, True)]
    carry_out(spark, settings, last.plan_id)
    assert current(settings).isolated == ()
    assert own not in {r.shard_id for r in current(settings).replicas}
    assert candidates(settings) == {r.node_id for r in current(settings).replicas if r.shard_id == slot}
    for node in settings.nodes:
        assert own not in holdings_of(settings, node.node_id)
        assert own not in copied_shards(settings, node.node_id)
    assert own not in {r.shard_id for r in store.read_replicas(url, settings.pool_id)}
    assert sum(p.mean for p in current(settings).predicted if p.shard_id == slot) == pytest.approx(6 * 1.2)
    problem = placement_problem(settings, url, newest_forecasts(settings))
    assert problem.heavy == ()
    assert [s for s in problem.shards if s.parent is not None] == []
    with pytest.raises(Refused, match="not verified"):
        epochs.rollback(url, settings.pool_id, 2, "test")  # its copies are gone: that epoch cannot come back


def test_a_plan_that_only_ends_an_isolation_is_published(lake: Settings) -> None:
    settings, url, own = lake, lake.postgres_url, lake.slots
    pool.register(url, settings)
    nodes = pool.read_nodes(url, settings.pool_id)
    snapshot = Snapshot(
        pool_id=settings.pool_id,
        epoch=1,
        parent=0,
        slot_bits=settings.slot_bits,
        interval_seconds=3600,
        recent_days=7,
        months_days=90,
        nodes=nodes,
        replicas=initial_layout(list(range(settings.slots)), nodes, settings.policy, epoch=1).replicas,
        isolated=((HOT, own),),  # without a replica of its own: its slot's serve it
    )
    epochs.publish(url, snapshot, expected_epoch=0, published_by="test", reason="test")
    forecast(settings, ORIGIN, {own: 0.1}, {HOT: own})
    plan = steps.propose(settings)
    assert (plan.moves, plan.needs_approval) == (0, False)
    assert steps.carry_on(settings, plan.plan_id, "test", lambda _: None).is_over
    assert (current(settings).epoch, current(settings).isolated) == (2, ())
    assert steps.propose(settings).plan_id == "", "after that there is nothing to do"

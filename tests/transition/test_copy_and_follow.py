"""A pool's copies from its first epoch on: made from nothing, followed, moved, verified, retired, lost and restored."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from deltalake import DeltaTable, write_deltalake
from serving_tables import copied_shards, source_shard, write_source
from tables import version

from foreshard.errors import ForeshardError, Refused
from foreshard.gateway import holdings as gateway_holdings
from foreshard.gateway.query import Query
from foreshard.gateway.serving_copy import NotMine, ServingCopy
from foreshard.model import Layout, Move, MoveKind, Plan, PlanMetrics, Replica
from foreshard.placement import codec
from foreshard.routing import pool
from foreshard.routing import store as epochs
from foreshard.settings import Settings
from foreshard.transition import steps, store
from foreshard.transition.copy import copy_shards
from foreshard.transition.retire import holdings_of
from foreshard.transition.verify import verify
from foreshard.transition.warm_up import follow_source, verify_again, warm_up

pytestmark = pytest.mark.spark

DAY = datetime(2013, 11, 26, tzinfo=UTC)
HOT_SINCE = date(2013, 11, 28)
ENTITIES = [f"e{n}" for n in range(24)]
ROWS = [(entity, DAY + timedelta(days=d, hours=n % 5), 10 * d + n) for d in range(3) for n, entity in enumerate(ENTITIES)]


def current(settings: Settings) -> Layout:
    snapshot = epochs.current(settings.postgres_url, settings.pool_id)
    assert snapshot is not None
    return snapshot.layout


def assert_copies_equal_source(settings: Settings) -> None:
    newest = version(settings, "usage_hourly")
    for node in settings.nodes:
        held = holdings_of(settings, node.node_id)
        routed = {r.shard_id: r.covers_from for r in current(settings).of_node(node.node_id)}
        assert set(routed) <= set(held)
        copied = copied_shards(settings, node.node_id)
        assert set(copied) <= set(held)
        for shard, holding in held.items():
            assert copied.get(shard, []) == source_shard(settings, shard, holding.covers_from), (node.node_id, shard)
            assert holding.applied_version == newest
    known = {(r.shard_id, r.node_id): r.applied_version for r in store.read_replicas(settings.postgres_url, settings.pool_id)}
    assert set(known.values()) == {newest}


def approved(settings: Settings, plan_id: str, moves: tuple[Move, ...], layout: Layout, base_epoch: int) -> Plan:
    """A stored and approved plan."""
    plan = Plan(plan_id, settings.pool_id, base_epoch, "digest", moves, layout, PlanMetrics(1, 1, 1, 0, 0, len(moves), "test"))
    store.save_plan(settings.postgres_url, plan, codec.plan_to_document(plan))
    store.record_approval(settings.postgres_url, settings.pool_id, plan_id, "approved", "test")
    return plan


def test_a_pool_begins_from_nothing_with_an_epoch_of_empty_copies(spark: Any, module_lake: Settings) -> None:
    settings, url = module_lake, module_lake.postgres_url
    pool.register(url, settings)
    plan = steps.propose_first(settings)
    with pytest.raises(Refused, match="not verified"):
        steps.publish(settings, plan.plan_id)
    with pytest.raises(Refused, match="only after its epoch is published"):
        steps.retire(settings, plan.plan_id)
    made = warm_up(spark, settings, url, plan.plan_id, {})
    assert (made["rows"], made["replicas"]) == (0, 16)
    assert steps.publish(settings, plan.plan_id) == 1
    assert steps.publish(settings, plan.plan_id) == 1
    assert steps.retire(settings, plan.plan_id) == 0
    assert store.oldest_pin(url, settings.pool_id, "usage_hourly") is None
    assert_copies_equal_source(settings)
    with pytest.raises(Refused, match="only an approved plan"):
        warm_up(spark, settings, url, plan.plan_id, {})


def test_copies_follow_their_source(spark: Any, module_lake: Settings) -> None:
    settings, url = module_lake, module_lake.postgres_url
    first = write_source(spark, settings, ROWS)
    assert follow_source(spark, settings, url, {})["version"] == first
    assert_copies_equal_source(settings)
    before = {node.node_id: version(settings, f"serving/{node.node_id}") for node in settings.nodes}
    follow_source(spark, settings, url, {})
    assert {n: version(settings, f"serving/{n}") for n in before} == before, "nothing is written when nothing changed"

    changed = [(e, hour, q + 1000 if (e, hour.day) == ("e3", 27) else q) for e, hour, q in ROWS if hour.day == 27]
    write_source(spark, settings, changed)
    done = follow_source(spark, settings, url, {})
    assert set(done["days_rewritten"].values()) == {1}
    assert set(done["restored"].values()) == {0}
    assert_copies_equal_source(settings)


def test_a_pipeline_reads_what_the_commits_say_is_held(module_lake: Settings) -> None:
    settings = module_lake
    shard = current(settings).of_node("a")[0].shard_id
    entity, hour, quantity = next(r for r in source_shard(settings, shard))[:3]
    table = DeltaTable(settings.table("serving/a"))
    assert gateway_holdings.read(table) == holdings_of(settings, "a")
    copy = ServingCopy(settings.table("serving/a"))
    copy.refresh()
    query = Query(entity, "s", "o", hour, hour + timedelta(hours=1), "point")
    rows, applied = copy.usage(shard, query, "total", version(settings, "usage_hourly"))
    assert rows == [(hour, quantity, 1)]
    assert applied == version(settings, "usage_hourly")
    copy.close()


def test_tampering_with_a_copy_is_found_and_named(spark: Any, module_lake: Settings) -> None:
    settings = module_lake
    at = version(settings, "usage_hourly")
    coverage = {n.node_id: dict.fromkeys(holdings_of(settings, n.node_id)) for n in settings.nodes}
    outcome = verify(spark, settings, coverage, at, {})
    assert not outcome.mismatches
    assert sum(outcome.rows.values()) == 2 * len(ROWS)

    flipped, removed, added = (DeltaTable(settings.table(f"serving/{n}")) for n in ("a", "b", "c"))
    rows = {n: [(s, r) for s, found in sorted(copied_shards(settings, n).items()) for r in found] for n in ("a", "b", "c")}
    shard_a, row_a = rows["a"][0]
    shard_b, row_b = rows["b"][1]
    shard_c, row_c = rows["c"][2]
    versions = [t.version() for t in (flipped, removed, added)]
    flipped.update({"quantity": "quantity + 0.000001"}, predicate=_only(shard_a, row_a))
    removed.delete(_only(shard_b, row_b))
    extra = added.to_pyarrow_table().to_pylist()
    one = next(r for r in extra if r["entity_id"] == row_c[0] and r["day"] == row_c[4])
    schema = added.to_pyarrow_table().schema
    write_deltalake(added, added.to_pyarrow_table().from_pylist([one | {"service_id": "other"}], schema=schema), mode="append")

    wrong = verify(spark, settings, coverage, at, {}).mismatches
    assert [(m.node_id, m.shard_id, m.day) for m in wrong] == [
        ("a", shard_a, row_a[4]),
        ("b", shard_b, row_b[4]),
        ("c", shard_c, row_c[4]),
    ]
    assert "with other content" in str(wrong[0])
    assert wrong[1].copied_rows == wrong[1].source_rows - 1
    assert wrong[2].copied_rows == wrong[2].source_rows + 1
    for table, undo in zip((flipped, removed, added), versions, strict=True):
        table.restore(undo)
    assert not verify(spark, settings, coverage, at, {}).mismatches


def _only(shard: int, row: tuple[Any, ...]) -> str:
    return f"shard_id = {shard} AND entity_id = '{row[0]}' AND day = DATE '{row[4]}'"


def test_a_plan_is_carried_out_over_kills_and_only_as_far_as_gateways_follow(spark: Any, module_lake: Settings) -> None:
    settings, url = module_lake, module_lake.postgres_url
    layout = current(settings)
    hot, moved = (s for s in (0, 1))
    idle = {
        s: next(n.node_id for n in settings.nodes if n.node_id not in {r.node_id for r in layout.of_shard(s)}) for s in (0, 1)
    }
    source = layout.of_shard(moved)[0].node_id
    after = Layout(
        2,
        (
            *(r for r in layout.replicas if (r.shard_id, r.node_id) != (moved, source)),
            Replica(hot, idle[hot], 0.5, HOT_SINCE),
            Replica(moved, idle[moved], 0.5),
        ),
    )
    moves = (
        Move(MoveKind.REPLICATE, hot, "", idle[hot], HOT_SINCE, 1, "hot"),
        Move(MoveKind.MOVE, moved, source, idle[moved], None, 1, "crowded"),
    )
    plan = approved(settings, "p2", moves, after, base_epoch=1)
    stale = approved(settings, "p3", (), layout, base_epoch=1)
    newest = version(settings, "usage_hourly")

    # Killed after one copy, without a word to Postgres.
    copy_shards(spark, settings, idle[moved], {moved: None}, newest, {})
    with pytest.raises(Refused, match="not verified"):
        publish_without_forecast(settings, plan)
    made = warm_up(spark, settings, url, plan.plan_id, {})
    assert (made["version"], made["replicas"]) == (newest, 2)
    once = copied_shards(settings, idle[hot])
    assert once[hot] == source_shard(settings, hot, HOT_SINCE) != source_shard(settings, hot)
    assert warm_up(spark, settings, url, plan.plan_id, {}) == made
    assert copied_shards(settings, idle[hot]) == once
    assert verify_again(spark, settings, url, plan.plan_id, {})["rows"] == made["rows"]

    with pytest.raises(Refused, match="only after its epoch is published"):
        steps.retire(settings, plan.plan_id)
    with pytest.raises(ForeshardError, match="no load_forecast"):
        steps.publish(settings, plan.plan_id)  # only the first epoch may go without a forecast
    publish_without_forecast(settings, plan)
    with pytest.raises(Refused, match="no longer current"):
        publish_without_forecast(settings, stale)

    epochs.register_gateway(url, settings.pool_id, "g", 600)
    with pytest.raises(Refused, match="g have not adopted"):
        steps.retire(settings, plan.plan_id)
    assert moved in holdings_of(settings, source)
    epochs.acknowledge(url, settings.pool_id, "g", 2)
    assert steps.retire(settings, plan.plan_id) == 1
    assert steps.retire(settings, plan.plan_id) == 0
    assert moved not in holdings_of(settings, source)
    assert moved not in copied_shards(settings, source)
    assert_copies_equal_source(settings)
    copy = ServingCopy(settings.table(f"serving/{source}"))
    copy.refresh()
    with pytest.raises(NotMine):
        copy.usage(moved, Query("e", "s", "o", DAY, DAY + timedelta(hours=1), "point"), "total", None)
    copy.close()


def publish_without_forecast(settings: Settings, plan: Plan) -> None:
    before = epochs.current(settings.postgres_url, settings.pool_id)
    assert before is not None
    snapshot = replace(before, epoch=plan.base_epoch + 1, parent=plan.base_epoch, replicas=plan.layout.replicas)
    epochs.publish(
        settings.postgres_url,
        snapshot,
        expected_epoch=plan.base_epoch,
        published_by="test",
        reason="test",
        plan_id=plan.plan_id,
    )


def test_a_hot_copy_follows_only_its_own_days(spark: Any, module_lake: Settings) -> None:
    settings = module_lake
    write_source(spark, settings, [(e, hour, q + 7) for e, hour, q in ROWS if hour.day != 27])
    follow_source(spark, settings, settings.postgres_url, {})
    assert_copies_equal_source(settings)


def test_retiring_late_spares_what_a_later_plan_routes_to_again(module_lake: Settings) -> None:
    settings, url = module_lake, module_lake.postgres_url
    layout = current(settings)
    victim = layout.of_node("a")[0]
    drop = Move(MoveKind.DROP, victim.shard_id, "a", "", None, 0, "cold")
    rest = tuple(r for r in layout.replicas if r != victim)
    spare = replace(settings.policy, min_full_replicas=1)
    pool.register(url, replace(settings, policy=spare))
    publish_without_forecast(settings, approved(settings, "p4", (drop,), Layout(3, rest), base_epoch=2))
    # Before p4's copy is retired, another plan takes it up again.
    publish_without_forecast(settings, approved(settings, "p5", (), Layout(4, layout.replicas), base_epoch=3))
    epochs.acknowledge(url, settings.pool_id, "g", 4)
    assert steps.retire(settings, "p4") == 0
    assert victim.shard_id in holdings_of(settings, "a")
    pool.register(url, settings)


def test_lost_copies_are_restored_from_the_source(spark: Any, module_lake: Settings) -> None:
    settings = module_lake
    before = copied_shards(settings, "b")
    shutil.rmtree(settings.table("serving/b"))
    done = follow_source(spark, settings, settings.postgres_url, {})
    assert done["restored"] == {"a": 0, "b": len(current(settings).of_node("b")), "c": 0}
    assert copied_shards(settings, "b") == before
    assert_copies_equal_source(settings)


def test_copies_of_a_source_made_anew_are_made_anew_too(spark: Any, module_lake: Settings) -> None:
    settings = module_lake
    shutil.rmtree(settings.table("usage_hourly"))
    others = [(e, hour, q + 1) for e, hour, q in ROWS if hour.day != 26]
    write_source(spark, settings, others)
    # As many versions as before and more: numbers alone would not tell.
    while version(settings, "usage_hourly") < max(h.applied_version for h in holdings_of(settings, "a").values()) + 1:
        write_source(spark, settings, others)
    follow_source(spark, settings, settings.postgres_url, {})
    assert_copies_equal_source(settings)

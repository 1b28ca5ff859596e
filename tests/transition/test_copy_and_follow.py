"""A pool's copies from its first epoch on: made from nothing, followed, moved, verified, retired, lost and restored."""

from __future__ import annotations

import argparse
import runpy
import shutil
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable, write_deltalake
from serving_tables import copied_shards, source_shard, write_source
from staged_plans import current, follow_epochs, moving
from tables import version

from foreshard.errors import Refused
from foreshard.gateway import holdings as gateway_holdings
from foreshard.gateway.query import Query
from foreshard.gateway.serving_copy import NotMine, ServingCopy
from foreshard.model import Move, MoveKind
from foreshard.routing import pool
from foreshard.routing import store as epochs
from foreshard.settings import Settings
from foreshard.transition import steps, store
from foreshard.transition.controller import Cycle
from foreshard.transition.copy import copy_shards
from foreshard.transition.following import follow_source
from foreshard.transition.retire import holdings_of
from foreshard.transition.spark_steps import verify_again, warm_up
from foreshard.transition.verify import verify

pytestmark = pytest.mark.spark

DAY = datetime(2013, 11, 26, tzinfo=UTC)
HOT_SINCE = date(2013, 11, 28)
ENTITIES = [f"e{n}" for n in range(24)]
JOB = Path(__file__).resolve().parents[2] / "spark_jobs" / "warm_up_replicas.py"
ROWS = [(entity, DAY + timedelta(days=d, hours=n % 5), 10 * d + n) for d in range(3) for n, entity in enumerate(ENTITIES)]


def carry_on(settings: Settings, plan_id: str) -> Cycle:
    return steps.carry_on(settings, plan_id, "test", lambda _: None)


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


def test_a_pool_begins_from_nothing_with_an_epoch_of_empty_copies(spark: Any, module_lake: Settings) -> None:
    settings, url = module_lake, module_lake.postgres_url
    pool.register(url, settings)
    plan = steps.propose_first(settings)
    assert carry_on(settings, plan.plan_id).needs_spark
    made = warm_up(spark, settings, url, plan.plan_id, {})
    assert (made["rows"], made["replicas"]) == (0, 16)
    assert carry_on(settings, plan.plan_id).is_over
    assert carry_on(settings, plan.plan_id).is_over, "a repeat does nothing"
    assert current(settings).epoch == 1
    assert store.oldest_pin(url, settings.pool_id, "usage_hourly") is None
    assert_copies_equal_source(settings)
    with pytest.raises(Refused, match="only an approved plan"):
        warm_up(spark, settings, url, plan.plan_id, {})
    late = runpy.run_path(str(JOB))["work"](spark, settings, argparse.Namespace(plan=plan.plan_id))
    assert "is done" in late["next"], "a job that comes after another run has ended the plan does not fail"


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
    outcome = verify(settings, coverage, at, {})
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

    wrong = verify(settings, coverage, at, {}).mismatches
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
    assert not verify(settings, coverage, at, {}).mismatches


def _only(shard: int, row: tuple[Any, ...]) -> str:
    return f"shard_id = {shard} AND entity_id = '{row[0]}' AND day = DATE '{row[4]}'"


def test_a_plan_is_carried_out_over_a_kill_and_only_as_far_as_gateways_follow(spark: Any, module_lake: Settings) -> None:
    settings, url = module_lake, module_lake.postgres_url
    layout = current(settings)
    hot, moved = (s for s in (0, 1))
    idle = {
        s: next(n.node_id for n in settings.nodes if n.node_id not in {r.node_id for r in layout.of_shard(s)}) for s in (0, 1)
    }
    source = layout.of_shard(moved)[0].node_id
    moving(
        settings,
        "p2",
        (
            Move(MoveKind.REPLICATE, hot, "", idle[hot], HOT_SINCE, 1, "hot"),
            Move(MoveKind.MOVE, moved, source, idle[moved], None, 1, "crowded"),
        ),
    )
    newest = version(settings, "usage_hourly")
    assert carry_on(settings, "p2").needs_spark
    # Killed after one copy, without a word to Postgres.
    copy_shards(spark, settings, idle[moved], {moved: None}, newest, {})
    made = warm_up(spark, settings, url, "p2", {})
    assert (made["version"], made["replicas"]) == (newest, 2)
    once = copied_shards(settings, idle[hot])
    assert once[hot] == source_shard(settings, hot, HOT_SINCE) != source_shard(settings, hot)
    assert warm_up(spark, settings, url, "p2", {})["rows"] == made["rows"]
    assert copied_shards(settings, idle[hot]) == once
    assert verify_again(settings, url, "p2", {})["rows"] == made["rows"]

    # Gateways that come when it is cut over already are waited for too.
    assert not carry_on(replace(settings, transition=replace(settings.transition, reverse_seconds=3600)), "p2").is_over
    epochs.register_gateway(url, settings.pool_id, "g", 600)
    assert "waits for gateway g to follow epoch 2" in carry_on(settings, "p2").decision.sentence
    assert moved in holdings_of(settings, source)
    follow_epochs(settings)
    assert carry_on(settings, "p2").is_over
    assert moved not in holdings_of(settings, source)
    assert moved not in copied_shards(settings, source)
    assert_copies_equal_source(settings)
    copy = ServingCopy(settings.table(f"serving/{source}"))
    copy.refresh()
    with pytest.raises(NotMine):
        copy.usage(moved, Query("e", "s", "o", DAY, DAY + timedelta(hours=1), "point"), "total", None)
    copy.close()


def test_a_hot_copy_follows_only_its_own_days(spark: Any, module_lake: Settings) -> None:
    settings = module_lake
    write_source(spark, settings, [(e, hour, q + 7) for e, hour, q in ROWS if hour.day != 27])
    follow_source(spark, settings, settings.postgres_url, {})
    assert_copies_equal_source(settings)


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

"""Copies catch up with a source that goes on, also where its change feed no longer reaches back to them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from serving_tables import copied_shards, source_shard, write_source
from tables import version

from foreshard.hashing import entity_slot
from foreshard.lake.kept_versions import VersionGone
from foreshard.routing import pool
from foreshard.settings import Settings
from foreshard.transition import store, throttle
from foreshard.transition.copy import changes_of, copy_shards, held
from foreshard.transition.copy_state import CopyJob
from foreshard.transition.copying import copy_moves
from foreshard.transition.following import catch_up, follow_source
from foreshard.transition.retire import holdings_of

pytestmark = pytest.mark.spark

DAY = datetime(2013, 11, 20, tzinfo=UTC)
ENTITIES = [f"e{n}" for n in range(16)]
SHARDS = sorted({entity_slot(entity, 3) for entity in ENTITIES})
HOT_SINCE = DAY.date() + timedelta(days=1)


def rows(day: int, added: int = 0) -> list[tuple[str, datetime, int]]:
    return [(e, DAY + timedelta(days=day, hours=n % 3), 10 * day + n + added) for n, e in enumerate(ENTITIES)]


@pytest.fixture
def settings(spark: Any, lake: Settings) -> Settings:
    """Three days at the source, copied in full to a and from the second day on to b; both are mirrored as serving."""
    pool.register(lake.postgres_url, lake)
    at = write_source(spark, lake, [row for day in range(3) for row in rows(day)])
    copy_shards(spark, lake, "a", dict.fromkeys(SHARDS), at, {})
    copy_shards(spark, lake, "b", dict.fromkeys(SHARDS, HOT_SINCE), at, {})
    replicas = [
        store.ReplicaRecord(shard, node, "serving", day, at, at)
        for shard in SHARDS
        for node, day in (("a", None), ("b", HOT_SINCE))
    ]
    store.upsert_replicas(lake.postgres_url, lake.pool_id, replicas)
    return lake


def assert_equal_to_source(settings: Settings) -> None:
    newest = version(settings, "usage_hourly")
    for node in ("a", "b"):
        copied = copied_shards(settings, node)
        for shard, holding in holdings_of(settings, node).items():
            assert holding.applied_version == newest
            assert copied.get(shard, []) == source_shard(settings, shard, holding.covers_from), (node, shard)
    replicas = store.read_replicas(settings.postgres_url, settings.pool_id)
    assert {r.applied_version for r in replicas} == {newest}
    assert {r.state for r in replicas} == {"serving"}


def vacuumed(spark: Any, path: str) -> None:
    """Removes every file that the newest version does not need."""
    check = "spark.databricks.delta.retentionDurationCheck.enabled"
    spark.conf.set(check, "false")
    try:
        spark.sql(f"VACUUM delta.`{path}` RETAIN 0 HOURS")
    finally:
        spark.conf.unset(check)


def with_a_short_log(_: Any, path: str) -> None:
    """Removes the commits before the newest one, for which a checkpoint stands."""
    table = DeltaTable(path)
    table.create_checkpoint()
    for file in Path(path, "_delta_log").iterdir():
        number = file.name.lstrip(".").split(".")[0]
        if number.isdigit() and int(number) < table.version() and "checkpoint" not in file.name:
            file.unlink()


def test_copies_catch_up_within_the_bound_while_the_source_goes_on(
    spark: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_source(spark, settings, rows(3))
    write_source(spark, settings, rows(1, added=100))
    rounds: list[int] = []

    def read_nodes_while_it_is_written(*of: Any) -> list[store.ReplicaRecord]:
        # Between two looks at the source, as it were: it gets two versions more in the first round, none later.
        if not rounds:
            rounds.append(write_source(spark, settings, rows(4)))
            rounds.append(write_source(spark, settings, rows(0, added=7)))
        return plain(*of)

    plain = store.read_replicas
    monkeypatch.setattr(store, "read_replicas", read_nodes_while_it_is_written)
    assert catch_up(spark, settings, settings.postgres_url, ["a", "b"], {}, bound=2) == {"a": 2, "b": 2}
    assert catch_up(spark, settings, settings.postgres_url, ["a", "b"], {}, bound=2) == {"a": 0, "b": 0}
    rounds.clear()
    assert catch_up(spark, settings, settings.postgres_url, ["a", "b"], {}, bound=1) == {"a": 0, "b": 0}
    assert_equal_to_source(settings)
    assert catch_up(spark, settings, settings.postgres_url, [], {}, bound=0) == {}


@pytest.mark.parametrize("losing", [vacuumed, with_a_short_log])
@pytest.mark.parametrize("catching_up", ["follow_source", "catch_up"])
def test_copies_that_the_change_feed_no_longer_reaches_are_made_anew(
    spark: Any, settings: Settings, losing: Callable[[Any, str], None], catching_up: str
) -> None:
    url, at = settings.postgres_url, version(settings, "usage_hourly")
    for added in (1, 2):
        write_source(spark, settings, rows(1, added))
    losing(spark, settings.table("usage_hourly"))
    with pytest.raises(VersionGone, match=f"version {at} of usage_hourly's change feed is no longer kept"):
        changes_of(spark, settings, at, at + 2)
    with pytest.raises(VersionGone, match=f"version {at} of usage_hourly is no longer kept"):
        copy_moves(spark, settings, "c", [CopyJob(0, SHARDS[0], None, "p/0")], at, {})
    throttle.set_rate(url, settings.pool_id, 1e9)
    if catching_up == "follow_source":
        done = follow_source(spark, settings, url, {})
        assert done["restored"] == {"a": len(SHARDS), "b": len(SHARDS), "c": 0}
    else:
        assert catch_up(spark, settings, url, ["a", "b"], {}, bound=0) == {"a": 0, "b": 0}
    assert_equal_to_source(settings)
    assert {r.verified_version for r in store.read_replicas(url, settings.pool_id)} == {version(settings, "usage_hourly")}
    assert store.oldest_pin(url, settings.pool_id, "usage_hourly") is None


def test_only_the_copies_that_are_out_of_reach_are_made_anew(spark: Any, settings: Settings) -> None:
    url = settings.postgres_url
    write_source(spark, settings, rows(1, 1))
    later = write_source(spark, settings, rows(1, 2))
    copy_shards(spark, settings, "a", {SHARDS[0]: None}, later, {})
    with_a_short_log(spark, settings.table("usage_hourly"))
    write_source(spark, settings, rows(2, 3))
    done = follow_source(spark, settings, url, {})
    assert done["restored"] == {"a": len(SHARDS) - 1, "b": len(SHARDS), "c": 0}
    assert done["days_rewritten"]["a"] == 1
    assert_equal_to_source(settings)


def test_copies_of_another_table_than_the_source_are_far_behind(spark: Any, settings: Settings) -> None:
    shutil.rmtree(settings.table("usage_hourly"))
    write_source(spark, settings, rows(0))
    assert {h.applied_version for h in held(settings, "a").values()} != {-1}
    assert catch_up(spark, settings, settings.postgres_url, ["a", "b"], {}, bound=0) == {"a": 0, "b": 0}
    assert_equal_to_source(settings)

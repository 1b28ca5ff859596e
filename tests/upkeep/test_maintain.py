"""Maintenance on real tables: the rows stay, small files and old days go, and what anything still reads stays readable."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.transaction import AddAction
from serving_tables import copied_shards
from tables import records, rows

from foreshard.hashing import entity_slot
from foreshard.lake import delta, maintenance
from foreshard.lake.tables import USAGE_HOURLY
from foreshard.orchestration.due import replicas_are_due
from foreshard.routing import pool
from foreshard.settings import RetentionSettings, Settings
from foreshard.transition import lease, store
from foreshard.transition.copy import copy_shards, follow, held
from foreshard.upkeep.run import maintain
from foreshard.usage.watermark import watermark

pytestmark = pytest.mark.spark

DAY = datetime(2013, 11, 26, tzinfo=UTC)
COMPLETE_TO = DAY + timedelta(days=2, hours=12)
ENTITIES = [f"e{n}" for n in range(12)]


def usage(hour: datetime, quantity: int, slot_bits: int = 3) -> pa.Table:
    """One hour of usage of every entity."""
    made = [
        {
            "entity_id": entity,
            "service_id": "s",
            "operation_id": "o",
            "hour": hour,
            "slot": entity_slot(entity, slot_bits),
            "quantity": quantity,
            "events": 1,
            "day": hour.date(),
        }
        for entity in ENTITIES
    ]
    types = {"hour": pa.timestamp("us", "UTC"), "slot": pa.int32(), "quantity": pa.decimal128(28, 6), "day": pa.date32()}
    kinds = {"entity_id": pa.string(), "service_id": pa.string(), "operation_id": pa.string(), "events": pa.int64(), **types}
    return pa.Table.from_pylist(made, pa.schema([(name, kinds[name]) for name in made[0]]))


def commit(path: str, rows: pa.Table, said: dict[str, Any], mode: str = "append", partition: str = "day") -> None:
    properties = CommitProperties(custom_metadata={"userMetadata": json.dumps(said)})
    feed = {"delta.enableChangeDataFeed": "true"}
    write_deltalake(path, rows, partition_by=[partition], mode=mode, commit_properties=properties, configuration=feed)  # type: ignore[call-overload]


def fill(settings: Settings) -> str:
    """usage_hourly with three days of six small files each, the last day not complete; version 5 is the newest."""
    path = settings.table("usage_hourly")
    for n in range(6):
        hours = [usage(DAY + timedelta(days=d, hours=n), 10 * d + n, settings.slot_bits) for d in range(3)]
        said = {"record_version": n, "record_table": "r", "complete_to": COMPLETE_TO.isoformat()}
        commit(path, pa.concat_tables(hours), said)
    return path


def files_by_day(path: str) -> dict[str, int]:
    return {p.value: p.files for p in maintenance.partitions(path, "day", 1 << 20)}


def aged(path: str, days: float) -> None:
    """Makes everything in the table so many days older: its files, its commits and what they say of time."""
    seconds = days * 86_400
    for file in [f for f in Path(path).rglob("*") if f.is_file()]:
        # Checksums are of the files as they were, and checkpoints of times as they were.
        if file.suffix == ".crc" or "checkpoint" in file.name:
            file.unlink()
            continue
        at = file.stat().st_mtime - seconds
        if file.suffix == ".json":
            file.write_text("".join(f"{_older(line, seconds)}\n" for line in file.read_text().splitlines()))
        os.utime(file, (at, at))


def _older(line: str, seconds: float) -> str:
    action = json.loads(line)
    for kind, key in (("commitInfo", "timestamp"), ("remove", "deletionTimestamp"), ("add", "modificationTime")):
        if kind in action:
            action[kind][key] -= int(seconds * 1000)
    return json.dumps(action)


@pytest.fixture
def registered_lake(lake: Settings) -> Iterator[Settings]:
    pool.register(lake.postgres_url, lake)
    yield lake
    shutil.rmtree(lake.lake)


def test_small_files_come_together_and_no_reader_sees_a_change(spark: Any, registered_lake: Settings) -> None:
    settings, url = registered_lake, registered_lake.postgres_url
    path = fill(settings)
    before, version = rows(settings, "usage_hourly"), delta_version(path)
    copy_shards(spark, settings, "a", dict.fromkeys(range(8)), version, {})
    copies = copied_shards(settings, "a")
    store.pin_version(url, settings.pool_id, "usage_hourly", 3, "a plan")
    pinned = DeltaTable(path, version=3).to_pyarrow_table().num_rows

    done = maintain(spark, settings, url, 30, {})

    assert files_by_day(path) == {"2013-11-26": 1, "2013-11-27": 1, "2013-11-28": 6}
    assert "12 files of 2 days became 2" in done["tables"]["usage_hourly"]
    assert done["left"] == []
    assert rows(settings, "usage_hourly") == before
    newest = delta_version(path)
    assert newest > version
    assert delta.changed_rows(spark, path, version, newest).count() == 0
    assert watermark(settings, "usage_hourly").hour == COMPLETE_TO
    assert DeltaTable(path, version=3).to_pyarrow_table().num_rows == pinned == delta.read(spark, path, 3).count()
    assert copied_shards(settings, "a") == copies
    assert {h.applied_version for h in held(settings, "a").values()} == {newest}
    assert follow(spark, settings, "a", newest, {}) == 0
    assert not replicas_are_due(settings)

    again = maintain(spark, settings, url, 30, {})
    assert "no small files" in again["tables"]["usage_hourly"]
    assert delta_version(path) == newest


def delta_version(path: str) -> int:
    return int(DeltaTable(path).version())


def replaced_twice(path: str, days: float) -> list[str]:
    """A table whose versions 0 to 2 hold one file each, so many days old; returns the files' names."""
    names = []
    for n in range(3):
        commit(path, usage(DAY, n), {"complete_to": COMPLETE_TO.isoformat()}, "overwrite")
        (uri,) = DeltaTable(path).file_uris()
        names.append(Path(uri).name)
    aged(path, days)
    return names


def present(path: str, names: list[str]) -> list[bool]:
    found = {file.name for file in Path(path).rglob("*.parquet")}
    return [name in found for name in names]


def test_vacuum_takes_old_files_and_orphans_but_nothing_that_a_pin_needs(spark: Any, registered_lake: Settings) -> None:
    settings, url = registered_lake, registered_lake.postgres_url
    free, pinned = settings.table("query_load"), settings.table("usage_hourly")
    names = {path: replaced_twice(path, 5.0) for path in (free, pinned)}
    store.pin_version(url, settings.pool_id, "usage_hourly", 1, "a plan")
    orphan, committed, young = (stage(free, folder) for folder in ("staged-1", "staged-2", "staged-3"))
    write = DeltaTable(free)
    action = AddAction("staged-2/part.parquet", committed.stat().st_size, {"day": "2013-11-26"}, 0, True, "{}")
    write.create_write_transaction([action], "append", write.schema(), ["day"])
    unfinished = Path(free) / "staged-5" / "_temporary" / "part.parquet"
    unfinished.parent.mkdir(parents=True)
    unfinished.write_bytes(b"half a file")
    for file in (orphan, committed, unfinished):
        os.utime(file, (0, 0))

    # The retention is raised in time, while the log still knows what was removed.
    said = maintain(spark, settings, url, 30, {})["tables"]
    assert maintenance.property_hours(pinned, maintenance.FILES_PROPERTY) == 336
    assert "no files to remove" in said["usage_hourly"]
    assert present(free, names[free]) == [True, True, True]
    assert (orphan.exists(), committed.exists(), young.exists(), unfinished.exists()) == (False, True, True, False)

    os.utime(stage(pinned, "staged-4"), (0, 0))  # else its VACUUM would be passed over
    for path in (free, pinned):
        aged(path, 5.0)
    fresh = moved(settings)
    said = maintain(spark, fresh, url, 30, {})["tables"]
    assert present(fresh.table("query_load"), names[free]) == [False, False, True]
    assert present(fresh.table("usage_hourly"), names[pinned]) == [True, True, True]
    assert "last 672 hours needs, because version 1 is needed: it is pinned" in said["usage_hourly"]
    assert not (Path(fresh.table("usage_hourly")) / "staged-4" / "part.parquet").exists()
    assert delta.read(spark, fresh.table("usage_hourly"), 1).first()["quantity"] == 1
    assert delta.changed_rows(spark, fresh.table("usage_hourly"), 1, 2).count() == 2 * len(ENTITIES)
    shutil.rmtree(fresh.lake)


def moved(settings: Settings) -> Settings:
    """The same lake at a path that Spark has read nothing of yet."""
    fresh = replace(settings, lake=f"{settings.lake}-moved")
    shutil.copytree(settings.lake, fresh.lake)
    for file in Path(settings.lake).rglob("*"):
        if file.is_file():
            shutil.copystat(file, Path(str(file).replace(settings.lake, fresh.lake, 1)))
    return fresh


def stage(path: str, folder: str) -> Path:
    file = Path(path) / folder / "part.parquet"
    file.parent.mkdir()
    pq.write_table(usage(DAY, 1).drop_columns(["day"]), file)
    return file


def test_nothing_is_removed_when_the_log_forgot_what_a_pin_needs(spark: Any, registered_lake: Settings) -> None:
    settings, url = registered_lake, registered_lake.postgres_url
    path = settings.table("query_load")
    names = replaced_twice(path, 20.0)
    for file in Path(path).rglob("*.parquet"):  # written long before they were removed
        os.utime(file, (0, 0))
    DeltaTable(path).create_checkpoint()
    store.pin_version(url, settings.pool_id, "query_load", 1, "a plan")
    for _ in range(2):  # a retention raised too late does not help
        said = maintain(spark, settings, url, 30, {})["tables"]["query_load"]
        assert "not vacuumed: version 1 needs" in said
        assert present(path, names)[1:] == [True, True]


def test_days_past_their_retention_go_whole_and_what_the_table_says_stays(spark: Any, registered_lake: Settings) -> None:
    settings = replace(registered_lake, retention=RetentionSettings(forecast_days=1))
    fill(settings)
    path = settings.table("load_forecast")
    origins = [DAY + timedelta(days=d, hours=h) for d in range(3) for h in range(2)]
    for origin in origins:
        commit(
            path, pa.table({"origin": [origin], "origin_day": [origin.date()]}), {"input_version": 7}, partition="origin_day"
        )
    files = set(DeltaTable(path).file_uris())
    said = maintain(spark, settings, settings.postgres_url, 30, {})["tables"]["load_forecast"]
    assert "rows of before 2013-11-27 dropped" in said
    left = {row["origin"] for row in records(settings, "load_forecast")}
    assert left == {origin for origin in origins if origin >= DAY + timedelta(days=1)}
    assert set(DeltaTable(path).file_uris()) < files
    assert delta_said(path, "input_version") == {"input_version": 7}
    assert delta_said(path, "kept_from") == {"kept_from": "2013-11-27"}


def delta_said(path: str, key: str) -> dict[str, Any]:
    said = (json.loads(c.get("userMetadata") or "{}") for c in DeltaTable(path).history())
    return next(found for found in said if key in found)


def test_a_table_whose_writer_is_busy_is_left_as_it_is(spark: Any, registered_lake: Settings) -> None:
    settings = replace(registered_lake, maintenance=replace(registered_lake.maintenance, lease_wait_seconds=0.0))
    path = fill(settings)
    before = delta_version(path)
    with lease.held(settings.postgres_url, f"{settings.pool_id}/aggregate", "an aggregation", 60):
        said = maintain(spark, settings, settings.postgres_url, 30, {})["tables"]["usage_hourly"]
    assert "not rewritten: lease usage/aggregate is held by an aggregation" in said
    assert delta_version(path) == before
    left = maintain(spark, settings, settings.postgres_url, 0, {})
    assert left["left"] == ["usage_hourly"]
    assert "time was over" in left["tables"]["usage_hourly"]
    assert USAGE_HOURLY.name in left["tables"]

"""Verification finds every way in which a copy can differ from its source, and names the segment, the rows or the file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable, write_deltalake
from serving_tables import source_shard, write_source
from tables import version

from foreshard.errors import ForeshardError
from foreshard.hashing import entity_slot
from foreshard.lake.tables import USAGE_HOURLY
from foreshard.settings import Settings
from foreshard.transition.comparison import COLUMNS
from foreshard.transition.copy import copy_shards
from foreshard.transition.copy_state import CopyJob
from foreshard.transition.copying import Stopped, copy_moves
from foreshard.transition.retire import compact
from foreshard.transition.verify import Mismatch, Verification, verify

pytestmark = pytest.mark.spark

DAY = datetime(2013, 11, 20, tzinfo=UTC)
ENTITIES = [f"e{n}" for n in range(16)]
SHARDS = sorted({entity_slot(entity, 3) for entity in ENTITIES})
ROWS = [(e, DAY + timedelta(days=d, hours=n % 3), 10 * d + n) for d in range(3) for n, e in enumerate(ENTITIES)]
HOT_SINCE = DAY.date() + timedelta(days=1)
OWN = 8  # e0's own shard
COVERAGE: dict[str, dict[int, date | None]] = {
    "full": dict.fromkeys(SHARDS),
    "hot": {shard: HOT_SINCE if n % 2 else None for n, shard in enumerate(SHARDS)} | {OWN: HOT_SINCE},
}


@pytest.fixture(scope="module")
def copied(spark: Any, module_lake: Settings) -> Settings:
    at = write_source(spark, module_lake, ROWS)
    for node, shards in COVERAGE.items():
        copy_shards(spark, module_lake, node, shards, at, {"e0": OWN})
    return module_lake


def verified(settings: Settings, coverage: Any = COVERAGE) -> Verification:
    return verify(settings, coverage, version(settings, "usage_hourly"), {"e0": OWN})


def files_of(settings: Settings, node: str, shard: int) -> list[Path]:
    """The files of a copy, without the checksums that Hadoop keeps beside them on a local disk: stores of objects have none."""
    table = DeltaTable(settings.table(f"serving/{node}"))
    found = [Path(uri) for uri in table.file_uris() if f"shard_id={shard}/" in uri]
    for file in found:
        file.with_name(f".{file.name}.crc").unlink(missing_ok=True)
    return found


def test_sound_copies_equal_their_source_and_each_row_is_counted(spark: Any, copied: Settings) -> None:
    outcome = verified(copied)
    assert outcome.mismatches == ()
    for node, shards in COVERAGE.items():
        for shard, day in shards.items():
            if shard != OWN:
                assert outcome.rows[node, shard] == len(source_shard(copied, shard, day))
    assert outcome.rows["hot", OWN] == 2
    assert verified(copied, {}) == Verification({}, ())


def key_of(row: tuple[Any, ...]) -> str:
    return f"entity_id = '{row[0]}' AND day = '{row[4]}'"


def test_a_deleted_a_changed_and_a_doubled_row_are_named(spark: Any, copied: Settings) -> None:
    table = DeltaTable(copied.table("serving/full"))
    before = table.version()
    gone, changed, doubled = (source_shard(copied, shard)[0] for shard in SHARDS[:3])
    extra = [r for r in table.to_pyarrow_table().to_pylist() if (r["entity_id"], r["day"]) == (doubled[0], doubled[4])]
    table.delete(key_of(gone))
    table.update({"quantity": "quantity + 0.000001"}, predicate=key_of(changed))
    write_deltalake(table, table.to_pyarrow_table().from_pylist(extra, schema=table.to_pyarrow_table().schema), mode="append")
    wrong = verified(copied).mismatches
    assert [(m.node_id, m.shard_id, m.day) for m in wrong] == [
        ("full", shard, row[4]) for shard, row in zip(SHARDS, (gone, changed, doubled), strict=False)
    ]
    assert [(d.side, d.entity_id, d.hour, d.quantity) for d in wrong[0].differing] == [
        ("source", gone[0], f"{gone[1]:%Y-%m-%d %H:%M:%S}", gone[2])
    ]
    assert [(d.side, d.quantity) for d in wrong[1].differing] == [
        ("source", changed[2]),
        ("copy", changed[2] + Decimal("0.000001")),
    ]
    assert [(d.side, d.entity_id) for d in wrong[2].differing] == [("copy", doubled[0])]
    assert wrong[0].copied_rows == wrong[0].source_rows - 1
    assert wrong[2].copied_rows == wrong[2].source_rows + 1
    assert "with other content (only in the source: " in str(wrong[1])
    assert f"{gone[0]}/s/o {gone[1]:%Y-%m-%d %H:%M:%S}Z quantity {gone[2]}, events 1" in str(wrong[0])
    table.restore(before)
    assert verified(copied).mismatches == ()


def test_rows_beyond_three_and_rows_of_days_not_covered_are_told_by_their_number(spark: Any, copied: Settings) -> None:
    shard = next(s for s, day in COVERAGE["hot"].items() if day and s != OWN)
    table = DeltaTable(copied.table("serving/hot"))
    before = table.version()
    row = next(r for r in table.to_pyarrow_table().to_pylist() if r["shard_id"] == shard)
    old = [row | {"day": DAY.date(), "hour": DAY, "service_id": f"s{n}"} for n in range(5)]
    write_deltalake(table, table.to_pyarrow_table().from_pylist(old, schema=table.to_pyarrow_table().schema), mode="append")
    wrong = verified(copied).mismatches
    # The source has rows of that day, too, but none that this copy is to have.
    assert [(m.shard_id, m.day, m.source_rows, m.copied_rows) for m in wrong] == [(shard, DAY.date(), 0, 5)]
    assert len(wrong[0].differing) == 3
    table.restore(before)


def flipped(at: float) -> Callable[[Path], None]:
    def flip(file: Path) -> None:
        content = bytearray(file.read_bytes())
        content[min(int(at * len(content)), len(content) - 1)] ^= 0b100
        file.write_bytes(bytes(content))

    return flip


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


@pytest.mark.parametrize(
    "damage",
    [*[flipped(at / 10) for at in range(0, 10, 2)], flipped(0.999), cut, Path.unlink],
    ids=["0", "2", "4", "6", "8", "end", "cut", "gone"],
)
def test_a_damaged_file_is_found_wherever_the_damage_is(spark: Any, copied: Settings, damage: Callable[[Path], None]) -> None:
    (file,) = files_of(copied, "full", SHARDS[1])
    whole = file.read_bytes()
    damage(file)
    try:
        coverage = {"full": {shard: None for shard in SHARDS[:3]}}
        outcome = verified(copied, coverage)
    finally:
        file.write_bytes(whole)
    found = {(m.node_id, m.shard_id) for m in outcome.mismatches}
    if found:
        assert found == {("full", SHARDS[1])}
        for mismatch in outcome.mismatches:
            assert (file.name in str(mismatch)) == (mismatch.day is None)
            assert "\n" not in str(mismatch)
    else:
        # A flip in what no reader needs, such as the name of the program that wrote the file, changes no row.
        assert outcome.rows == verified(copied, coverage).rows
    assert outcome.rows["full", SHARDS[0]] == len(source_shard(copied, SHARDS[0]))


def test_a_flip_under_hadoops_own_checksums_is_found_too(spark: Any, copied: Settings) -> None:
    at = version(copied, "usage_hourly")
    copy_shards(spark, copied, "kept", {SHARDS[0]: None, SHARDS[1]: None}, at, {})
    table = DeltaTable(copied.table("serving/kept"))
    file = Path(next(uri for uri in table.file_uris() if f"shard_id={SHARDS[0]}/" in uri))
    flipped(0.5)(file)
    wrong = verified(copied, {"kept": {SHARDS[0]: None, SHARDS[1]: None}}).mismatches
    assert [(m.shard_id, m.day) for m in wrong] == [(SHARDS[0], None)]
    assert wrong[0].file.endswith(file.name)
    assert str(wrong[0]) == f"shard {SHARDS[0]} on kept: {wrong[0].file} is damaged or missing and cannot be read"


def test_a_damaged_source_is_said_to_be_the_sources_fault(spark: Any, copied: Settings) -> None:
    (file, *_) = [Path(uri) for uri in DeltaTable(copied.table("usage_hourly")).file_uris()]
    whole = file.read_bytes()
    file.with_name(f".{file.name}.crc").unlink(missing_ok=True)
    cut(file)
    try:
        with pytest.raises(ForeshardError, match=rf"{file.name} of usage_hourly is damaged"):
            verified(copied)
    finally:
        file.write_bytes(whole)


def test_a_source_restated_in_the_middle_is_found(spark: Any, copied: Settings) -> None:
    at = version(copied, "usage_hourly")
    jobs = [CopyJob(0, SHARDS[0], None, "p/0")]
    with pytest.raises(Stopped):
        copy_moves(spark, copied, "middle", jobs, at, {}, rate=lambda: 1e-6, on_chunk=lambda _: False)
    restated = [(e, hour, q + 1000 if e == source_shard(copied, SHARDS[0])[0][0] else q) for e, hour, q in ROWS]
    newest = write_source(spark, copied, [row for row in restated if row[1].date() == DAY.date()])
    copy_moves(spark, copied, "middle", jobs, at, {})
    coverage = {"middle": {SHARDS[0]: None}}
    assert verify(copied, coverage, at, {}).mismatches == (), "the copy is of the version at which it was begun"
    wrong = verify(copied, coverage, newest, {}).mismatches
    assert [(m.shard_id, m.day) for m in wrong] == [(SHARDS[0], DAY.date())]
    assert {d.side for d in wrong[0].differing} == {"source", "copy"}


def test_a_compacted_copy_is_still_equal(spark: Any, copied: Settings) -> None:
    at = version(copied, "usage_hourly")
    copy_moves(spark, copied, "compacted", [CopyJob(0, SHARDS[0], None, "p/0")], at, {}, rate=lambda: 1e-6)
    assert compact(copied, "compacted") == 3
    coverage = {"compacted": {SHARDS[0]: None}}
    assert verify(copied, coverage, at, {}).mismatches == ()


def test_every_column_of_the_source_is_compared(spark: Any) -> None:
    assert list(COLUMNS) == USAGE_HOURLY.schema.names


def test_a_mismatch_says_what_it_knows() -> None:
    short = Mismatch("n", 3, DAY.date(), 5, 4)
    assert str(short) == "shard 3 on n, day 2013-11-20: 5 rows at the source, 4 in the copy"
    assert str(replace(short, copied_rows=5)).endswith("5 in the copy, with other content")

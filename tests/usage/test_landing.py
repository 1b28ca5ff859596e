"""Landing files: which are seen, how they are shared out among tasks, and what Spark is given of them."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from landing_rows import land, usage

from foreshard.errors import ForeshardError
from foreshard.lake.job import _first_cause
from foreshard.settings import Settings, parse
from foreshard.usage import landing
from foreshard.usage.landing import LandingFile
from foreshard.usage.records import USAGE, read_lines, read_typed

HOUR = datetime(2013, 11, 28, 5, tzinfo=UTC)
AT = HOUR + timedelta(minutes=10)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, landing=str(tmp_path / "landing"))


def files(settings: Settings, spark: Any = None, hours: int = 1) -> list[LandingFile]:
    return landing.files(spark, settings.landing_folder("usage_record"), HOUR, HOUR + timedelta(hours=hours))


@pytest.mark.parametrize("hours", [2, 2_000])
def test_the_files_of_the_hours_asked_for_are_seen_sorted(settings: Settings, hours: int) -> None:
    for hour, name in [(-1, "early.csv"), (0, "b [x]%20.jsonl"), (0, "a.log.gz"), (1, "c.parquet"), (2_000, "late.csv")]:
        land(settings, "usage_record", HOUR + timedelta(hours=hour), name, ["x"])
    for name in ("_partial.jsonl", ".hidden.csv", "readme.txt", "e.parquet.gz"):
        land(settings, "usage_record", HOUR, name, ["x"])
    (Path(settings.landing_folder("usage_record")) / "2013-11-28T05" / "folder.csv").mkdir()
    (Path(settings.landing_folder("usage_record")) / "notes").mkdir()
    found = files(settings, hours=hours)
    assert [file.name for file in found] == [
        "2013-11-28T05/a.log.gz",
        "2013-11-28T05/b [x]%20.jsonl",
        "2013-11-28T06/c.parquet",
    ]
    assert {file.size for file in found} == {1}


def test_hours_in_which_nothing_landed_have_no_files_but_a_root_that_is_a_file_is_told(settings: Settings) -> None:
    assert files(settings) == []
    Path(settings.landing).write_text("no folder")
    with pytest.raises(ForeshardError, match=r"cannot list the landing folder .*/landing"):
        landing.files(None, settings.landing, HOUR, HOUR + timedelta(hours=1))  # type: ignore[arg-type]


@given(st.lists(st.integers(0, 1 << 30), max_size=50), st.integers(1, 16))
def test_each_file_is_in_one_group_and_no_group_could_give_one_away(sizes: list[int], most: int) -> None:
    landed = [LandingFile(f"root/usage_record/2013-11-28T05/{i}.jsonl", size) for i, size in enumerate(sizes)]
    size_of = {file.path: file.size for file in landed}
    groups = landing.balanced(landed, most)
    assert sorted(path for group in groups for path, _, _ in group) == sorted(size_of)
    assert len(groups) <= min(most, max(1, sum(sizes) // (8 << 20)))
    loads = [sum(size_of[path] for path, _, _ in group) for group in groups]
    for group, load in zip(groups, loads, strict=True):
        smallest = min((size_of[path] for path, _, _ in group), default=0)
        assert load - smallest <= min(loads)


def test_columns_that_no_field_wants_are_found_with_examples(settings: Settings) -> None:
    lines: list[Any] = [usage("e", AT), usage("e", AT, colour="red"), "not json", usage("e", AT, customer="c")]
    for name in ("a.jsonl", "b.jsonl", "c.jsonl", "d.jsonl"):
        land(settings, "usage_record", HOUR, name, lines)
    land(settings, "usage_record", HOUR, "e.csv", ["\ufeffentity_id,size", "a,1"])
    folder = land(settings, "usage_record", HOUR, "f.log", ["x"]).parent
    (folder / "g.csv.gz").write_bytes(gzip.compress(b"customer,shape\n"))
    pq.write_table(pa.table({"entity_id": ["a"], "weight": [1]}), folder / "h.parquet")
    (folder / "i.parquet").write_bytes(b"damaged")
    (folder / "j.jsonl.gz").write_bytes(b"damaged")
    (folder / "k.jsonl").write_bytes(b"")
    mapped = {"input": {"usage_record": {"columns": {"entity_id": "customer"}}}}
    found = landing.ignored_columns(files(settings), USAGE, parse(mapped, "test"))
    hour = "2013-11-28T05"
    assert found == {
        "colour": [f"{hour}/a.jsonl", f"{hour}/b.jsonl", f"{hour}/c.jsonl"],
        "shape": [f"{hour}/g.csv.gz"],
        "size": [f"{hour}/e.csv"],
        "weight": [f"{hour}/h.parquet"],
    }


@pytest.mark.spark
def test_spark_is_given_each_row_with_its_file(spark: Any, settings: Settings) -> None:
    odd = land(settings, "usage_record", HOUR, "of [x]*, 100%.jsonl", [usage("e", AT), "", "x"])
    land(settings, "usage_record", HOUR, "empty.jsonl", [])
    land(settings, "usage_record", HOUR, "blank.csv", [" ", ""])
    land(settings, "usage_record", HOUR, "header.csv", ["entity_id,quantity"])
    land(settings, "usage_record", HOUR, "rows.csv", ["entity_id,quantity", "a,5"])
    pq.write_table(
        pa.table({"entity_id": ["a", "b"], "quantity": ["5", "x"], "event_time": [AT, AT]}), odd.parent / "p.parquet"
    )
    landed = files(settings, spark)
    rows = sorted(landing.lines(spark, landed, USAGE, settings).collect(), key=lambda row: (row.file_name, row.file_row))
    assert [(r.file_name.split("/")[1], r.file_row, r.raw, r.problem, r.text) for r in rows] == [
        ("blank.csv", 0, "", "empty file", None),
        ("empty.jsonl", 0, "", "empty file", None),
        ("of [x]*, 100%.jsonl", 1, json.dumps(usage("e", AT)), None, None),
        ("of [x]*, 100%.jsonl", 3, "x", "malformed JSON", None),
        ("rows.csv", 1, "a,5", None, '{"entity_id":"a","quantity":5}'),
    ]
    assert rows[3].file_checksum == hashlib.sha256(odd.read_bytes()).hexdigest()
    assert len({row.file_checksum for row in rows[:2]}) == 2
    assert {row.landed_at for row in rows} == {datetime(2013, 11, 28, 6)}
    typed = landing.typed(spark, landed, USAGE, settings)
    assert typed is not None
    assert [f.dataType.simpleString() for f in typed.schema.fields[6:]] == [field.type for field in USAGE.fields]
    first, second = sorted(typed.collect(), key=lambda row: row.file_row)
    assert (first.entity_id, first.quantity, first.problem, first.raw) == ("a", 5, None, None)
    assert (second.quantity, second.problem) == (None, "quantity is not a number: x")
    assert landing.typed(spark, [file for file in landed if not file.name.endswith("parquet")], USAGE, settings) is None
    assert landing.lines(spark, [], USAGE, settings).collect() == []


@pytest.mark.spark
@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [
        ("cut.jsonl.gz", gzip.compress(b"{}\n" * 1000, mtime=0)[:-10], "[Tt]runcated"),
        ("no.jsonl.zst", b"plain", "(?i)zstd|unknown frame"),
        ("no.parquet", b"PAR1 and no more", "(?i)magic|footer"),
        ("no.csv", b"caf\xe9,entity_id\na,b", "header row is malformed"),
    ],
)
def test_a_damaged_file_fails_the_job_with_one_sentence_that_names_it(
    spark: Any, settings: Settings, name: str, content: bytes, cause: str
) -> None:
    file = land(settings, "usage_record", HOUR, name, [content])
    landed = files(settings, spark)
    read = landing.typed(spark, landed, USAGE, settings) or landing.lines(spark, landed, USAGE, settings)
    with pytest.raises(Exception, match=name) as failed:
        read.count()
    sentence = _first_cause(failed.value)
    assert sentence.startswith(f"cannot read the file {file}: ")
    assert sentence.endswith("; repair, rename or remove it and run again")
    assert failed.match(cause)
    assert file.exists()


@pytest.mark.spark
def test_the_same_rows_are_the_same_records_in_every_format(spark: Any, settings: Settings) -> None:
    rows = [usage(f"/e,{i}", AT + timedelta(seconds=i), i / 4, record_id=f'"{i}"', revision=i) for i in range(5)]
    names = list(rows[0])
    cells = [",".join('"' + str(row[name]).replace('"', '""') + '"' for name in names) for row in rows]
    folder = land(settings, "usage_record", HOUR, "a.jsonl", rows).parent
    land(settings, "usage_record", HOUR, "b.csv", [",".join(names), *cells])
    pq.write_table(
        pa.Table.from_pylist([row | {"event_time": AT + timedelta(seconds=i)} for i, row in enumerate(rows)]),
        folder / "c.parquet",
    )
    pq.write_table(
        pa.Table.from_pylist([{name: str(value) for name, value in row.items()} for row in rows]), folder / "d.parquet"
    )
    (folder / "e.jsonl.gz").write_bytes(gzip.compress((folder / "a.jsonl").read_bytes()))
    (folder / "f.csv.bz2").write_bytes(bz2.compress((folder / "b.csv").read_bytes()))
    landed = files(settings)
    read = read_lines(landing.lines(spark, landed, USAGE, settings), USAGE, settings)
    typed = landing.typed(spark, landed, USAGE, settings)
    assert typed is not None
    found: dict[str, list[Any]] = {}
    for row in read.unionByName(read_typed(typed, USAGE, settings)).orderBy("file_row").collect():
        assert row.good, row
        found.setdefault(row.file_name, []).append([row[field.name] for field in USAGE.fields])
    assert len(found) == len(landed) == 6
    expected = [
        [f'"{i}"', i, f"/e,{i}", "s", "o", (AT + timedelta(seconds=i)).replace(tzinfo=None), Decimal(i) / 4] for i in range(5)
    ]
    assert all(rows == expected for rows in found.values()), found


def test_a_shuffle_has_parts_for_what_the_files_hold_and_never_fewer_than_set() -> None:
    large = LandingFile("landing/usage_record/2013-11-28T05/a.jsonl", 4 << 30)
    packed = LandingFile("landing/usage_record/2013-11-28T05/a.jsonl.gz", 512 << 20)
    table = LandingFile("landing/usage_record/2013-11-28T05/a.parquet", 512 << 20)
    assert landing.shuffle_partitions([], 4) == 4
    assert landing.shuffle_partitions([large], 4) == 64
    assert landing.shuffle_partitions([packed], 4) == landing.shuffle_partitions([table], 4) == 64
    assert landing.shuffle_partitions([large], 100) == 100

"""The suites of the record tables on staged rows themselves, where Spark has them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from foreshard.checks import reports
from foreshard.checks.gate import QualityError
from foreshard.checks.rows import require_rows
from foreshard.checks.suites import NEVER_NULL, suite
from foreshard.errors import ForeshardError
from foreshard.lake.tables import QUERY_RECORD, USAGE_RECORD, Table
from foreshard.settings import CheckSettings, Settings

pytestmark = pytest.mark.spark

TIME = datetime(2013, 11, 28, 5, 10, tzinfo=UTC)
VALUES: dict[str, Any] = {"age_class": "recent", "status": 200, "slot": 7, "revision": 0, "candidates": []}
BY_TYPE: dict[str, Any] = {
    "string": "x",
    "timestamp": TIME,
    "date": date(2013, 11, 28),
    "decimal(18,6)": Decimal(1),
    "double": 1.0,
    "bigint": 1,
}
# Values that break what is not a lowest bound.
BROKEN: dict[str, Any] = {"age_class": "ancient", "slot": 8, "status": 700}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, slot_bits=3)


def staged(spark: SparkSession, folder: Path, table: Table, *changes: dict[str, Any]) -> Any:
    """Parquet files with one good row and one for each of `changes`."""
    fields = table.schema.fields
    usual = {f.name: VALUES.get(f.name, BY_TYPE.get(f.dataType.simpleString())) for f in fields}
    rows = [tuple((usual | change)[f.name] for f in fields) for change in ({}, *changes)]
    path = str(folder / table.name)
    spark.createDataFrame(rows, table.schema).write.mode("overwrite").parquet(path)
    return spark.read.schema(table.schema).parquet(path)


@pytest.mark.parametrize("table", [USAGE_RECORD, QUERY_RECORD], ids=lambda table: table.name)
def test_good_rows_pass_in_one_pass_over_the_files(
    spark: SparkSession, settings: Settings, tmp_path: Path, table: Table
) -> None:
    rows = staged(spark, tmp_path, table, {}, {})
    before = _jobs(spark)
    assert require_rows(table.name, rows, settings) == []
    assert _jobs(spark) - before <= 4
    (run,) = reports.newest_runs(settings.home)
    assert [(report.table, report.status) for report in run.reports] == [(f"{table.name}_rows", "passed")]


def _jobs(spark: SparkSession) -> int:
    return int(spark.sparkContext._jsc.sc().dagScheduler().nextJobId())  # type: ignore[union-attr]


def _broken(table: Table, column: str) -> Any:
    """A value that the suite refuses: below the lowest, unless another is named."""
    usual = BY_TYPE.get(table.schema[column].dataType.simpleString(), 0)
    return BROKEN[column] if column in BROKEN else type(usual)(-1)


@pytest.mark.parametrize("table", [USAGE_RECORD, QUERY_RECORD], ids=lambda table: table.name)
def test_each_expectation_finds_the_one_row_that_breaks_it(
    spark: SparkSession, settings: Settings, tmp_path: Path, table: Table
) -> None:
    lines = suite(f"{table.name}_rows", settings.slots)
    changes = [{line.column: None if line.type == NEVER_NULL else _broken(table, line.column)} for line in lines]
    with pytest.raises(QualityError) as raised:
        require_rows(table.name, staged(spark, tmp_path, table, *changes), settings)
    critical = [line for line in lines if line.severity == "critical"]
    for line in critical:
        assert f"{line.rule} ({line.why}), and found 1 other rows" in str(raised.value)
    assert str(raised.value).count("other rows") == len(critical)


def test_a_warning_passes(spark: SparkSession, settings: Settings, tmp_path: Path) -> None:
    findings = require_rows("query_record", staged(spark, tmp_path, QUERY_RECORD, {"status": 700}), settings)
    assert [finding.severity for finding in findings] == ["warning"]


def test_rows_without_a_column_of_the_suite_are_an_error_of_the_program(
    spark: SparkSession, settings: Settings, tmp_path: Path
) -> None:
    with pytest.raises(ForeshardError, match=r"expectations/usage_record_rows\.json names slot"):
        require_rows("usage_record", staged(spark, tmp_path, USAGE_RECORD).drop("slot"), settings)


def test_it_can_be_switched_off(spark: SparkSession, settings: Settings, tmp_path: Path) -> None:
    off = replace(settings, checks=CheckSettings(rows_on_spark=False))
    assert require_rows("usage_record", staged(spark, tmp_path, USAGE_RECORD, {"slot": 99}), off) == []
    assert reports.newest_runs(settings.home) == []

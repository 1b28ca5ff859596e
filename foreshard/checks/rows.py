"""Runs a suite on staged rows themselves, where they are: Great Expectations on a Spark DataFrame."""

from __future__ import annotations

import warnings
from typing import Any

from pyspark.sql import DataFrame

from foreshard.checks import gate, quality_site
from foreshard.checks.outcome import Finding, Outcome
from foreshard.checks.suites import suite
from foreshard.settings import Settings

# Of what failed, counts alone: the library bundles these into one pass. A list of values would be a job for each.
_COUNTS_ONLY = {"result_format": "BASIC", "partial_unexpected_count": 0}


def require_rows(table: str, rows: DataFrame, settings: Settings) -> list[Finding]:
    """Checks every row of `rows` against `expectations/<table>_rows.json` and records the report.

    `rows` are staged files: they are read once, and not persisted. Returns the warnings. Raises QualityError naming each
    critical expectation that failed and how many rows broke it. Does nothing if `checks.rows_on_spark` is off.
    """
    if not settings.checks.rows_on_spark:
        return []
    name = f"{table}_rows"
    with gate.ONE_AT_A_TIME:
        outcome = _check(name, rows, settings)
        quality_site.record(name, outcome, settings)
    return gate.settle(table, outcome)


def _check(name: str, rows: DataFrame, settings: Settings) -> Outcome:
    expectations = suite(name, settings.slots)
    gate.require_columns(name, expectations, rows.columns)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = gate.context().data_sources.add_or_update_spark("staged rows", persist=False)
        batch = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("rows").get_batch({"dataframe": rows})
        result = gate.validate(batch, name, expectations, _COUNTS_ONLY)
    return Outcome(gate.judge(name, expectations, result), result, _broken(result), len(expectations))


def _broken(result: Any) -> list[dict[str, Any]]:
    """How many rows broke each expectation that failed."""
    return [
        {"column": one.expectation_config.kwargs.get("column"), "rows": one.result.get("unexpected_count")}
        for one in result.results
        if not one.success
    ]

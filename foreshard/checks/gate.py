"""Runs a table's expectation suite on a summary of staged rows; critical failures stop the commit.

Suites are `expectations/<table>.json`, reviewed by hand. They are loaded into an ephemeral context, because the file context
rewrites its JSON on every run.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import warnings
from collections.abc import Sequence
from decimal import Decimal
from functools import cache
from typing import Any

import pandas as pd

from foreshard.checks import quality_site
from foreshard.checks.outcome import Finding, Outcome
from foreshard.checks.suites import NEVER_NULL, Expectation, as_suite, suite
from foreshard.errors import ForeshardError
from foreshard.settings import Settings

# The context is one for the whole process, so two tables cannot be checked at once.
ONE_AT_A_TIME = threading.Lock()
_KEPT_FIGURES = 100


class QualityError(ForeshardError):
    """A critical expectation failed; nothing was committed."""


def require(table: str, summary: pd.DataFrame, settings: Settings) -> list[Finding]:
    """Checks `summary` against the table's suite and records the report, as JSON and as a page, under home/quality.

    Returns the warnings. Raises QualityError naming the table and every critical expectation that failed.
    """
    with ONE_AT_A_TIME:
        outcome = _check(table, summary)
        quality_site.record(table, outcome, settings)
    return settle(table, outcome)


def settle(table: str, outcome: Outcome) -> list[Finding]:
    """The warnings; raises QualityError if there is worse."""
    critical = [f.sentence for f in outcome.findings if f.severity == "critical"]
    if critical:
        raise QualityError(f"{table}: nothing was committed, because {'; '.join(critical)}")
    return outcome.findings


def check(table: str, summary: pd.DataFrame) -> tuple[list[Finding], dict[str, Any]]:
    """The failed expectations of a suite, and the whole result as a JSON-able report; nothing is recorded.

    Raises ForeshardError if the summary lacks a column of the suite or the suite cannot be applied to it.
    """
    with ONE_AT_A_TIME:
        outcome = _check(table, summary)
    return outcome.findings, outcome.report


def load_library() -> Any:
    """Great Expectations, quiet and without analytics; the first import takes seconds."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    import great_expectations

    return great_expectations


def require_columns(table: str, expectations: Sequence[Expectation], columns: Sequence[str]) -> None:
    """Raises ForeshardError if the suite names a column that is not there: the job and its suite have parted."""
    missing = sorted({line.column for line in expectations if line.column} - set(columns))
    if missing:
        raise ForeshardError(
            f"expectations/{table}.json names {', '.join(missing)}, which the rows to check do not have; "
            "give the job's summary this column or take it out of the suite"
        )


def _check(table: str, summary: pd.DataFrame) -> Outcome:
    expectations = suite(table)
    require_columns(table, expectations, list(summary.columns))
    summary = summary.map(lambda value: float(value) if isinstance(value, Decimal) else value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = context().data_sources.add_or_update_pandas("summary").add_dataframe_asset(table)
        batch = rows.add_batch_definition_whole_dataframe("rows").get_batch({"dataframe": summary})
        result = validate(batch, table, expectations, "SUMMARY")
    findings = [*judge(table, expectations, result), *_unknown(expectations, summary)]
    return Outcome(findings, result, _figures(summary), len(expectations))


def validate(batch: Any, name: str, expectations: Sequence[Expectation], details: Any) -> Any:
    """Great Expectations' result. What was found is asked for only if something failed: it doubles the cost."""
    result = batch.validate(as_suite(name, expectations), result_format="BOOLEAN_ONLY")
    return result if result.success else batch.validate(as_suite(name, expectations), result_format=details)


@cache
def context() -> Any:
    """The one ephemeral context of the process."""
    made = load_library().get_context(mode="ephemeral")
    made.variables.progress_bars = {"globally": False}
    return made


def judge(table: str, expectations: Sequence[Expectation], result: Any) -> list[Finding]:
    """The failed expectations in words; raises ForeshardError for one that could not be applied at all."""
    findings = []
    for one in result.results:
        config = one.expectation_config
        line = next(line for line in expectations if line.is_of(config.type, config.kwargs))
        if problem := _exception(one.exception_info):
            raise ForeshardError(f"expectations/{table}.json: {line.rule}: cannot be judged: {problem}")
        if not one.success:
            findings.append(
                Finding(line.severity, f"it was expected that {line.rule} ({line.why}), and found {_seen(one.result)}")
            )
    return findings


def _exception(info: dict[str, Any]) -> str:
    """Why the expectation could not be applied; the library gives one answer, or one for each metric it needed."""
    answers = [info] if "raised_exception" in info else list(info.values())
    return next((str(answer["exception_message"]) for answer in answers if answer["raised_exception"]), "")


def _seen(result: dict[str, Any]) -> Any:
    if found := result.get("partial_unexpected_list"):
        return found
    return result.get("observed_value", f"{result.get('unexpected_count', 0):,} other rows")


def _unknown(expectations: Sequence[Expectation], summary: pd.DataFrame) -> list[Finding]:
    """Bounds pass over nulls. A figure that nothing allows to be unknown is one that was not counted."""
    said = {line.column for line in expectations if line.type == NEVER_NULL}
    needed = dict.fromkeys(line.column for line in expectations if line.column and not line.may_be_null)
    nulls = [column for column in needed if column not in said and summary[column].isna().any()]
    return [Finding("critical", f"it was expected that {column} is known, and found null") for column in nulls]


def _figures(summary: pd.DataFrame) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(summary.head(_KEPT_FIGURES).to_json(orient="records", date_format="iso"))
    return rows

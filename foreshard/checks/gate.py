"""Runs a table's expectation suite on a summary of staged rows; critical failures stop the commit.

Suites are `expectations/<table>.json`, reviewed by hand: `{"expectations": [{"type", "kwargs", "severity"}]}`. They are
loaded into an ephemeral context, because the file context rewrites its JSON on every run.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from foreshard.errors import ForeshardError
from foreshard.resources import text
from foreshard.settings import Settings

# A context is global to the process, so two tables cannot be checked at once.
_ONE_AT_A_TIME = threading.Lock()


class QualityError(ForeshardError):
    """A critical expectation failed; nothing was committed."""


@dataclass(frozen=True)
class Finding:
    """One failed expectation, in words."""

    severity: str
    sentence: str


def require(table: str, summary: pd.DataFrame, settings: Settings) -> list[Finding]:
    """Checks `summary` against the table's suite and records the report under home/quality.

    Returns the warnings. Raises QualityError naming the table and every critical expectation that failed.
    """
    findings, report = check(table, summary)
    _record(settings.home / "quality", table, report)
    critical = [f.sentence for f in findings if f.severity == "critical"]
    if critical:
        raise QualityError(f"{table}: nothing was committed, because {'; '.join(critical)}")
    return findings


def check(table: str, summary: pd.DataFrame) -> tuple[list[Finding], dict[str, Any]]:
    """The failed expectations of a suite, and the whole result as a JSON-able report."""
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = _validate(table, summary)
    findings = [_finding(r) for r in result["results"] if not r["success"]]
    return findings, result


def load_library() -> Any:
    """Great Expectations, quiet and without analytics; the first import takes seconds."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    import great_expectations

    return great_expectations


def _validate(table: str, summary: pd.DataFrame) -> dict[str, Any]:
    gx = load_library()
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    suite_json = json.loads(text("expectations", f"{table}.json"))
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    batch = context.data_sources.add_pandas("staging").add_dataframe_asset(table).add_batch_definition_whole_dataframe("rows")
    suite = gx.ExpectationSuite(
        name=table,
        expectations=[
            ExpectationConfiguration(type=e["type"], kwargs=e["kwargs"], severity=e["severity"]).to_domain_obj()
            for e in suite_json["expectations"]
        ],
    )
    outcome = batch.get_batch({"dataframe": summary}).validate(suite)
    return dict(outcome.to_json_dict())


def _finding(result: dict[str, Any]) -> Finding:
    config = result["expectation_config"]
    kwargs = {k: v for k, v in config["kwargs"].items() if k not in ("batch_id",)}
    seen = result.get("result", {})
    observed = seen.get("observed_value", seen.get("partial_unexpected_list"))
    rule = config["type"].removeprefix("expect_").replace("_", " ")
    return Finding(config.get("severity", "critical"), f"it was expected that {rule} {kwargs}, and found {observed}")


def _record(folder: Path, table: str, report: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    (folder / f"{table.replace('/', '-')}-{stamp}.json").write_text(json.dumps(report, default=str), "utf-8")

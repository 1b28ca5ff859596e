"""Each suite accepts a good summary, and each of its expectations can fail, alone and with the severity it has."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pytest
from summaries import GOOD, broken, good

from foreshard.checks.gate import check
from foreshard.checks.suites import SEVERITIES, Expectation, suite, suite_names
from foreshard.checks.summaries import product_summary, record_summary
from foreshard.errors import ForeshardError
from foreshard.lake import tables
from foreshard.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
ON_ROWS = {"usage_record_rows", "query_record_rows"}
EACH = [(name, line) for name in suite_names() if name not in ON_ROWS for line in suite(name)]


def test_every_table_and_every_layout_has_a_suite_and_every_suite_is_run() -> None:
    written = {value.name for value in vars(tables).values() if isinstance(value, tables.Table)}
    assert set(suite_names()) == written | {"serving", "plan", "routing_epoch"} | ON_ROWS
    assert set(GOOD) == set(suite_names()) - ON_ROWS
    code = "\n".join(p.read_text("utf-8") for p in (ROOT / "foreshard").rglob("*.py"))
    named = set(re.findall(r'\brequire\(\s*"(\w+)"', code))
    by_table = {"usage_record", "query_record", "quarantine", "usage_hourly", "query_load", "query_pattern_observed"}
    assert set(suite_names()) == named | by_table | ON_ROWS


@pytest.mark.parametrize("name", suite_names())
def test_a_suite_can_stop_a_commit_and_says_of_each_expectation_why(name: str) -> None:
    lines = suite(name)
    assert {line.severity for line in lines} <= set(SEVERITIES)
    assert any(line.severity == "critical" for line in lines)
    assert all(len(line.why) > 15 for line in lines)
    rules = [(line.type, str(line.kwargs)) for line in lines]
    assert len(set(rules)) == len(rules), "an expectation is there twice"


@pytest.mark.parametrize("name", sorted(GOOD))
def test_a_good_summary_passes(name: str) -> None:
    findings, report = check(name, good(name))
    assert findings == []
    assert report["success"] is True


@pytest.mark.parametrize(("name", "line"), EACH, ids=[f"{name}-{line.rule}".replace(" ", "-") for name, line in EACH])
def test_each_expectation_can_fail_alone_with_its_severity(name: str, line: Expectation) -> None:
    findings, _ = check(name, broken(name, line))
    assert [f.severity for f in findings] == [line.severity]
    assert line.rule in findings[0].sentence
    assert line.why in findings[0].sentence


METRICS = {
    "rows": 5,
    "rows_without_key": 0,
    "rows_with_bad_number": 0,
    "lowest_slot": 0,
    "highest_slot": 1023,
    "rows_far_ahead": 0,
    "skewed": 0,
    "total": Decimal("3.500000"),
}


@pytest.mark.parametrize("usual_rows", [None, 6.0])
def test_the_summaries_of_records_have_what_their_suites_name(usual_rows: float | None) -> None:
    counts = {"read": 7, "accepted": 5, "duplicates": 2, "quarantined": 0}
    summary = record_summary(METRICS, counts, usual_rows, 0, Settings())
    assert check("usage_record", summary)[0] == check("query_record", summary)[0] == []
    lost = record_summary(METRICS, counts | {"duplicates": 1}, usual_rows, 0, Settings())
    assert ["unreconciled" in f.sentence for f in check("usage_record", lost)[0]] == [True]


@pytest.mark.parametrize("table", ["usage_hourly", "query_load", "query_pattern_observed"])
def test_the_summaries_of_products_have_what_their_suites_name(table: str) -> None:
    summary = product_summary(METRICS, Decimal("3.500000"), [], set(), Settings())
    assert check(table, summary)[0] == []
    nothing = product_summary({}, None, [], set(), Settings())
    assert [finding.severity for finding in check(table, nothing)[0]] == ["warning"]
    lost = product_summary(METRICS, Decimal("4.500000"), [], set(), Settings())
    assert ["unreconciled_total" in f.sentence for f in check(table, lost)[0]] == [True]


def test_a_ratio_is_judged_on_both_sides() -> None:
    for ratio in (0.24, 4.1):
        findings, _ = check("usage_record", good("usage_record", volume_ratio=ratio))
        assert [f.severity for f in findings] == ["warning"]
    assert check("usage_record", good("usage_record", volume_ratio=1.0))[0] == []


def test_a_total_may_be_a_decimal_as_spark_gives_it() -> None:
    assert check("query_load", good("query_load", total=Decimal("12.500000"), unreconciled_total=Decimal("0E-6")))[0] == []
    findings, _ = check("query_load", good("query_load", unreconciled_total=Decimal("0.000001")))
    assert [f.severity for f in findings] == ["critical"]


def test_a_figure_that_was_not_counted_stops_the_commit() -> None:
    findings, _ = check("usage_record", good("usage_record", rows_without_key=None))
    assert [f.severity for f in findings] == ["critical"]
    assert "it was expected that rows_without_key is known" in findings[0].sentence


def test_a_summary_without_a_column_of_its_suite_is_an_error_of_the_program_and_named() -> None:
    with pytest.raises(ForeshardError, match=r"expectations/usage_record\.json names skewed_share, volume_ratio, which"):
        check("usage_record", good("usage_record").drop(columns=["volume_ratio", "skewed_share"]))


def test_a_figure_of_the_wrong_type_is_an_error_of_the_program_and_named() -> None:
    with pytest.raises(ForeshardError, match=r"expectations/serving\.json: rows is at least 0"):
        check("serving", good("serving", rows="many"))


def test_a_table_without_a_suite_is_named() -> None:
    with pytest.raises(ForeshardError, match=r"no suite expectations/elsewhere\.json"):
        check("elsewhere", good("serving"))

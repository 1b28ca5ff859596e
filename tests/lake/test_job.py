"""What every job does around its work: whole hours, one JSON line, one sentence on failure; and short conditions."""

from __future__ import annotations

import argparse
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.lake import job, log
from foreshard.lake.delta import days_condition, hours_condition


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2013-11-28T05", datetime(2013, 11, 28, 5, tzinfo=UTC)),
        ("2013-11-28T05:00:00", datetime(2013, 11, 28, 5, tzinfo=UTC)),
        ("2013-11-28T05:00:00Z", datetime(2013, 11, 28, 5, tzinfo=UTC)),
        ("2013-11-28T05:00:00+02:00", datetime(2013, 11, 28, 3, tzinfo=UTC)),
    ],
)
def test_hours_are_read_as_utc(text: str, expected: datetime) -> None:
    assert job.hour(text) == expected


@pytest.mark.parametrize("text", ["2013-11-28T05:30", "soon", "", "2013-11-28T05:00:01"])
def test_what_is_no_whole_hour_is_wrong_usage(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"whole hour|not an ISO 8601 time"):
        job.hour(text)


@given(st.sets(st.dates(date(2013, 1, 1), date(2013, 2, 1))), st.dates(date(2012, 12, 20), date(2013, 2, 20)))
def test_a_condition_holds_for_its_days_and_no_others(days: set[date], asked: date) -> None:
    literal = f"DATE'{asked.isoformat()}'"
    assert _holds(days_condition(sorted(days)).replace("day", literal)) == (asked in days)


@given(st.sets(st.integers(0, 60)), st.integers(0, 61 * 60))
def test_a_condition_holds_within_its_hours_and_nowhere_else(hours: set[int], minute: int) -> None:
    start = datetime(2013, 11, 28, tzinfo=UTC)
    condition = hours_condition([start + timedelta(hours=h) for h in hours], "hour")
    moment = (start + timedelta(minutes=minute)).replace(tzinfo=None)
    assert _holds(condition.replace("hour", f"TIMESTAMP'{moment.isoformat(sep=' ')}'")) == (minute // 60 in hours)


def _holds(condition: str) -> bool:
    import duckdb

    found: bool = duckdb.execute(f"SELECT {condition}").fetchone()[0]  # type: ignore[index]
    return found


def test_commits_of_others_say_nothing() -> None:
    assert log.parse(None) == log.parse("") == log.parse("[1]") == log.parse("OPTIMIZE") == {}
    assert log.parse('{"a": 1}') == {"a": 1}


def arguments(settings: Path | None) -> argparse.Namespace:
    return argparse.Namespace(settings=str(settings) if settings else None)


def test_a_job_without_its_settings_fails_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert job.run("aggregate", arguments(tmp_path / "none.toml"), lambda *_: {}) == 1
    said = capsys.readouterr()
    assert said.err.startswith("aggregate: settings file")
    assert said.err.count("\n") == 1
    assert said.out == ""


def test_the_root_of_a_java_error_is_the_sentence_with_the_file_that_cannot_be_read() -> None:
    def java(message: str, cause: object = None) -> SimpleNamespace:
        return SimpleNamespace(getMessage=lambda: message, getCause=lambda: cause, toString=lambda: message)

    read = java(
        "[FAILED_READ_FILE.NO_HINT] Encountered error while reading file file:///l/a.jsonl.  SQLSTATE: KD001", java("I/O")
    )
    error = Exception("boom")
    error.java_exception = java("Job aborted", read)  # type: ignore[attr-defined]
    assert job._first_cause(error).startswith("cannot read the file file:///l/a.jsonl: I/O; ")
    assert job._first_cause(ValueError("what\nmore")) == "ValueError: what"

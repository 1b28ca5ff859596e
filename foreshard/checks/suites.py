"""The suites of `expectations/`: what is expected of a table, how bad it is if it fails, and why, in words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from foreshard.errors import ForeshardError
from foreshard.resources import names, text

SEVERITIES = ("critical", "warning")
_A = {"critical": "critical", "warning": "a warning"}
NEVER_NULL = "expect_column_values_to_not_be_null"
_FIELDS = {"type", "kwargs", "severity", "why", "may_be_null"}
_PHRASES = {
    NEVER_NULL: "is never null",
    "expect_table_row_count_to_equal": "has this many rows: {value}",
    "expect_table_row_count_to_be_between": "has rows, at least {min_value}",
    "expect_column_values_to_be_in_set": "is one of {value_set}",
    "expect_column_values_to_be_unique": "is different in every row",
}


@dataclass(frozen=True)
class Expectation:
    """One line of a suite. A column that `may_be_null` is not judged where its value is unknown."""

    type: str
    kwargs: dict[str, Any]
    severity: str
    why: str
    may_be_null: bool = False

    @property
    def column(self) -> str:
        """The column it is about; empty for the table as a whole."""
        return str(self.kwargs.get("column", ""))

    def is_of(self, kind: str, kwargs: Mapping[str, Any]) -> bool:
        """Whether Great Expectations' configuration, which adds arguments of its own, was made from this line."""
        return kind == self.type and all(kwargs.get(key) == value for key, value in self.kwargs.items())

    @property
    def rule(self) -> str:
        """What must hold, in words, for example `rows is at least 1`."""
        phrase = _PHRASES.get(self.type)
        words = phrase.format(**self.kwargs) if phrase else _bounds(self.kwargs)
        return f"{self.column or 'the table'} {words}"

    def with_values(self, values: Mapping[str, Any]) -> Expectation:
        """The same with names such as `$highest_slot` among its arguments replaced by what they stand for."""
        return replace(self, kwargs={key: _value(value, values) for key, value in self.kwargs.items()})

    def as_configuration(self) -> Any:
        """Great Expectations' own object."""
        from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

        words = f"{self.rule}, because {self.why}. A failure is {_A[self.severity]}."
        return ExpectationConfiguration(
            type=self.type, kwargs=self.kwargs, severity=self.severity, description=words.replace("$", "$$")
        ).to_domain_obj()


def _value(value: Any, values: Mapping[str, Any]) -> Any:
    return values.get(value, value) if isinstance(value, str) else value


def _bounds(kwargs: dict[str, Any]) -> str:
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    if low == high:
        return f"is {low}"
    if high is None:
        return f"is {'above' if kwargs.get('strict_min') else 'at least'} {low}"
    return f"is at most {high}" if low is None else f"is from {low} to {high}"


@cache
def suite(name: str, slots: int = 1) -> tuple[Expectation, ...]:
    """The expectations of `expectations/<name>.json`, in which `$highest_slot` stands for the last one of `slots`.

    Raises ForeshardError if the file is missing or has a field it should not.
    """
    try:
        document = json.loads(text("expectations", f"{name}.json"))
    except FileNotFoundError:
        raise ForeshardError(f"there is no suite expectations/{name}.json; write one for the table {name}") from None
    lines = tuple(_expectation(name, entry).with_values({"$highest_slot": slots - 1}) for entry in document["expectations"])
    if not any(line.severity == "critical" for line in lines):
        raise ForeshardError(f"expectations/{name}.json: no expectation is critical, so that nothing would stop a bad commit")
    return lines


def _expectation(name: str, entry: dict[str, Any]) -> Expectation:
    if not set(entry) <= _FIELDS or entry.get("severity") not in SEVERITIES or not entry.get("why"):
        raise ForeshardError(
            f"expectations/{name}.json: {entry} must have type, kwargs, severity (critical or warning) and why"
        )
    return Expectation(**entry)


def suite_names() -> list[str]:
    """The names of all suites, sorted."""
    return [name.removesuffix(".json") for name in names("expectations", ".json")]


def as_suite(name: str, expectations: Sequence[Expectation]) -> Any:
    """Great Expectations' own suite."""
    from great_expectations.core import ExpectationSuite

    return ExpectationSuite(name=name, expectations=[line.as_configuration() for line in expectations])

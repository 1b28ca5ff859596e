"""What a suite came to on some rows, in words and as Great Expectations has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """One failed expectation, in words."""

    severity: str
    sentence: str


@dataclass(frozen=True)
class Outcome:
    """The failed expectations of a suite, Great Expectations' own result, and the figures that were judged."""

    findings: list[Finding]
    validation: Any
    figures: list[dict[str, Any]]
    expectations: int

    @property
    def status(self) -> str:
        """`critical`, `warning` or `passed`."""
        severities = {finding.severity for finding in self.findings}
        return next((s for s in ("critical", "warning") if s in severities), "passed")

    @property
    def report(self) -> dict[str, Any]:
        """Great Expectations' result as a JSON-able document."""
        return dict(self.validation.to_json_dict())

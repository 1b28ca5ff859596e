"""For every suite a summary that passes it, and for every expectation of it one value that breaks it."""

from __future__ import annotations

from typing import Any

import pandas as pd

from foreshard.checks.suites import Expectation

RECORDS: dict[str, Any] = {
    "rows": 5,
    "rows_without_key": 0,
    "rows_with_bad_number": 0,
    "lowest_slot": 0,
    "highest_slot_below_slots": -1,
    "rows_far_ahead": 0,
    "read": 7,
    "accepted": 5,
    "duplicates": 1,
    "quarantined": 1,
    "unreconciled": 0,
    "quarantined_share": 0.03,
    "quarantined_share_of_many": 0.0,
    "skewed_share": 0.1,
    "volume_ratio": None,
    "missing_hours": 0,
}
PRODUCT: dict[str, Any] = {
    "day": "2013-11-28",
    "rows": 3,
    "rows_without_key": 0,
    "rows_with_bad_number": 0,
    "lowest_slot": 0,
    "highest_slot_below_slots": -4,
    "total": 12.5,
    "unreconciled_total": 0,
    "missing_hours": 0,
}
LAYOUT: dict[str, Any] = {
    "shard_id": 0,
    "missing_full_replicas": 0,
    "lowest_weight": 0.25,
    "highest_weight": 0.75,
    "weight_error": 0.0,
}
GOOD: dict[str, dict[str, Any]] = {
    "usage_record": RECORDS,
    "query_record": RECORDS,
    "usage_hourly": PRODUCT,
    "query_load": PRODUCT,
    "query_pattern_observed": PRODUCT,
    "quarantine": {"rows": 1, "rows_without_reason": 0, "rows_without_file": 0, "share_of_read": 0.01},
    "load_forecast": {
        "shards": 8,
        "missing_steps": 0,
        "crossed_quantiles": 0,
        "bad_values": 0,
        "fallback_share": 0.25,
        "missing_shards": 0,
    },
    "query_pattern": {"intervals": 48, "worst_sum": 1e-9, "lowest_probability": 0.0},
    "calibration_state": {"origin": "2013-11-28T05:00:00Z", "z": 1.7, "coverage": 0.95, "intervals": 480},
    "forecast_score": {
        "rows": 0,
        "rows_without_actual": 0,
        "bad_values": 0,
        "repeated_keys": 0,
        "coverage_95": None,
        "coverage_99": None,
    },
    "node_correction": {"node_id": "a", "correction": 1.05, "queries": 12},
    "plan": LAYOUT | {"overloaded_nodes": 0},
    "routing_epoch": LAYOUT | {"overloaded_nodes": 0, "unforeseen_overloads": 0},
    "serving": {"mismatched_segments": 0, "shards": 3, "rows": 0},
}


def good(suite: str, **changed: Any) -> pd.DataFrame:
    """One row that the suite accepts, with some values changed."""
    return pd.DataFrame([GOOD[suite] | changed])


def broken(suite: str, line: Expectation) -> pd.DataFrame:
    """A summary that breaks this expectation: just beyond the bound, where that breaks no other rule."""
    frame = good(suite)
    if line.type == "expect_table_row_count_to_equal":
        return pd.concat([frame, frame])
    if line.type == "expect_table_row_count_to_be_between":
        return frame.head(0)
    if line.type == "expect_column_values_to_be_unique":
        return pd.concat([frame, frame])
    if line.type == "expect_column_values_to_not_be_null":
        return frame.assign(**{line.column: None})
    return frame.assign(**{line.column: _beyond(line.kwargs)})


def _beyond(bounds: dict[str, Any]) -> float:
    if "max_value" in bounds:
        high: float = bounds["max_value"]
        return high + (1 if isinstance(high, int) else abs(high) / 10 + 1e-9)
    low: float = bounds["min_value"]
    return low if bounds.get("strict_min") else low - 1

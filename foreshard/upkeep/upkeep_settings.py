"""How tables are kept: what the settings say of compaction, VACUUM, retention and the reports of checks."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ConfigDict

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class MaintenanceSettings:
    """How the tables are kept. A partition is compacted when it has more than `small_files` files under `small_file_mb`, at
    most `compact_gb` per table and run. Files that no version needs are kept for `vacuum_hours`, the log for `log_days`."""

    __pydantic_config__ = _STRICT

    small_file_mb: int = 64
    small_files: int = 4
    compact_gb: float = 8.0
    vacuum_hours: int = 168
    log_days: int = 30
    lease_wait_seconds: float = 60.0


@dataclass(frozen=True)
class RetentionSettings:
    """Days of data kept, counted back from the newest complete hour; 0 keeps them for ever. The content of routing epochs is
    kept for the newest `epochs` of them and for `epoch_days`, by Postgres's clock."""

    __pydantic_config__ = _STRICT

    load_days: int = 0
    forecast_days: int = 90
    score_days: int = 365
    quarantine_days: int = 90
    epochs: int = 1000
    epoch_days: int = 30


@dataclass(frozen=True)
class CheckSettings:
    """Reports of the newest `kept_runs` runs are kept. `rows_on_spark`: staged records are checked row by row too."""

    __pydantic_config__ = _STRICT

    kept_runs: int = 500
    rows_on_spark: bool = True

"""Draws a usage log of any size as hourly landing files, with repeated, corrected and damaged rows, by DuckDB."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import duckdb

_ROWS = """
    SELECT
        -- One row in a hundred comes twice, one in a thousand is corrected, one in ten thousand is damaged.
        md5('{start}' || CASE WHEN i % 100 = 1 OR i % 1000 = 2 THEN i - 1 ELSE i END) AS record_id,
        CASE WHEN i % 1000 = 2 THEN 1 ELSE 0 END AS revision,
        'customer-' || CAST(floor({entities} * pow((hash(i) % 1000000) / 1e6, 3)) AS integer) AS entity_id,
        'service-' || (hash(i + 1) % 5) AS service_id,
        CASE WHEN i % 10000 = 3 THEN NULL ELSE 'operation-' || (hash(i + 2) % 8) END AS operation_id,
        strftime(moment, '%Y-%m-%dT%H:%M:%S.%fZ') AS event_time,
        CAST((hash(i + 3) % 100000) / 100.0 AS decimal(18, 2)) AS quantity,
        strftime(moment, '%Y-%m-%dT%H') AS folder
    FROM (
        SELECT i, TIMESTAMP '{start}' + to_microseconds(CAST(i * {step} AS bigint)) AS moment
        FROM range({first}, {last}) AS numbers(i)
    )
"""


def write(
    folder: Path, file_format: str, start: datetime, hours: int, rows: int, entities: int = 50_000, hours_a_file: int = 1
) -> list[Path]:
    """Writes `rows` rows spread evenly over the hours as `jsonl` or `parquet`; returns the files.

    A file of several hours lands in the last of them.
    """
    per_hour = rows // hours
    written = []
    connection = duckdb.connect(config={"threads": 2})
    for hour in range(0, hours, hours_a_file):
        end = min(hour + hours_a_file, hours)
        target = folder / f"{start + timedelta(hours=end - 1):%Y-%m-%dT%H}" / f"usage.{file_format}"
        target.parent.mkdir(parents=True, exist_ok=True)
        select = _ROWS.format(
            entities=entities,
            start=start.replace(tzinfo=None),
            step=3_600_000_000 / per_hour,
            first=hour * per_hour,
            last=end * per_hour,
        )
        options = "FORMAT json" if file_format == "jsonl" else "FORMAT parquet"
        times = "event_time" if file_format == "jsonl" else "CAST(event_time AS timestamptz) AS event_time"
        columns = f"record_id, revision, entity_id, service_id, operation_id, {times}, quantity"
        connection.execute(f"COPY (SELECT {columns} FROM ({select})) TO '{target}' ({options})")
        written.append(target)
    connection.close()
    return written

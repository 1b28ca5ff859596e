"""What capacity is estimated from, out of query_record by DuckDB: figures per node and interval, and per node and operation.

The table is read a day at a time and only the columns needed, so that memory is bounded by a day's latencies, and rows never
come to Python. A record that a later revision replaced counts beside it: gateways write each query once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import duckdb
import numpy as np
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from foreshard.errors import ForeshardError
from foreshard.settings import Settings
from foreshard.usage.capacity import Floats, NodeIntervals

# An interval is the shortest of these, in seconds, that holds enough queries for its latency quantile to mean something.
INTERVALS = (60, 300, 900, 3600)
ENOUGH_QUERIES = 500
MEMORY = "1GB"
# The costs of operations are drawn from as many of the newest days as hold so many queries.
COST_QUERIES = 3_000_000
# Costs are drawn from a node's quietest intervals; their hours fall into so many groups, which are resampled.
QUIET_SHARE = 0.25
GROUPS = 12
_COLUMNS = "node_id, operation_id, event_time, latency_ms, status"


@dataclass(frozen=True)
class QuietLatency:
    """Mean latency in quiet intervals, each array of shape (nodes, operations, groups); latency is NaN without queries."""

    nodes: tuple[str, ...]
    operations: tuple[str, ...]
    latency: Floats
    queries: Floats
    shares: Floats  # of all requests of the log, (operations,)


@dataclass(frozen=True)
class LogFigures:
    """`seconds`: the length of each node's intervals; `records`: rows read."""

    first: date
    last: date
    records: int
    intervals: dict[str, NodeIntervals]
    seconds: dict[str, int]
    quiet: QuietLatency


def read_figures(settings: Settings, days: int, quantile: float, costs: Mapping[str, float]) -> LogFigures:
    """Reads the last `days` days of the log; `costs` weigh its operations, 1 for one that is not named.

    Raises ForeshardError if there is no log yet.
    """
    log = _Log(settings, days, costs)
    records = log.count()
    log.choose_intervals()
    for day in log.days:
        log.add_intervals(day, quantile)
    intervals = log.intervals()
    seconds = {str(node): int(s) for node, s in log.rows("SELECT node_id, seconds FROM node ORDER BY node_id")}
    return LogFigures(log.days[0], log.days[-1], records, intervals, seconds, log.quiet())


class _Log:
    def __init__(self, settings: Settings, days: int, costs: Mapping[str, float]) -> None:
        try:
            self._table = DeltaTable(settings.table("query_record"))
        except TableNotFoundError:
            raise ForeshardError("there is no query_record to estimate from; land query records and run aggregate") from None
        present = sorted({date.fromisoformat(str(p["day"])) for p in self._table.partitions()})
        if not present:
            raise ForeshardError("query_record holds no query yet; land query records and run aggregate")
        self.days = [day for day in present if day > present[-1] - timedelta(days=days)]
        self._database = duckdb.connect()
        self._database.execute(f"SET memory_limit = '{MEMORY}'")
        self._database.execute("SET TimeZone = 'UTC'")
        self._database.execute("CREATE TABLE cost (operation_id VARCHAR, cost DOUBLE)")
        self._database.execute("CREATE TABLE operation (node_id VARCHAR, operation_id VARCHAR, day DATE, queries BIGINT)")
        self._database.execute(
            "CREATE TABLE interval_figures (node_id VARCHAR, number BIGINT, seconds BIGINT, load DOUBLE, latency DOUBLE)"
        )
        if costs:
            self._database.executemany("INSERT INTO cost VALUES (?, ?)", [[o, c] for o, c in sorted(costs.items())])

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = self._database.execute(statement).fetchall()
        return found

    def _open(self, days: list[date]) -> None:
        """Makes the queries of these days the view `query`; `number` counts the node's intervals from the epoch."""
        chosen = [("day", "in", [day.isoformat() for day in days])]
        self._database.register("stored", self._table.to_pyarrow_dataset(partitions=chosen))
        self._database.execute(f"CREATE OR REPLACE TEMP VIEW query AS SELECT {_COLUMNS} FROM stored WHERE node_id <> ''")

    def count(self) -> int:
        """Counts the queries per node, operation and day; returns how many there are."""
        for day in self.days:
            self._open([day])
            self._database.execute(
                "INSERT INTO operation SELECT node_id, operation_id, $day, count(*) FROM query GROUP BY ALL", {"day": day}
            )
        total: int = int(self.rows("SELECT coalesce(sum(queries), 0) FROM operation")[0][0])
        return total

    def choose_intervals(self) -> None:
        """Per node the interval that holds enough queries in its mean hour."""
        options = " ".join(f"WHEN mean_rate * {s} >= {ENOUGH_QUERIES} THEN {s}" for s in INTERVALS)
        self._database.execute(
            f"CREATE TABLE node AS SELECT node_id, CASE {options} ELSE {INTERVALS[-1]} END AS seconds FROM "
            "(SELECT node_id, sum(queries) / (86400.0 * count(DISTINCT day)) AS mean_rate FROM operation GROUP BY node_id)"
        )

    def add_intervals(self, day: date, quantile: float) -> None:
        """Latencies are of answered queries; what was refused still was load."""
        self._open([day])
        self._database.execute(
            "INSERT INTO interval_figures "
            "SELECT node_id, floor(epoch(event_time) / seconds)::BIGINT AS number, any_value(seconds), "
            "sum(coalesce(cost, 1.0)) / any_value(seconds), "
            "quantile_cont(latency_ms, $quantile) FILTER (WHERE status < 400 AND latency_ms > 0) "
            "FROM query JOIN node USING (node_id) LEFT JOIN cost USING (operation_id) GROUP BY node_id, number",
            {"quantile": quantile},
        )

    def intervals(self) -> dict[str, NodeIntervals]:
        """The nodes' intervals in the order of time, without the first and the last, which the log may hold in part only."""
        frame = self._database.execute(
            "SELECT node_id, load, latency FROM interval_figures WHERE latency IS NOT NULL "
            "AND number * seconds >= (SELECT min(number * seconds) + max(seconds) FROM interval_figures) "
            "AND (number + 1) * seconds <= (SELECT max(number * seconds) FROM interval_figures) ORDER BY node_id, number"
        ).fetchnumpy()
        nodes = np.asarray(frame["node_id"], dtype=object)
        known = [str(node) for (node,) in self.rows("SELECT node_id FROM node ORDER BY node_id")]
        return {
            node: NodeIntervals(_floats(frame["load"])[nodes == node], _floats(frame["latency"])[nodes == node])
            for node in known
        }

    def quiet(self) -> QuietLatency:
        """Means over the quietest intervals of the newest days, as many as hold enough queries.

        The slowest 0.5 % of an operation's day count as its 99.5th percentile: a few that hung do not decide what it costs.
        """
        self._database.execute(
            f"CREATE TABLE quiet AS SELECT node_id, number, (number * seconds // 3600) % {GROUPS} AS part FROM "
            "(SELECT *, percent_rank() OVER (PARTITION BY node_id ORDER BY load) AS rank FROM interval_figures) "
            f"WHERE rank <= {QUIET_SHARE}"
        )
        self._database.execute(
            "CREATE TABLE part_latency (node_id VARCHAR, operation_id VARCHAR, part BIGINT, total DOUBLE, queries BIGINT)"
        )
        counted = dict(self.rows("SELECT day, sum(queries) FROM operation GROUP BY day"))
        read = 0
        for day in reversed(self.days):
            if read >= COST_QUERIES:
                break
            read += int(counted.get(day, 0))
            self._add_quiet(day)
        found = self.rows(
            "SELECT node_id, operation_id, part, sum(total) / sum(queries), sum(queries) FROM part_latency GROUP BY ALL"
        )
        return _quiet_latency(found, self.rows("SELECT operation_id, sum(queries) FROM operation GROUP BY ALL ORDER BY 1"))

    def _add_quiet(self, day: date) -> None:
        self._open([day])
        self._database.execute(
            "CREATE OR REPLACE TEMP TABLE matched AS SELECT query.node_id, operation_id, part, latency_ms "
            "FROM query JOIN node USING (node_id) "
            "JOIN quiet ON quiet.node_id = query.node_id AND quiet.number = floor(epoch(event_time) / seconds)::BIGINT "
            "WHERE status < 400 AND latency_ms > 0"
        )
        self._database.execute(
            "INSERT INTO part_latency "
            "SELECT node_id, operation_id, part, sum(least(latency_ms, highest)), count(*) FROM matched JOIN "
            " (SELECT node_id, operation_id, quantile_cont(latency_ms, 0.995) AS highest FROM matched GROUP BY ALL) "
            "USING (node_id, operation_id) GROUP BY ALL"
        )


def _quiet_latency(found: list[tuple[Any, ...]], counted: list[tuple[Any, ...]]) -> QuietLatency:
    nodes = tuple(sorted({str(row[0]) for row in found}))
    operations = tuple(str(row[0]) for row in counted)
    totals = np.array([float(row[1]) for row in counted])
    latency = np.full((len(nodes), len(operations), GROUPS), np.nan)
    queries = np.zeros_like(latency)
    place = {name: i for i, name in enumerate(operations)}, {name: i for i, name in enumerate(nodes)}
    for node, operation, part, mean, count in found:
        at = place[1][node], place[0][operation], int(part)
        latency[at], queries[at] = float(mean), float(count)
    return QuietLatency(nodes, operations, latency, queries, totals / totals.sum())


def _floats(column: Any) -> Floats:
    return np.asarray(column, dtype=np.float64)

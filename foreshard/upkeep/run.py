"""One run of maintenance over the tables of a pool: compaction, retention, then VACUUM; each table gets one sentence.

A table is rewritten only under the lease of the step that writes it, and only in days that are complete. What does not fit in
the run's time, or whose writer is busy, is left for the next run.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from deltalake import DeltaTable

from foreshard.errors import ForeshardError, Refused
from foreshard.lake import delta, log, maintenance
from foreshard.routing.pool import read_nodes
from foreshard.settings import Settings
from foreshard.transition import lease
from foreshard.upkeep.needs import SOURCE, Need, Needs, needs
from foreshard.upkeep.old_answers import remove_old_answers
from foreshard.upkeep.old_epochs import remove_old_epochs
from foreshard.usage.watermark import watermark

_LEASE_SECONDS = 60
_DATES = ("day", "origin_day")


@dataclass(frozen=True, slots=True)
class Kept:
    """A table and how it is kept: the writer whose lease guards it, its order, and after how many days rows go (0: never)."""

    name: str
    writer: str
    z_order: tuple[str, ...] = ()
    days: int = 0


def kept_tables(settings: Settings, url: str) -> list[Kept]:
    """Every table of the pool, the nodes' copies included. Records and usage are kept for ever: all else is made from them."""
    kept = settings.retention
    tables = [
        Kept("usage_record", "aggregate"),
        Kept("query_record", "aggregate"),
        Kept("quarantine", "aggregate", days=kept.quarantine_days),
        Kept("usage_hourly", "aggregate", ("slot", "entity_id")),
        Kept("query_load", "aggregate", days=kept.load_days),
        Kept("query_pattern_observed", "aggregate", days=kept.load_days),
        Kept("load_forecast", "forecast_load", days=kept.forecast_days),
        Kept("query_pattern", "forecast_load", days=kept.forecast_days),
        Kept("calibration_state", "forecast_load"),
        Kept("forecast_score", "learn_from_outcomes", days=kept.score_days),
        Kept("node_correction", "learn_from_outcomes", days=kept.score_days),
    ]
    return tables + [Kept(f"serving/{n.node_id}", f"serving/{n.node_id}") for n in read_nodes(url, settings.pool_id)]


def maintain(
    spark: Any,
    settings: Settings,
    url: str,
    minutes: float,
    isolated: Mapping[str, int],
    now: Callable[[], datetime] | None = None,
) -> dict[str, Any]:
    """Maintains the tables for about so many minutes: {"upto", "tables": {name: sentence}, "left": [names], "answers",
    "epochs"}, the last two a sentence about the control plane each.

    Raises ForeshardError at the end if a table failed, after the others were done; the sentence names it.
    """
    answers = remove_old_answers(url, settings.pool_id)
    epochs = remove_old_epochs(settings, url)
    run = _Run(spark, settings, url, time.monotonic() + 60 * minutes, now or (lambda: datetime.now(UTC)))
    tables = [table for table in _rotated(kept_tables(settings, url), run.now()) if _exists(settings, table.name)]
    before = log.latest_version(settings.table(SOURCE))
    left = run.each(tables, run.rewrite)
    if log.latest_version(settings.table(SOURCE)) != before:
        _follow(spark, settings, url, isolated)
    left |= run.each(tables, run.vacuum)
    if run.failed:
        name, cause = next(iter(run.failed.items()))
        raise ForeshardError(f"maintenance of {', '.join(run.failed)} failed, the other tables are done; {name}: {cause}")
    sentences = {name: "; ".join(said) + "." for name, said in sorted(run.said.items())}
    return {"upto": run.upto, "tables": sentences, "left": sorted(left), "answers": answers, "epochs": epochs}


class _Run:
    def __init__(self, spark: Any, settings: Settings, url: str, deadline: float, now: Callable[[], datetime]) -> None:
        self._spark, self._settings, self._url = spark, settings, url
        self._deadline = deadline
        self.now = now
        marks = (watermark(settings, name).hour for name in ("usage_hourly", "query_load"))
        # Days are counted from what has come in, not from the clock: a log of the past is not old.
        self.upto = max((hour for hour in marks if hour), default=None)
        self.said: dict[str, list[str]] = {}
        self.failed: dict[str, str] = {}

    def each(self, tables: list[Kept], do: Callable[[Kept, str], Iterator[str]]) -> set[str]:
        """Does this for every table while there is time; returns the names of those left."""
        left = set()
        for table in tables:
            said = self.said.setdefault(table.name, [])
            if time.monotonic() >= self._deadline:
                left.add(table.name)
                said.append("left for the next run, because the time was over")
                continue
            try:
                said.extend(do(table, self._settings.table(table.name)))
            except Exception as error:
                self.failed[table.name] = str(error).splitlines()[0] if str(error) else type(error).__name__
        return left

    def rewrite(self, table: Kept, path: str) -> Iterator[str]:
        column = _partition_column(path)
        worth = self._worth_compacting(path, column)
        where = self._expired(table, path, column)
        if not worth and not where:
            yield "no small files to bring together"
            return
        try:
            with self._lease(table):
                if worth:
                    yield self._compact(table, path, column, worth)
                if where:
                    cut = self._cut(table)
                    maintenance.delete(self._spark, path, where, json.dumps({"kept_from": str(cut)}))
                    yield f"rows of before {cut} dropped"
        except Refused as busy:
            yield f"not rewritten: {busy}"

    def vacuum(self, table: Kept, path: str) -> Iterator[str]:
        found = needs(self._settings, self._url, table.name)
        if found is None:
            return
        files, log = found.oldest(files_only=True), found.oldest(files_only=False)
        ages = [found.age_hours(need, self.now()) for need in (files, log)]
        for need, age in zip((files, log), ages, strict=True):
            if age is None and need is not None:
                yield f"not vacuumed: its log no longer has version {need.version}, and {need.why}"
                return
        file_hours, log_hours = self._retentions(*[age or 0.0 for age in ages])
        wanted = {maintenance.FILES_PROPERTY: file_hours, maintenance.LOG_PROPERTY: log_hours}
        if maintenance.differing(path, wanted):
            try:
                with self._lease(table):
                    maintenance.set_properties(self._spark, path, wanted)
            except Refused as busy:
                yield f"not vacuumed: {busy}"
                return
        maintenance.remove_unfinished(path, file_hours)
        if not maintenance.has_leftovers(path, file_hours):
            maintenance.cleanup_log(path)
            yield "no files to remove"
            return
        danger = self._endangered(path, found, files, ages[0] or 0.0)
        if danger and files:
            yield f"not vacuumed: version {files.version} needs {danger} files that its log has forgotten, and {files.why}"
            return
        maintenance.vacuum(self._spark, path)
        maintenance.cleanup_log(path)
        because = f", because version {files.version} is needed: {files.why}" if files and file_hours > self._base_hours else ""
        yield f"files removed that nothing of the last {file_hours:.0f} hours needs{because}"

    @property
    def _base_hours(self) -> float:
        return self._settings.maintenance.vacuum_hours

    def _retentions(self, files_age: float, log_age: float) -> tuple[float, float]:
        """Hours for data files and for the log; the log always reaches as far back as the files do."""
        file_hours = maintenance.covering(self._base_hours, files_age)
        return file_hours, max(maintenance.covering(24 * self._settings.maintenance.log_days, log_age), file_hours)

    def _endangered(self, path: str, found: Needs, need: Need | None, age: float) -> int:
        # Within half of the retention nothing can have been forgotten yet; the look at the files costs as much as a VACUUM.
        if need is None or 2 * age <= self._base_hours:
            return 0
        return len(maintenance.endangered(self._spark, path, need.version, found.newest_version))

    def _compact(self, table: Kept, path: str, column: str, worth: list[str]) -> str:
        if column in _DATES:
            where = delta.days_condition([date.fromisoformat(value) for value in worth], column)
        else:
            where = maintenance.values_condition(column, worth, is_number=column == "shard_id")
        gone, come = maintenance.compact(self._spark, path, where, table.z_order, self._small_bytes)
        return f"{gone} files of {len(worth)} {_noun(column, len(worth))} became {come}"

    def _worth_compacting(self, path: str, column: str) -> list[str]:
        if not column:
            return []
        rules = self._settings.maintenance
        found = maintenance.partitions(path, column, self._small_bytes)
        if column in _DATES:
            complete = str(self.upto.date()) if self.upto else ""
            found = [partition for partition in found if partition.value < complete]
        return maintenance.worth_compacting(found, rules.small_files, rules.compact_gb * 2**30)

    def _expired(self, table: Kept, path: str, column: str) -> str:
        """The predicate of the rows past their days; empty if there are none."""
        if not table.days or self.upto is None:
            return ""
        cut = self._cut(table)
        if column in _DATES:
            old = any(p.value < str(cut) for p in maintenance.partitions(path, column, self._small_bytes))
            return f"{column} < DATE'{cut}'" if old else ""
        where = f"landed_at < TIMESTAMP'{cut} 00:00:00'"
        return "" if delta.read(self._spark, path).where(where).isEmpty() else where

    def _cut(self, table: Kept) -> date:
        assert self.upto is not None
        return (self.upto - timedelta(days=table.days)).date()

    @property
    def _small_bytes(self) -> int:
        return self._settings.maintenance.small_file_mb << 20

    def _lease(self, table: Kept) -> AbstractContextManager[lease.Lease]:
        holder = f"maintain on {socket.gethostname()}, process {os.getpid()}"
        name = f"{self._settings.pool_id}/{table.writer}"
        return lease.held(self._url, name, holder, _LEASE_SECONDS, self._settings.maintenance.lease_wait_seconds)


def _noun(column: str, count: int) -> str:
    return ("day" if column in _DATES else "partition") + ("" if count == 1 else "s")


def _follow(spark: Any, settings: Settings, url: str, isolated: Mapping[str, int]) -> None:
    """Tells every copy that it is at the new version: no row of the source changed, so none is rewritten."""
    from foreshard.transition.following import follow_source

    follow_source(spark, settings, url, isolated)


def _rotated(tables: list[Kept], now: datetime) -> list[Kept]:
    """Begins with another table each day, so that what a full run leaves over is not always the same."""
    first = now.toordinal() % len(tables)
    return tables[first:] + tables[:first]


def _partition_column(path: str) -> str:
    columns = DeltaTable(path).metadata().partition_columns
    return str(columns[0]) if columns else ""


def _exists(settings: Settings, name: str) -> bool:
    return log.opened(settings.table(name)) is not None

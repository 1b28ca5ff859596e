"""Copying segments of usage_hourly into serving tables at a pinned version, and keeping the copies up to the source.

A copy replaces whole segments (a slot's rows of some days) by the source's rows at one version, so that repeating it after
a kill at any point gives the same table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from foreshard.errors import ForeshardError
from foreshard.lake import delta, log
from foreshard.lake.kept_versions import while_kept
from foreshard.lake.staging import staged
from foreshard.lake.tables import serving
from foreshard.settings import Settings
from foreshard.transition.holdings import KEY, UNKNOWN_VERSION, Contents, Holding, contents, with_copies


def held(settings: Settings, node_id: str) -> dict[int, Holding]:
    """What the node's serving table holds."""
    return dict(contents_of(settings, node_id).holdings)


def contents_of(settings: Settings, node_id: str) -> Contents:
    """All that the node's serving table says of itself."""
    return contents(log.newest_commit(settings.table(f"serving/{node_id}"), KEY))


def is_of_source(settings: Settings, node_id: str) -> bool:
    """Whether the node's copies are of the table that usage_hourly is now: versions of one made anew begin again."""
    return contents_of(settings, node_id).source_table == log.table_id(settings.table("usage_hourly"))


def of_source(before: Contents, source_table: str) -> Contents:
    """What a serving table holds of this source: of copies of another one nothing is known but their days."""
    if before.source_table == source_table:
        return before
    return Contents({s: Holding(UNKNOWN_VERSION, h.covers_from) for s, h in before.holdings.items()}, source_table)


def source_rows(
    spark: SparkSession,
    settings: Settings,
    version: int,
    coverage: Mapping[int, date | None],
    isolated: Mapping[str, int],
    until: Mapping[int, date] | None = None,
) -> DataFrame:
    """The source's rows at one version for some shards, from each one's first covered day on, with `shard_id`.

    `coverage`: shard → first day, None for all. `isolated`: entity → its own shard. `until`: shard → the day before which its
    rows end. Raises ForeshardError for a shard that is neither a slot nor in `isolated`.
    """
    source = delta.read(spark, settings.table("usage_hourly"), version)
    return _covered(spark, settings, source, coverage, isolated, until or {})


def _covered(
    spark: SparkSession,
    settings: Settings,
    source: DataFrame,
    coverage: Mapping[int, date | None],
    isolated: Mapping[str, int],
    until: Mapping[int, date] | None = None,
) -> DataFrame:
    """Those of the source's rows that these copies cover, with `shard_id`."""
    slots = [s for s in coverage if s < settings.slots]
    source = _within(source, list(coverage.values()), [(until or {}).get(s) for s in coverage])
    rows = source.where(F.col("slot").isin(slots)).withColumn("shard_id", F.col("slot"))
    own = own_shards(settings, coverage, isolated)
    if own:
        names = F.broadcast(spark.createDataFrame(list(own.items()), "entity_id string, shard_id int"))
        rows = rows.unionByName(source.join(names, "entity_id"))
    bounds = [(s, day, (until or {}).get(s)) for s, day in coverage.items() if day or s in (until or {})]
    if bounds:
        limits = F.broadcast(spark.createDataFrame(bounds, "shard_id int, first_day date, end_day date"))
        rows = rows.join(limits, "shard_id", "left").where(
            "(first_day IS NULL OR day >= first_day) AND (end_day IS NULL OR day < end_day)"
        )
    return rows.select(*serving("any").schema.names)


def own_shards(settings: Settings, shards: Iterable[int], isolated: Mapping[str, int]) -> dict[str, int]:
    """The isolated entities (entity → its own shard) that these shards are of.

    Raises ForeshardError for a shard that is neither a slot nor one of theirs: it would pass for a shard without rows.
    """
    wanted = set(shards)
    own = {entity: shard for entity, shard in isolated.items() if shard in wanted}
    unknown = sorted({shard for shard in wanted if shard >= settings.slots} - set(own.values()))
    if unknown:
        raise ForeshardError(f"shard {unknown[0]} is no slot and no entity's own; retire its copies or restore entity_shard")
    return own


def _within(source: DataFrame, first: Sequence[date | None], end: Sequence[date | None]) -> DataFrame:
    """Without the days that no copy covers, so that their files are not read."""
    firsts, ends = [day for day in first if day], [day for day in end if day]
    if firsts and len(firsts) == len(first):
        source = source.where(F.col("day") >= F.lit(min(firsts)))
    if ends and len(ends) == len(end):
        source = source.where(F.col("day") < F.lit(max(ends)))
    return source


def packed_by_shard(rows: DataFrame, settings: Settings) -> DataFrame:
    """One file per shard: a pipeline that loads a shard then reads one file."""
    ordered = rows.repartition(settings.spark.shuffle_partitions, "shard_id")
    return ordered.sortWithinPartitions("shard_id", "entity_id", "hour")


def copy_shards(
    spark: SparkSession,
    settings: Settings,
    node_id: str,
    coverage: Mapping[int, date | None],
    version: int,
    isolated: Mapping[str, int],
) -> None:
    """Replaces the node's copies of these shards by the source at `version`, and says so in the same commit.

    Until then who holds older copies goes on serving them.
    """
    table = serving(node_id)
    rows = packed_by_shard(source_rows(spark, settings, version, coverage, isolated), settings)
    table.ensure(spark, settings)
    with staged(rows, settings.table(table.name), table) as files:
        now = table.newest(spark, settings)
        before = of_source(contents(log.newest_commit(now.table(), KEY)), log.table_id(settings.table("usage_hourly")))
        after = with_copies(before.holdings, {shard: Holding(version, day) for shard, day in coverage.items()})
        said = replace(before.without(coverage), holdings=after).metadata(version)
        files.commit(now, said, instead_of=now.files(coverage))


@dataclass(frozen=True)
class Changes:
    """What the source's change feed says of some versions: segments touched, and whether rows only came."""

    slots: frozenset[int]
    days: tuple[date, ...]
    only_added: bool


def changes_of(spark: SparkSession, settings: Settings, after: int, version: int) -> Changes:
    """The changes of usage_hourly in the versions after < v ≤ version; VersionGone if they are no longer kept."""
    with while_kept("usage_hourly's change feed", after):
        feed = delta.changed_rows(spark, settings.table("usage_hourly"), after, version)
        found = feed.select("slot", "day", "_change_type").distinct().collect()
    kinds = {row["_change_type"] for row in found}
    days = tuple(sorted({row["day"] for row in found}))
    return Changes(frozenset(row["slot"] for row in found), days, kinds <= {"insert"})


def follow(
    spark: SparkSession,
    settings: Settings,
    node_id: str,
    version: int,
    isolated: Mapping[str, int],
    changes_since: Callable[[int], Changes] | None = None,
) -> int:
    """Brings the node's copies to the source's `version`: rows that came are appended, restated segments replaced.

    Returns how many days changed; nothing is written if every copy is there already. The copies must be of the source as it
    is (`is_of_source`). `changes_since` serves several nodes that follow at once; by default it is `changes_of`. VersionGone if
    the change feed no longer reaches back to the copies.
    """
    table = serving(node_id)
    path = settings.table(table.name)
    opened = log.opened(path)
    if opened is None:
        return 0
    # What is appended must fit the holdings that are read here.
    before = log.Snapshot(path, opened)
    said = contents(log.newest_commit(opened, KEY))
    widened = said.widened
    behind = {s: h for s, h in {**said.holdings, **widened}.items() if h.applied_version < version}
    if not behind:
        return 0
    applied = {h.applied_version for h in behind.values()}
    oldest = min(applied)
    changes = changes_since(oldest) if changes_since else changes_of(spark, settings, oldest, version)
    touched = {shard: h.covers_from for shard, h in behind.items() if shard in changes.slots or shard >= settings.slots}
    after = with_copies(said.holdings, {shard: Holding(version, h.covers_from) for shard, h in behind.items()})
    commit = replace(said, holdings=after, source_table=log.table_id(settings.table("usage_hourly"))).metadata(version)
    if changes.only_added and len(applied) == 1 and not widened:
        with while_kept("usage_hourly's change feed", oldest):
            feed = delta.changed_rows(spark, settings.table("usage_hourly"), oldest, version)
        with (
            while_kept("usage_hourly's change feed", oldest),
            staged(_covered(spark, settings, feed, touched, isolated).coalesce(1), path, table) as files,
        ):
            files.commit(before, commit)
    else:
        days = delta.days_condition(list(changes.days))
        rows = source_rows(spark, settings, version, touched, isolated).where(days)
        # Days that a copy in the making has brought to a hot replica are no part of it yet: they are of another version.
        floors = {s: touched[s] for s in said.unfinished if s in touched}
        delta.replace_where(rows.coalesce(1), path, f"{_shards_condition(touched, floors)} AND {days}", commit, before)
    return len(changes.days)


def _shards_condition(shard_ids: Iterable[int], floors: Mapping[int, date | None]) -> str:
    """These shards, some only from a day on."""
    whole = sorted(set(shard_ids) - set(floors))
    parts = [f"shard_id IN ({', '.join(map(str, whole))})"] if whole else []
    parts += [f"(shard_id = {shard} AND day >= DATE'{day}')" for shard, day in sorted(floors.items())]
    return f"({' OR '.join(parts)})" if parts else "false"

"""The oldest version of a table that something may still read: pins, copies behind their source, products behind their records.

Read from Postgres and from what the commits say, without Spark. A reader that comes later begins at the newest version, so a
need found here can only be given up, never grow older.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from foreshard.lake import log
from foreshard.routing.pool import read_nodes
from foreshard.settings import Settings
from foreshard.transition import store
from foreshard.transition.holdings import KEY, SOURCE_TABLE, UNKNOWN_VERSION, contents

SOURCE = "usage_hourly"
# Product → the record table that it is made from; its commits name the version they applied.
PRODUCTS = {"usage_hourly": "usage_record", "query_load": "query_record", "query_pattern_observed": "query_record"}
# What later steps look up in a table's commits: the newest commit with each of these must stay in the log.
STATE = ("complete_to", "record_version", KEY, "origin", "input_version", "scored_to", "corrected_to", "kept_from")


@dataclass(frozen=True, slots=True)
class Need:
    """`version` must stay readable because of `why`; with `files` False only the log from it on, not its data."""

    version: int
    why: str
    files: bool = True


@dataclass(frozen=True)
class Needs:
    """All needs of one table, and when each version that is still in its log was committed (UTC)."""

    newest_version: int
    found: tuple[Need, ...]
    committed: dict[int, datetime]

    def oldest(self, files_only: bool) -> Need | None:
        """The need of the lowest version, among those of data files if asked; None if there is none below the newest."""
        open_needs = [n for n in self.found if n.version < self.newest_version and (n.files or not files_only)]
        return min(open_needs, key=lambda n: n.version, default=None)

    def age_hours(self, need: Need | None, now: datetime) -> float | None:
        """Hours since the needed version was committed; 0 without a need, None if the log no longer has that commit."""
        if need is None:
            return 0.0
        at = self.committed.get(need.version)
        return None if at is None else max((now - at).total_seconds() / 3600, 0.0)


def needs(settings: Settings, url: str, name: str) -> Needs | None:
    """What is needed of the table `name`; None if there is no such table."""
    table = log.opened(settings.table(name))
    if table is None:
        return None
    history = table.history()
    said = {int(c["version"]): log.parse(c.get("userMetadata")) for c in history if "version" in c}
    found = [Need(version, f"it says {key}", files=False) for key in STATE if (version := _newest(said, key)) is not None]
    pinned = store.oldest_pin(url, settings.pool_id, name)
    if pinned is not None:
        found.append(Need(pinned, "it is pinned"))
    if name == SOURCE:
        found.extend(_copies(settings, url, str(table.metadata().id)))
    found.extend(_products(settings, name, str(table.metadata().id)))
    committed = {int(c["version"]): datetime.fromtimestamp(c["timestamp"] / 1000, UTC) for c in history if "version" in c}
    return Needs(int(table.version()), tuple(found), committed)


def _copies(settings: Settings, url: str, table_id: str) -> list[Need]:
    """A copy is brought up by the change feed after the version it has applied."""
    found = []
    for node in read_nodes(url, settings.pool_id):
        said = log.newest_commit(settings.table(f"serving/{node.node_id}"), KEY)
        copies = contents(said)
        applied = {h.applied_version for h in [*copies.holdings.values(), *copies.widened.values()]}
        versions = applied - {UNKNOWN_VERSION}
        if versions and said.get(SOURCE_TABLE) == table_id:
            found.append(Need(min(versions), f"the copies on {node.node_id} follow from it"))
    return found


def _products(settings: Settings, name: str, table_id: str) -> list[Need]:
    found = []
    for product in (p for p, source in PRODUCTS.items() if source == name):
        said = log.newest_commit(settings.table(product), "record_version")
        if said.get("record_table") == table_id:
            found.append(Need(int(said["record_version"]), f"{product} follows from it"))
    return found


def _newest(said: dict[int, dict[str, Any]], key: str) -> int | None:
    return max((version for version, one in said.items() if key in one), default=None)

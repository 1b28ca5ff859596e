"""What must hold after a transition, whatever was killed on the way."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import UTC, date
from typing import Any

from crash_platform import Platform
from deltalake import DeltaTable

from foreshard.local.processes import wait_until
from foreshard.model import Layout
from foreshard.placement import codec
from foreshard.routing import database
from foreshard.routing import store as epochs
from foreshard.transition import store
from foreshard.transition.retire import holdings_of
from foreshard.upkeep.leftovers import leftovers
from foreshard.upkeep.staged_folders import staged_leftovers

Rows = Counter[tuple[Any, ...]]


def check_all(platform: Platform, plan_id: str, history: str) -> None:
    """Raises AssertionError with the plan's history."""
    check_answers(platform)
    record = store.read_plan(platform.url, platform.settings.pool_id, plan_id)
    check_epochs(platform, record.state == "rolled_back", history)
    check_moves(platform, record, history)
    check_copies(platform, history)
    check_leftovers(platform, history)
    check_nothing_held(platform, history)


def check_answers(platform: Platform) -> None:
    """No query was answered wrongly or not at all, and the newest epoch is gone by."""
    questions, epoch = platform.questions, platform.snapshot().epoch
    wait_until(lambda: bool(questions.faults) or max(questions.epochs, default=0) >= epoch, 60, f"answers by epoch {epoch}")
    assert not questions.faults, questions.faults[:3]


def check_epochs(platform: Platform, is_rolled_back: bool, history: str) -> None:
    """None is missing, each follows the one before it and has two full replicas of every shard; shadows are over."""
    pool_id = platform.settings.pool_id
    with database.transaction(platform.url) as cursor:
        cursor.execute("SELECT epoch, parent FROM routing_epoch ORDER BY epoch")
        found = [(row["epoch"], row["parent"]) for row in cursor.fetchall()]
    assert found == [(n, n - 1) for n in range(1, len(found) + 1)], f"{found}; {history}"
    snapshot = platform.snapshot()
    assert snapshot.epoch == len(found)
    assert not snapshot.shadows, f"shadows are left; {history}"
    for number in range(platform.checked_epoch + 1, len(found) + 1):
        layout = epochs.epoch(platform.url, pool_id, number).layout
        for shard in range(platform.settings.slots):
            full = {r.node_id for r in layout.of_shard(shard) if r.is_full}
            assert len(full) >= 2, f"epoch {number} has shard {shard} on {sorted(full)} only; {history}"
            assert sum(r.weight for r in layout.of_shard(shard)) > 0.999, f"epoch {number}; {history}"
    with database.transaction(platform.url) as cursor:
        cursor.execute("SELECT DISTINCT epoch FROM gateway_ack")
        followed = {row["epoch"] for row in cursor.fetchall()} | platform.questions.epochs
    # Of what a rollback replaced at once the gateway need not have heard.
    missed = set(range(platform.checked_epoch + 1, len(found) + 1)) - followed
    assert not missed or is_rolled_back, f"epochs {sorted(missed)} were served by no gateway; {history}"
    platform.checked_epoch = len(found)


def check_moves(platform: Platform, record: store.PlanRecord, history: str) -> None:
    """All moves have ended, and the layout is the one that they lead to, or the one before if the plan was taken back."""
    pool_id = platform.settings.pool_id
    assert {m.state for m in store.read_moves(platform.url, pool_id, record.plan_id)} == {record.state}, history
    base = epochs.epoch(platform.url, pool_id, record.base_epoch).layout
    wanted = codec.plan_from_document(record.document).layout if record.state == "done" else base
    assert _coverage(platform.snapshot().layout) == _coverage(wanted), history


def check_copies(platform: Platform, history: str) -> None:
    """Each copy is the source's rows, once each, at the version that it says it has; a node has rows of nothing else."""
    source: dict[int, dict[int, Rows]] = {}
    layout = platform.snapshot().layout
    for node in platform.settings.nodes:
        held, copied = holdings_of(platform.settings, node.node_id), _copied(platform, node.node_id)
        routed = {r.shard_id: r.covers_from for r in layout.of_node(node.node_id)}
        for shard, day in routed.items():
            assert shard in held, f"shard {shard} is routed to {node.node_id}, which has {held}; {history}"
            assert held[shard].covers_from == day, f"shard {shard} on {node.node_id}: {held[shard]}, not {day}; {history}"
        for shard, holding in held.items():
            version = holding.applied_version
            if version not in source:
                source[version] = _source(platform, version)
            expected = _from(source[version][shard], holding.covers_from)
            actual = copied.get(shard, Counter())
            where = f"shard {shard} on {node.node_id} at version {version}"
            assert actual == expected, f"{where}: missing {expected - actual}, too many {actual - expected}; {history}"


def check_leftovers(platform: Platform, history: str) -> None:
    """What `foreshard doctor --repair` leaves is what queries are routed to, and all of that."""
    repaired = []
    for finding in leftovers(platform.settings, platform.url):
        if finding.repair is not None:
            repaired.append(f"{finding.what}: {finding.repair()}")
    layout = platform.snapshot().layout
    for node in platform.settings.nodes:
        routed = {r.shard_id: r.covers_from for r in layout.of_node(node.node_id)}
        held = {shard: h.covers_from for shard, h in holdings_of(platform.settings, node.node_id).items()}
        assert held == routed, f"{node.node_id} after {repaired}; {history}"
        assert set(_copied(platform, node.node_id)) <= set(routed), f"{node.node_id} after {repaired}; {history}"
        assert not staged_leftovers(platform.settings.table(f"serving/{node.node_id}")), f"after {repaired}; {history}"


def check_nothing_held(platform: Platform, history: str) -> None:
    """Nobody holds the transition, and no old version is pinned."""
    with database.transaction(platform.url) as cursor:
        cursor.execute("SELECT holder, version FROM version_pin")
        assert cursor.fetchall() == [], history
        cursor.execute("SELECT name, holder FROM lease WHERE expires_at > clock_timestamp() + interval '60 seconds'")
        assert cursor.fetchall() == [], history


def _coverage(layout: Layout) -> dict[tuple[int, str], tuple[float, date | None]]:
    return {(r.shard_id, r.node_id): (round(r.weight, 5), r.covers_from) for r in layout.replicas}


def _source(platform: Platform, version: int) -> dict[int, Rows]:
    found: dict[int, Rows] = defaultdict(Counter)
    for row in DeltaTable(platform.source.path, version=version).to_pyarrow_table().to_pylist():
        found[row["slot"]][_plain(row)] += 1
    return found


def _copied(platform: Platform, node_id: str) -> dict[int, Rows]:
    found: dict[int, Rows] = defaultdict(Counter)
    path = platform.settings.table(f"serving/{node_id}")
    if DeltaTable.is_deltatable(path):
        for row in DeltaTable(path).to_pyarrow_table().to_pylist():
            found[row["shard_id"]][_plain(row)] += 1
    return found


def _plain(row: dict[str, Any]) -> tuple[Any, ...]:
    return (row["entity_id"], row["hour"].replace(tzinfo=UTC), row["quantity"], row["events"], row["day"])


def _from(rows: Rows, day: date | None) -> Rows:
    return Counter({row: count for row, count in rows.items() if day is None or row[-1] >= day})

"""Which entities are hot, for how long they must be, and that one with a shard of its own does not flap."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import CommitProperties, write_deltalake
from typer.testing import CliRunner

from foreshard.cli import app
from foreshard.errors import ForeshardError
from foreshard.hashing import entity_slot
from foreshard.model import Replica
from foreshard.routing import store as epochs
from foreshard.routing.snapshot import Snapshot
from foreshard.settings import HotEntitySettings, NodeSettings, Settings, load
from foreshard.usage.hot_entities import HotEntity, LoadRow, find_hot, hot_entities

UPTO = datetime(2013, 11, 28, tzinfo=UTC)
RULES = HotEntitySettings(window_hours=24, slot_share=0.5, node_share=0.2, hours=3, keep_factor=0.6)
NODE_LOAD = 10.0  # an entity is hot from 2 a second on
SLOT_BITS = 3
OWN_SHARD = (Replica(4, "a"), Replica(4, "b"))


def series(entity: str, rates: list[float], rest: float = 0.5, grain: int = 60) -> list[LoadRow]:
    """The entity's last intervals and the rest of its slot, both in weighted requests per second."""
    slot = entity_slot(entity, SLOT_BITS)
    first = UPTO - timedelta(minutes=grain * len(rates))
    times = [first + timedelta(minutes=grain * i) for i in range(len(rates))]
    own = [LoadRow(slot, entity, at, rate * grain * 60) for at, rate in zip(times, rates, strict=True) if rate]
    return own + [LoadRow(slot, "", at, rest * grain * 60) for at in times]


def write_load(settings: Settings, rows: list[LoadRow], complete_to: datetime) -> None:
    """The rows as query_load, as far as its columns matter here."""
    table = pa.table(
        {
            "slot": pa.array([r.slot for r in rows], pa.int32()),
            "entity_id": [r.entity_id for r in rows],
            "interval_start": pa.array([r.interval_start for r in rows], pa.timestamp("us", "UTC")),
            "load": pa.array([Decimal(str(r.load)) for r in rows], pa.decimal128(20, 6)),
            "day": pa.array([r.interval_start.date() for r in rows], pa.date32()),
        }
    )
    said = CommitProperties(custom_metadata={"userMetadata": json.dumps({"complete_to": complete_to.isoformat()})})
    write_deltalake(settings.table("query_load"), table, partition_by=["day"], commit_properties=said)


def found(rows: list[LoadRow], isolated: dict[str, int] | None = None, grain: int = 60) -> list[HotEntity]:
    return find_hot(rows, RULES, grain, NODE_LOAD, isolated or {})


def test_an_entity_that_is_most_of_its_slot_and_much_of_a_node_for_hours_is_hot_and_says_why() -> None:
    (hot,) = found(series("busy", [0.0] * 18 + [3.0] * 6))
    assert (hot.entity_id, hot.slot, hot.shard_id) == ("busy", entity_slot("busy", SLOT_BITS), None)
    assert (hot.load, hot.node_share, hot.hours) == (pytest.approx(3.0), pytest.approx(0.3), 6)
    assert hot.slot_share == pytest.approx(3.0 / 3.5)
    assert "86% of slot" in hot.reason
    assert "30% of what a mean node may carry, for 6 of the last 24 hours" in hot.reason


@pytest.mark.parametrize(
    ("rates", "rest"),
    [
        ([1.9] * 24, 0.1),  # a small slot's largest entity: any node can carry the slot
        ([3.0] * 24, 4.0),  # less than half of its slot
        ([0.0] * 22 + [9.0] * 2, 0.1),  # over after two hours
        ([9.0] + [0.0] * 23, 0.1),  # one interval
    ],
)
def test_one_that_is_small_or_a_minor_part_or_short_is_not(rates: list[float], rest: float) -> None:
    assert found(series("busy", rates, rest)) == []


def test_an_entity_that_is_hot_every_evening_hour_is_judged_at_any_grain() -> None:
    rates = [0.3] * 72 + [2.5] * 12 + [0.3] * 12
    (hot,) = found(series("evening", rates, grain=15), grain=15)
    assert hot.hours == 3
    assert found(series("evening", [0.3] * 72 + [2.5] * 11 + [0.3] * 13, grain=15), grain=15) == []


def test_an_isolated_entity_stays_hot_until_it_is_well_below_the_bounds() -> None:
    rows = series("busy", [1.3] * 24, rest=1.0)
    assert found(rows) == []
    (hot,) = found(rows, {"busy": 8})
    assert hot.shard_id == 8
    assert "shard 8 of its own" in hot.reason
    assert found(series("busy", [1.1] * 24, rest=1.0), {"busy": 8}) == []


def test_the_hottest_come_first_and_the_rest_of_a_slot_is_never_an_entity() -> None:
    rows = series("busy", [3.0] * 24) + series("busier", [5.0] * 24) + [LoadRow(7, "", UPTO - timedelta(hours=1), 1e9)]
    assert [hot.entity_id for hot in found(rows)] == ["busier", "busy"]


def test_the_window_is_read_from_the_table(lake: Settings) -> None:
    settings = replace(lake, nodes=(NodeSettings("a", 12.5),), hot_entities=RULES)
    assert hot_entities(settings, UPTO, {}) == []
    early = [LoadRow(r.slot, r.entity_id, r.interval_start - timedelta(days=1), r.load) for r in series("past", [9.0] * 24)]
    rows = series("busy", [3.0] * 24) + early
    write_load(settings, rows, UPTO)
    assert [hot.entity_id for hot in hot_entities(settings, UPTO, {})] == ["busy"]
    assert [hot.entity_id for hot in hot_entities(settings, UPTO - timedelta(days=1), {})] == ["past"]


def test_the_command_names_hot_entities_and_those_that_cooled_down(published: str, snapshot: Snapshot, tmp_path: Path) -> None:
    epochs.publish(
        published,
        replace(snapshot, epoch=2, parent=1, isolated=(("past", 4),), replicas=(*snapshot.replicas, *OWN_SHARD)),
        expected_epoch=1,
        published_by="test",
        reason="test",
    )
    file = tmp_path / "foreshard.toml"
    nodes = "".join(f'[[nodes]]\nnode_id = "{node}"\ncapacity = 12.5\n' for node in "abc")
    file.write_text(f'postgres_url = "{published}"\nlake = "lake"\nslot_bits = 2\n{nodes}')
    words = ["capacity", "hot", "--settings", str(file)]
    early = CliRunner().invoke(app, words)
    assert isinstance(early.exception, ForeshardError)
    write_load(load(file), series("busy", [3.0] * 24), UPTO)
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert [entity["entity_id"] for entity in document["hot"]] == ["busy"]
    assert (document["cooled"], document["upto"]) == (["past"], UPTO.isoformat())
    shown = CliRunner().invoke(app, words)
    assert "busy" in shown.stdout
    assert "no longer hot: past" in shown.stdout

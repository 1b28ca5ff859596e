"""What recorded plans would have been worth, on loads and layouts whose figures are worked out by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pyarrow as pa
import pytest
from deltalake import CommitProperties, write_deltalake

from foreshard.commands.shadow import closing
from foreshard.model import Layout, Move, MoveKind, Node, PlacementProblem, Plan, PlanMetrics, Policy, Replica, ShardLoad
from foreshard.placement import codec
from foreshard.routing import database as control_plane
from foreshard.routing import pool
from foreshard.settings import Settings
from foreshard.transition import shadow_mode, store
from foreshard.transition.plan_problem import packed
from foreshard.transition.shadow_worth import shadow_worth

START = datetime(2013, 11, 28, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)
# Requests a second of slots 0 and 1, hour by hour. Nodes a and b carry 10 each.
CAME = ((6, 8), (6, 12))
AT_HAND = ((0, "a"), (1, "a"))
MOVED = ((0, "a"), (1, "b"))
SPREAD = ((0, "a"), (0, "b"), (1, "b"))
BYTES = 1_000_000_000


def layout(epoch: int, places: tuple[tuple[int, str], ...]) -> Layout:
    return Layout(epoch, tuple(Replica(shard, node) for shard, node in places))


@pytest.fixture
def settings(lake: Settings) -> Settings:
    """A pool in shadow mode, with the load of two hours aggregated; slot 1's in two rows, of an entity and of the rest."""
    pool.register(lake.postgres_url, lake)
    pool.set_shadow(lake.postgres_url, lake.pool_id, "ann")
    rows = []
    for hour, (zero, one) in enumerate(CAME):
        at = START + hour * HOUR
        for slot, entity, rate in ((0, "", zero), (1, "hot", one - 5), (1, "", 5)):
            load = Decimal(3600 * rate)
            rows.append({"slot": slot, "entity_id": entity, "interval_start": at, "load": load, "day": at.date()})
    said = {"userMetadata": json.dumps({"complete_to": (START + len(CAME) * HOUR).isoformat()})}
    write_deltalake(
        lake.table("query_load"),
        pa.Table.from_pylist(rows),
        partition_by=["day"],
        commit_properties=CommitProperties(custom_metadata=said),
    )
    return lake


def problem(first: int, hours: int = 3) -> PlacementProblem:
    """Made for these hours after START, of which it foresaw something else than came."""
    shards = tuple(ShardLoad(s, (1.0,) * hours, (0.5,) * hours, ((0.5,),) * hours, BYTES, BYTES // 10) for s in (0, 1))
    steps = tuple(START + (first + h) * HOUR for h in range(hours))
    nodes = (Node("a", 10.0), Node("b", 10.0))
    return PlacementProblem("usage", layout(1, AT_HAND), nodes, shards, Policy(min_full_replicas=1), steps, date(2013, 11, 21))


def kept_back(settings: Settings, plan_id: str, made_from: PlacementProblem, places: tuple[tuple[int, str], ...]) -> None:
    moves = (Move(MoveKind.MOVE, 1, "a", "b", None, BYTES, "a is full"),)
    metrics = PlanMetrics(1.0, 0.5, 0.5, BYTES, BYTES, 1, "converged")
    plan = Plan(plan_id, "usage", 1, "digest", moves, layout(2, places), metrics)
    store.save_plan(settings.postgres_url, plan, codec.plan_to_document(plan), packed(made_from))
    assert shadow_mode.set_aside(settings.postgres_url, "usage", plan_id)


def test_a_plan_is_measured_over_the_hours_that_came(settings: Settings) -> None:
    kept_back(settings, "p1", problem(0), MOVED)
    (worth,) = shadow_worth(settings, settings.postgres_url)
    assert (worth.state, worth.hours, worth.moves, worth.bytes, worth.copies, worth.copied_bytes) == (
        "measured",
        2.0,
        1,
        BYTES,
        1,
        BYTES,
    )
    # At hand a has 14 and 18 of 10: 4 and 8 above. With the plan a has 6, and b 8 and 12: 2 above.
    assert worth.load == pytest.approx((14 + 18) * 3600)
    assert (worth.above_at_hand, worth.above_planned) == pytest.approx((12 * 3600, 2 * 3600))
    assert (worth.peak_at_hand, worth.peak_planned) == pytest.approx((1.8, 1.2))
    assert closing([worth]) == (
        "1 plan would have been carried out and 1 replica copied (1.00 GB); in 2 hours that came 37.50% "
        "of the load was above nodes' capacity under the layout at hand, and 6.25% would have been under the plans'."
    )


def test_each_hour_counts_for_the_plan_that_would_have_held_then(settings: Settings) -> None:
    kept_back(settings, "p1", problem(0), MOVED)
    kept_back(settings, "p2", problem(1), AT_HAND)
    kept_back(settings, "p3", problem(1), SPREAD)
    kept_back(settings, "p4", problem(2), SPREAD)
    p4, p3, p2, p1 = shadow_worth(settings, settings.postgres_url)
    assert [(w.plan_id, w.state, w.hours) for w in (p1, p2, p3, p4)] == [
        ("p1", "measured", 1.0),
        ("p2", "replaced", 0.0),
        ("p3", "measured", 1.0),
        ("p4", "not yet", 0.0),
    ]
    assert (p1.above_at_hand, p1.above_planned) == pytest.approx((4 * 3600, 0))
    # Half of slot 0 goes to b, which then has 3 + 12.
    assert (p3.above_at_hand, p3.above_planned, p3.peak_planned) == pytest.approx((8 * 3600, 5 * 3600, 1.5))
    assert [w.copies for w in (p1, p2, p3, p4)] == [1, 1, 2, 0], "beyond what the plan before it brought"
    assert [w.plan_id for w in shadow_worth(settings, settings.postgres_url, 2)] == ["p4", "p3"]


def test_hours_after_another_epoch_are_left_out(settings: Settings) -> None:
    kept_back(settings, "p1", problem(0), MOVED)
    with control_plane.transaction(settings.postgres_url) as cursor:
        cursor.execute(
            "INSERT INTO routing_epoch (pool_id, epoch, parent, checksum, published_at, published_by, reason)"
            " VALUES ('usage', 2, 1, '', %s, 'ann', 'shadow mode ended')",
            (START + HOUR,),
        )
    (worth,) = shadow_worth(settings, settings.postgres_url)
    assert (worth.hours, worth.above_at_hand) == pytest.approx((1.0, 4 * 3600))


def test_a_hot_copy_that_becomes_full_counts_as_a_copy(settings: Settings) -> None:
    made_from = problem(0)
    hot = Replica(1, "b", 1.0, date(2013, 11, 21))
    made_from = replace(made_from, layout=replace(made_from.layout, replicas=(*made_from.layout.replicas, hot)))
    kept_back(settings, "p1", made_from, MOVED)
    (worth,) = shadow_worth(settings, settings.postgres_url)
    assert (worth.copies, worth.copied_bytes) == (1, BYTES)


def test_entities_with_a_shard_of_their_own_count_with_their_slots(settings: Settings) -> None:
    made_from = problem(0)
    own = ShardLoad(8, (1.0,) * 3, (0.0,) * 3, ((0.0,),) * 3, 10, 1, parent=1)
    made_from = replace(made_from, shards=(*made_from.shards, own))
    kept_back(settings, "p1", made_from, (*MOVED, (8, "a"), (9, "a")))
    (worth,) = shadow_worth(settings, settings.postgres_url)
    assert (worth.above_planned, worth.copies, worth.copied_bytes) == (pytest.approx(2 * 3600), 3, BYTES + 10)


def test_what_a_person_rejected_is_none_of_it(settings: Settings) -> None:
    assert shadow_worth(settings, settings.postgres_url) == ()
    assert closing([]) == "No plan has been kept back; in shadow mode the next forecast makes one."
    plan = Plan("p1", "usage", 1, "digest", (), layout(2, MOVED), PlanMetrics(1.0, 0.5, 0.5, 0, 0, 0, "converged"))
    store.save_plan(settings.postgres_url, plan, codec.plan_to_document(plan), packed(problem(0)))
    store.record_approval(settings.postgres_url, "usage", "p1", "rejected", "ann")
    assert shadow_worth(settings, settings.postgres_url) == ()

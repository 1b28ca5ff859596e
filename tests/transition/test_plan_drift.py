"""A plan begins only while what it was made from holds: its moves, the epoch, the nodes and the forecasts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from staged_plans import current
from written_forecasts import write_forecast

from foreshard.errors import Refused
from foreshard.model import NodeState
from foreshard.placement import initial_layout
from foreshard.routing import database, pool, store
from foreshard.routing.snapshot import Snapshot
from foreshard.settings import Settings
from foreshard.transition import steps
from foreshard.transition.drift import drift
from foreshard.transition.store import read_plan

ORIGIN = datetime(2013, 11, 28, tzinfo=UTC)


@pytest.fixture
def planned(lake: Settings) -> tuple[Settings, str]:
    """A plan made from a forecast in which one shard is hot."""
    url = lake.postgres_url
    pool.register(url, lake)
    nodes = pool.read_nodes(url, lake.pool_id)
    snapshot = Snapshot(
        *(lake.pool_id, 1, 0, lake.slot_bits, 3600, 7, 90),
        nodes=nodes,
        replicas=initial_layout(list(range(lake.slots)), nodes, lake.policy, epoch=1).replicas,
    )
    store.publish(url, snapshot, expected_epoch=0, published_by="test", reason="test")
    write_forecast(lake, ORIGIN, {shard: 6.0 if shard == 0 else 1.0 for shard in range(lake.slots)})
    plan = steps.propose(lake)
    assert plan.moves
    return lake, plan.plan_id


def why(planned: tuple[Settings, str]) -> str:
    settings, plan_id = planned
    return drift(settings, settings.postgres_url, read_plan(settings.postgres_url, settings.pool_id, plan_id))


def test_a_plan_whose_inputs_are_the_same_has_not_drifted(planned: tuple[Settings, str]) -> None:
    assert why(planned) == ""


def test_a_node_in_another_state_is_named(planned: tuple[Settings, str]) -> None:
    settings, _ = planned
    pool.set_node_state(settings.postgres_url, settings.pool_id, "b", NodeState.DRAINING)
    assert why(planned) == "node b was active when it was made, and is draining"


@pytest.mark.parametrize(("hot", "drifted"), [(6.0, False), (7.0, False), (12.0, True)])
def test_a_forecast_may_change_within_a_bound(planned: tuple[Settings, str], hot: float, drifted: bool) -> None:
    settings, _ = planned
    later = ORIGIN + timedelta(hours=1)
    write_forecast(settings, later, {shard: hot if shard == 0 else 1.0 for shard in range(settings.slots)})
    assert bool(why(planned)) == drifted
    if drifted:
        assert why(planned) == "the forecast has changed by 46% since, more than 20%"


def test_a_forecast_of_another_time_says_nothing_of_this_plan(planned: tuple[Settings, str]) -> None:
    settings, _ = planned
    write_forecast(settings, ORIGIN + timedelta(days=2), {shard: 1.0 for shard in range(settings.slots)})
    assert why(planned) == "its forecast ends at 2013-11-28 05:00 UTC"


def test_another_epoch_and_changed_moves_are_refused_and_the_plan_has_failed(planned: tuple[Settings, str]) -> None:
    settings, plan_id = planned
    url = settings.postgres_url
    with database.transaction(url) as cursor:
        cursor.execute("UPDATE plan SET document = jsonb_set(document, '{moves,0,bytes}', '12345')")
    assert why(planned) == f"its moves are not those that the plan {plan_id} was approved with"
    snapshot = store.current(url, settings.pool_id)
    assert snapshot is not None
    other = replace(snapshot, epoch=2, parent=1)
    store.publish(url, other, expected_epoch=1, published_by="ann", reason="by hand")
    with database.transaction(url) as cursor:
        cursor.execute("UPDATE plan SET problem = NULL")
    assert why(planned) == "it was made from epoch 1, and 2 is current"
    with pytest.raises(Refused, match=f"plan {plan_id} no longer fits: it was made from epoch 1, and 2 is current; plan again"):
        steps.begin(settings, plan_id, "test")
    assert read_plan(url, settings.pool_id, plan_id).state == "failed"
    assert current(settings).epoch == 2


def test_the_plan_that_is_carried_out_is_the_one_to_go_on_with(planned: tuple[Settings, str]) -> None:
    settings, plan_id = planned
    steps.begin(settings, plan_id, "test")
    write_forecast(settings, ORIGIN + timedelta(hours=1), {shard: 9.0 for shard in range(settings.slots)})
    again = steps.propose(settings)
    assert (again.plan_id, again.needs_approval, again.waves) == (plan_id, False, (0,))
    steps.begin(settings, plan_id, "test")


def test_a_person_is_asked_with_tables_and_until_the_first_move_must_begin(planned: tuple[Settings, str]) -> None:
    settings, _ = planned
    url = settings.postgres_url
    careful = replace(settings, policy=replace(settings.policy, auto_approve_moves=0))
    pool.register(url, careful)
    write_forecast(settings, ORIGIN, {shard: 7.0 if shard == 1 else 1.0 for shard in range(settings.slots)})
    asked = steps.propose(careful)
    assert asked.needs_approval
    for heading in ("Nodes: highest predicted load over capacity", "Moves by goal", "Bounds", "| before | after |", "Moves"):
        assert heading in asked.question
    assert f"`{asked.plan_id}`" in asked.question
    assert asked.expires == "" or datetime.fromisoformat(asked.expires).tzinfo is not None
    stored = steps.propose(careful, asked.plan_id)
    assert (stored.plan_id, stored.needs_approval) == (asked.plan_id, True)
    assert stored.question == asked.question

"""Plans carried out wave by wave: copied, verified, shadowed, cut over step by step, taken back or retired, on real tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from serving_tables import copied_shards, source_shard, write_source
from staged_plans import approved, current, follow_epochs, moving
from tables import version

from foreshard.errors import ForeshardError, Refused
from foreshard.model import Move, MoveKind
from foreshard.routing import database, pool
from foreshard.routing import store as epochs
from foreshard.settings import Settings
from foreshard.transition import progress, steps, store
from foreshard.transition.controller import Cycle
from foreshard.transition.decision import Act
from foreshard.transition.progress import PlanKey
from foreshard.transition.retire import holdings_of
from foreshard.transition.shadowing import ShadowReport, write_shadow
from foreshard.transition.spark_steps import verify_again, warm_up

pytestmark = pytest.mark.spark

DAY = datetime(2013, 11, 26, tzinfo=UTC)
HOT_SINCE = date(2013, 11, 28)
ENTITIES = [f"e{n}" for n in range(24)]
ROWS = [(entity, DAY + timedelta(days=d, hours=n % 5), 10 * d + n) for d in range(3) for n, entity in enumerate(ENTITIES)]


@pytest.fixture(scope="module")
def served(spark: Any, module_lake: Settings) -> Settings:
    """A pool with data whose first epoch is published."""
    settings = module_lake
    write_source(spark, settings, ROWS)
    pool.register(settings.postgres_url, settings)
    first = steps.propose_first(settings)
    assert carry_on(settings, first.plan_id).needs_spark
    warm_up(spark, settings, settings.postgres_url, first.plan_id, {})
    done = carry_on(settings, first.plan_id)
    assert done.is_over, done.decision.sentence
    assert current(settings).epoch == 1, "the first layout is published whole"
    return settings


def carry_on(settings: Settings, plan_id: str, **more: Any) -> Cycle:
    return steps.carry_on(settings, plan_id, "test", lambda _: None, **more)


def long_reversible(settings: Settings) -> Settings:
    return replace(settings, transition=replace(settings.transition, reverse_seconds=3600))


def key(plan_id: str) -> PlanKey:
    return PlanKey("usage", plan_id, "test")


def states(settings: Settings, plan_id: str) -> list[str]:
    return [m.state for m in store.read_moves(settings.postgres_url, settings.pool_id, plan_id)]


def plan_state(settings: Settings, plan_id: str) -> str:
    return store.read_plan(settings.postgres_url, settings.pool_id, plan_id).state


def seen(settings: Settings, shard: int, node: str, **figures: Any) -> None:
    """What a gateway reports of the shadow that the current epoch began."""
    report = ShadowReport(current(settings).epoch, shard, node, **figures)
    write_shadow(settings.postgres_url, settings.pool_id, "g/1", report)


def a_move(settings: Settings, shard: int, plan_id: str) -> tuple[Move, str]:
    """An approved plan that moves one replica of a shard to a node without one."""
    held = [r.node_id for r in current(settings).of_shard(shard)]
    idle = next(n.node_id for n in settings.nodes if n.node_id not in held)
    move = Move(MoveKind.MOVE, shard, held[0], idle, None, 1_000, "crowded")
    moving(settings, plan_id, (move,))
    return move, idle


def weights(settings: Settings, shard: int) -> Mapping[str, float]:
    return {r.node_id: round(r.weight, 6) for r in current(settings).of_shard(shard)}


def assert_nothing_lost(settings: Settings) -> None:
    newest = version(settings, "usage_hourly")
    for node in settings.nodes:
        held, copied = holdings_of(settings, node.node_id), copied_shards(settings, node.node_id)
        routed = {r.shard_id: r.covers_from for r in current(settings).of_node(node.node_id)}
        assert set(routed) <= set(held)
        for shard, holding in held.items():
            if holding.applied_version == newest:
                assert copied.get(shard, []) == source_shard(settings, shard, holding.covers_from), (node.node_id, shard)


def test_a_move_goes_through_every_stage(spark: Any, served: Settings) -> None:
    settings, url = served, served.postgres_url
    follow_epochs(settings)
    move, target = a_move(settings, 0, "through")
    before = weights(settings, 0)
    assert carry_on(settings, "through").needs_spark
    assert states(settings, "through") == ["planned"]
    made = warm_up(spark, settings, url, "through", {})
    assert made["rows"] == len(source_shard(settings, 0))
    assert states(settings, "through") == ["verified"]
    assert warm_up(spark, settings, url, "through", {})["rows"] == made["rows"], "a repeat copies nothing"

    done = carry_on(settings, "through")
    assert states(settings, "through") == ["shadowing"]
    assert done.decision.sentence.startswith("waits for compared answers of shard 0")
    assert weights(settings, 0) == before, "a shadow answers nobody"
    seen(settings, 0, target, compared=10)
    carry_on(settings, "through")
    assert carry_on(settings, "through").decision.sentence.startswith("waits for gateway g to follow")
    shares = [weights(settings, 0)[target]]
    for _ in range(2):
        follow_epochs(settings)
        carry_on(settings, "through")
        shares.append(weights(settings, 0)[target])
    assert [share / shares[-1] for share in shares] == pytest.approx([0.1, 0.5, 1.0])
    assert move.source not in weights(settings, 0)
    assert 0 in holdings_of(settings, move.source), "the old copy is there until it cannot be needed any more"
    assert not carry_on(settings, "through").is_over
    follow_epochs(settings)
    assert carry_on(settings, "through").is_over
    assert (plan_state(settings, "through"), states(settings, "through")) == ("done", ["done"])
    assert 0 not in holdings_of(settings, move.source)
    assert verify_again(settings, url, "through", {})["rows"] == made["rows"]
    assert_nothing_lost(settings)
    stages = [e.stage for e in store.read_events(url, settings.pool_id, "through") if e.position == 0]
    assert stages == [
        *("copying", "catching_up", "verified", "shadowing"),
        *("cutting_over", "cutting_over", "cutting_over", "reversible", "retiring", "done"),
    ]


@pytest.mark.parametrize("stage", ["planned", "verified", "shadowing", "cutting_over", "reversible"])
def test_a_rollback_leaves_the_old_layout_serving(spark: Any, served: Settings, stage: str) -> None:
    settings, url, plan_id = long_reversible(served), served.postgres_url, f"back-{stage}"
    follow_epochs(settings)
    move, target = a_move(settings, 1, plan_id)
    before = weights(settings, 1)
    if stage != "planned":
        carry_on(settings, plan_id)
        warm_up(spark, settings, url, plan_id, {})
    if stage in ("shadowing", "cutting_over", "reversible"):
        carry_on(settings, plan_id)
    if stage in ("cutting_over", "reversible"):
        seen(settings, 1, target, compared=10)
        carry_on(settings, plan_id)
    if stage == "reversible":
        for _ in range(3):
            follow_epochs(settings)
            carry_on(settings, plan_id)
    assert states(settings, plan_id) == [stage]
    progress.request_rollback(url, key(plan_id), "changed my mind")
    assert carry_on(settings, plan_id).is_over
    assert (plan_state(settings, plan_id), states(settings, plan_id)) == ("rolled_back", ["rolled_back"])
    assert weights(settings, 1) == before
    assert not epochs.current(url, settings.pool_id).shadows  # type: ignore[union-attr]
    assert 1 in holdings_of(settings, move.source)
    assert_nothing_lost(settings)


@pytest.mark.parametrize(
    ("figures", "why"),
    [
        ({"compared": 9, "mismatched": 1, "example": "entity e1"}, "answered 1 of 9 queries otherwise"),
        ({"compared": 5, "failed": 3}, "failed to answer 3 of 8 queries"),
    ],
)
def test_a_shadow_that_does_not_hold_up_is_rolled_back_and_says_why(
    spark: Any, served: Settings, figures: Mapping[str, Any], why: str
) -> None:
    settings, plan_id = served, f"shadow-{len(figures)}"
    follow_epochs(settings)
    _, target = a_move(settings, 2, plan_id)
    carry_on(settings, plan_id)
    warm_up(spark, settings, settings.postgres_url, plan_id, {})
    carry_on(settings, plan_id)
    before = weights(settings, 2)
    seen(settings, 2, target, **figures)
    assert carry_on(settings, plan_id).is_over
    assert plan_state(settings, plan_id) == "rolled_back"
    assert why in store.read_moves(settings.postgres_url, settings.pool_id, plan_id)[0].detail
    assert weights(settings, 2) == before


def test_what_is_paused_waits_and_goes_on(spark: Any, served: Settings) -> None:
    settings, url = served, served.postgres_url
    follow_epochs(settings)
    a_move(settings, 3, "paused")
    carry_on(settings, "paused")
    progress.pause(url, key("paused"))
    assert "resume paused" in carry_on(settings, "paused").decision.sentence
    assert warm_up(spark, replace(settings), url, "paused", {})["rows"] == 0
    progress.resume(url, key("paused"))
    assert warm_up(spark, settings, url, "paused", {})["rows"] == len(source_shard(settings, 3))
    progress.request_rollback(url, key("paused"), "enough")
    assert carry_on(settings, "paused").is_over


def test_a_source_that_is_restated_in_the_middle_is_caught_up_with_and_verified_again(spark: Any, served: Settings) -> None:
    settings, url = replace(served, transition=replace(served.transition, catch_up_versions=0)), served.postgres_url
    follow_epochs(settings)
    _, target = a_move(settings, 4, "restated")
    carry_on(settings, "restated")
    warm_up(spark, settings, url, "restated", {})
    write_source(spark, settings, [(e, hour, q + 500) for e, hour, q in ROWS if hour.day == 27])
    done = carry_on(settings, "restated")
    assert (states(settings, "restated"), done.decision.act) == (["catching_up"], Act.CATCH_UP)
    warm_up(spark, settings, url, "restated", {})
    assert copied_shards(settings, target)[4] == source_shard(settings, 4)
    assert holdings_of(settings, target)[4].applied_version == version(settings, "usage_hourly")
    progress.request_rollback(url, key("restated"), "enough")
    assert carry_on(settings, "restated").is_over


def test_another_plan_waits_and_another_epoch_ends_the_plan(spark: Any, served: Settings) -> None:
    settings, url = served, served.postgres_url
    follow_epochs(settings)
    a_move(settings, 5, "first")
    approved(settings, "second", (), current(settings), current(settings).epoch)
    carry_on(settings, "first")
    with pytest.raises(Refused, match="another plan of pool usage is being carried out"):
        carry_on(settings, "second")
    snapshot = epochs.current(url, settings.pool_id)
    assert snapshot is not None
    other = replace(snapshot, epoch=snapshot.epoch + 1, parent=snapshot.epoch)
    epochs.publish(url, other, expected_epoch=snapshot.epoch, published_by="ann", reason="by hand")
    assert carry_on(settings, "first").is_over
    assert plan_state(settings, "first") == "rolled_back"
    with pytest.raises(Refused, match=r"plan second no longer fits: it was made from epoch"):
        carry_on(settings, "second")
    assert plan_state(settings, "second") == "failed"


def test_a_copy_that_cannot_be_made_is_given_up_and_taken_back(spark: Any, served: Settings) -> None:
    settings, url = served, served.postgres_url
    follow_epochs(settings)
    moving(settings, "unknown", (Move(MoveKind.REPLICATE, 99, "", "a", None, 1, "no such shard"),))
    carry_on(settings, "unknown")
    with pytest.raises(ForeshardError, match="shard 99 is no slot"):
        warm_up(spark, settings, url, "unknown", {})
    assert carry_on(settings, "unknown").is_over
    assert plan_state(settings, "unknown") == "rolled_back"
    assert "failed 2 times: shard 99" in store.read_moves(url, settings.pool_id, "unknown")[0].detail
    with database.transaction(url) as cursor:
        cursor.execute("SELECT count(*) AS pins FROM version_pin")
        assert cursor.fetchall() == [{"pins": 0}]


def test_a_drop_is_shifted_away_first_and_needs_no_copy(served: Settings) -> None:
    settings = served
    follow_epochs(settings)
    pool.register(settings.postgres_url, replace(settings, policy=replace(settings.policy, min_full_replicas=1)))
    shard = 6
    victim = current(settings).of_shard(shard)[0].node_id
    moving(settings, "drop", (Move(MoveKind.DROP, shard, victim, "", None, 0, "cold"),))
    for _ in range(3):
        assert not carry_on(settings, "drop").is_over
        assert shard in holdings_of(settings, victim)
        follow_epochs(settings)
    assert carry_on(settings, "drop").is_over
    assert shard not in holdings_of(settings, victim)
    assert_nothing_lost(settings)

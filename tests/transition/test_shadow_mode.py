"""In shadow mode no plan begins, but for the first layout; what ran before goes on, and what gateways go by stays."""

from __future__ import annotations

import pytest
from first_epoch import publish_first_epoch

from foreshard.errors import ForeshardError, Refused
from foreshard.model import Move, MoveKind, Plan, PlanMetrics
from foreshard.routing import corrections, pool
from foreshard.routing import database as control_plane
from foreshard.routing import store as epochs
from foreshard.routing.snapshot import Snapshot
from foreshard.settings import Settings
from foreshard.transition import lease as leases
from foreshard.transition import progress, shadow_mode, store
from foreshard.transition.progress import PlanKey

KEY = PlanKey("usage", "p1", "job")


@pytest.fixture
def url(published: str, snapshot: Snapshot) -> str:
    """A stored, approved plan over epoch 1."""
    moves = (Move(MoveKind.REPLICATE, 0, "", "c", None, 10, "hot"),)
    metrics = PlanMetrics(0.9, 0.7, 0.6, 10, 10, 1, "optimum")
    store.save_plan(published, Plan("p1", "usage", 1, "digest", moves, snapshot.layout, metrics, summary="one move"), {})
    store.record_approval(published, "usage", "p1", "approved", "ann")
    return published


def start(url: str) -> str:
    """Begins p1; the state that it is in afterwards."""
    with leases.held(url, "usage/transition", "test", 60) as lease:
        progress.start(url, lease, KEY)
    return store.read_plan(url, "usage", "p1").state


def test_it_begins_once_and_ends(registered: str) -> None:
    assert pool.read_pool(registered, "usage").shadow_mode == ""
    first = pool.set_shadow(registered, "usage", "ann")
    assert (first.shadow_by, first.shadow_since is None) == ("ann", False)
    assert pool.set_shadow(registered, "usage", "bob") == first == pool.read_pool(registered, "usage")
    assert first.shadow_mode == f"pool usage has been in shadow mode since {first.shadow_since:%F %H:%M} UTC"
    for _ in range(2):
        ended = pool.set_shadow(registered, "usage", None)
        assert (ended.shadow_since, ended.shadow_by, ended.shadow_mode) == (None, "", "")
    with pytest.raises(ForeshardError, match="pool other is not registered; run `foreshard init`"):
        pool.set_shadow(registered, "other", "ann")


def test_it_outlives_a_registration_and_a_publication(registered: str, pool_settings: Settings, snapshot: Snapshot) -> None:
    first = pool.set_shadow(registered, "usage", "ann")
    assert pool.register(registered, pool_settings) == first
    epochs.publish(registered, snapshot, expected_epoch=0, published_by="test", reason="first layout")
    assert pool.read_pool(registered, "usage").shadow_since == first.shadow_since


def test_no_plan_begins_until_it_ends(url: str) -> None:
    pool.set_shadow(url, "usage", "ann")
    said = r"pool usage has been in shadow mode since .* UTC: plan p1 is recorded and not carried out; `foreshard shadow end`"
    with pytest.raises(Refused, match=said):
        start(url)
    assert store.read_plan(url, "usage", "p1").state == "approved"
    pool.set_shadow(url, "usage", None)
    assert start(url) == "running"


def test_a_plan_that_runs_goes_on_and_one_that_failed_is_not_taken_up_again(url: str) -> None:
    start(url)
    pool.set_shadow(url, "usage", "ann")
    assert shadow_mode.held_back(url, "usage", "p1") == ""
    assert not shadow_mode.set_aside(url, "usage", "p1")
    assert start(url) == "running"
    with leases.held(url, "usage/transition", "test", 60) as lease:
        progress.finish(url, lease, KEY, "failed", "for a test")
    with pytest.raises(Refused, match="in shadow mode"):
        start(url)
    assert not shadow_mode.set_aside(url, "usage", "p1"), "it stays failed"


def test_the_first_layout_is_published(lake: Settings) -> None:
    url = lake.postgres_url
    pool.register(url, lake)
    pool.set_shadow(url, lake.pool_id, "ann")
    publish_first_epoch(lake)
    assert pool.read_pool(url, lake.pool_id).current_epoch == 1


def test_what_is_set_aside_says_so_in_its_history_once(url: str) -> None:
    assert not shadow_mode.set_aside(url, "usage", "p1"), "the pool is not in shadow mode"
    pool.set_shadow(url, "usage", "ann")
    assert shadow_mode.set_aside(url, "usage", "p1")
    assert not shadow_mode.set_aside(url, "usage", "p1")
    events = [e for e in store.read_events(url, "usage", "p1") if e.stage == "rejected"]
    assert [(e.actor, e.position) for e in events] == [(shadow_mode.ACTOR, None)]
    assert "shadow mode since" in events[0].detail


def test_gateways_corrections_stay_as_they_are(published: str) -> None:
    corrections.write_learnt(published, "usage", {"a": 1.5})
    pool.set_shadow(published, "usage", "ann")
    before = corrections.factors_now(published, "usage")
    assert corrections.write_corrections(published, "usage", {"a": 3.0, "b": 3.0}, 0) == []
    assert corrections.write_learnt(published, "usage", {"a": 3.0, "b": 3.0}) == []
    assert corrections.factors_now(published, "usage") == before == (("a", 1.5),)
    pool.set_shadow(published, "usage", None)
    assert corrections.write_learnt(published, "usage", {"b": 3.0}) == ["b"]


def role_login(url: str, role: str) -> str:
    with control_plane.transaction(url) as cursor:
        cursor.execute(f"CREATE USER shadow_{role} IN ROLE foreshard_{role}")
    return url.replace("postgres@", f"shadow_{role}@")


def may_begin(url: str, role: str) -> bool:
    """Whether the role may begin shadow mode."""
    try:
        pool.set_shadow(role_login(url, role), "usage", role)
    except Refused:
        return False
    return True


def test_planners_begin_and_end_it_and_publishers_see_it(url: str) -> None:
    roles = ("planner", "publisher", "gateway", "node", "reader")
    assert [role for role in roles if may_begin(url, role)] == ["planner"]
    with pytest.raises(Refused, match="in shadow mode"):
        start(url.replace("postgres@", "shadow_publisher@"))
    pool.set_shadow(url, "usage", None)
    assert start(url.replace("postgres@", "shadow_publisher@")) == "running"

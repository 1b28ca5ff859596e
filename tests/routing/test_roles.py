"""Each role does its own job through the library, and is refused the others', in a real Postgres connected to as the role."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from foreshard import resources
from foreshard.errors import Refused
from foreshard.gateway import shadow_tally
from foreshard.local.postgres import EmbeddedPostgres
from foreshard.model import Layout, Move, MoveKind, NodeState, Plan, PlanMetrics
from foreshard.nodes import watch
from foreshard.routing import database as control_plane
from foreshard.routing import pool, store
from foreshard.routing.snapshot import Snapshot
from foreshard.routing.subscription import Subscription
from foreshard.settings import Settings
from foreshard.transition import entity_shards, negotiation, throttle
from foreshard.transition import lease as leases
from foreshard.transition import store as transitions
from foreshard.transition.store import ReplicaRecord

ROLES = ("planner", "publisher", "gateway", "node", "reader")
_numbers = itertools.count()


@pytest.fixture
def login(published: str) -> Callable[[str], str]:
    """Role → the URL of a new user that has this role and nothing else."""

    def made(role: str) -> str:
        user = f"{role}_{next(_numbers)}"
        with control_plane.transaction(published) as cursor:
            cursor.execute(f"CREATE USER {user} IN ROLE foreshard_{role}")
        return published.replace("postgres@", f"{user}@")

    return made


def plan_of(snapshot: Snapshot, plan_id: str = "p1") -> Plan:
    moves = (Move(MoveKind.REPLICATE, 0, "a", "c", None, 1, "because"),)
    layout = Layout(2, snapshot.replicas)
    return Plan(plan_id, "usage", 1, "digest", moves, layout, PlanMetrics(0.0, 0.0, 0.0, 0, 0, 1, "converged"), summary="s")


def save_plan(url: str, snapshot: Snapshot) -> None:
    transitions.save_plan(url, plan_of(snapshot), {})


def publish(url: str, snapshot: Snapshot) -> None:
    new = replace(snapshot, epoch=2, parent=1)
    store.publish(url, new, expected_epoch=1, published_by="test", reason="because")


def do_planners_work(url: str, snapshot: Snapshot) -> None:
    watch.watch_once(Settings(slot_bits=2), url)
    save_plan(url, snapshot)
    transitions.record_approval(url, "usage", "p1", "approved", "a person")
    assert entity_shards.reserve(url, "usage", {}, ["hot"]) == {"hot": 4}
    with leases.held(url, "usage/aggregate", "planner", 30):
        transitions.pin_version(url, "usage", "usage_hourly", 1, "p1")
        transitions.unpin(url, "usage", "usage_hourly", "p1")
    transitions.record_landed_file(url, "usage", "f", datetime.now(UTC))
    transitions.mark_files_applied(url, "usage", ["f"], 1)
    pool.set_desired_nodes(url, "usage", 3)
    pool.set_node_state(url, "usage", "b", NodeState.DRAINING)
    store.current(url, "usage")
    transitions.read_replicas(url, "usage")


def do_publishers_work(url: str, snapshot: Snapshot) -> None:
    with leases.held(url, "usage/controller", "publisher", 30) as lease:
        rows = [ReplicaRecord(r.shard_id, r.node_id, "verified", None, 7, 7) for r in snapshot.replicas]
        transitions.upsert_replicas(url, "usage", rows)
        new = replace(snapshot, epoch=2, parent=1, isolated=(("hot", 4),))
        store.publish(url, new, expected_epoch=1, published_by="publisher", reason="because", lease=lease)
    throttle.set_rate(url, "usage", 1e6)
    assert throttle.reserve(url, "usage", 10) == 0
    assert store.rollback(url, "usage", 1, "publisher") == 3
    assert store.unacknowledged(url, "usage", 2) == []


def do_gateways_work(url: str, snapshot: Snapshot) -> None:
    store.register_gateway(url, "usage", "g", 30)
    store.register_gateway(url, "usage", "g", 30)
    assert store.current(url, "usage") == snapshot
    assert pool.read_pool(url, "usage").current_epoch == 1
    control_plane.query(url, "observe_nodes", {"pool_id": "usage"})
    store.acknowledge(url, "usage", "g", 1)
    transitions.record_landed_file(url, "usage", "file", datetime.now(UTC))
    assert transitions.applied_version_of(url, "usage", "file") is None
    tally = shadow_tally.ShadowTally("usage", "g", lambda _: True)
    tally.answered((1, 0, "a"), 1.0, 2.0, True, "")
    tally.write(url)
    with Subscription(url, "usage") as subscription:
        assert subscription.wait(10) == 1


def do_nodes_work(url: str, snapshot: Snapshot) -> None:
    pool.set_node_url(url, "usage", "a", "http://a:2")
    for _ in range(2):
        store.write_heartbeat(url, "usage", "a", 1.0, {0: 7}, incarnation="x")
    assert pool.read_pool(url, "usage").current_epoch == 1
    assert [t.role for t in negotiation.open_transfers(url, "usage", "c")] == ["target"]
    for transfer in negotiation.open_transfers(url, "usage", "c"):
        for accepted in (True, False):
            negotiation.answer(url, "usage", transfer, accepted, "")


def do_readers_work(url: str, snapshot: Snapshot) -> None:
    with control_plane.transaction(url) as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = current_schema() ORDER BY 1")
        tables = [row["tablename"] for row in cursor.fetchall()]
        for table in tables:
            cursor.execute(f"SELECT * FROM {table} LIMIT 1")
    assert store.history(url, "usage")[0].epoch == 1


WORK = {
    "planner": do_planners_work,
    "publisher": do_publishers_work,
    "gateway": do_gateways_work,
    "node": do_nodes_work,
    "reader": do_readers_work,
}


@pytest.mark.parametrize("role", ROLES)
def test_a_role_does_its_own_job(published: str, login: Callable[[str], str], snapshot: Snapshot, role: str) -> None:
    if role == "node":  # a plan that is carried out, for the node to answer to
        save_plan(published, snapshot)
        for state in ("approved", "running"):
            transitions.set_plan_state(published, "usage", "p1", state, "test")
    WORK[role](login(role), snapshot)


def change_slots(url: str) -> None:
    with control_plane.transaction(url) as cursor:
        cursor.execute("UPDATE pool SET slot_bits = 3")


def approve(url: str) -> None:
    transitions.record_approval(url, "usage", "p0", "approved", "me")


def say_what_is_held(url: str) -> None:
    transitions.upsert_replicas(url, "usage", [ReplicaRecord(0, "a", "verified", None, 1, 1)])


def land_a_file(url: str) -> None:
    transitions.record_landed_file(url, "usage", "file", datetime.now(UTC))


# What is done, and by which roles alone.
ALONE: dict[str, tuple[set[str], Callable[[str, Snapshot], object]]] = {
    "publish": ({"publisher"}, publish),
    "store a plan": ({"planner"}, save_plan),
    "approve a plan": ({"planner"}, lambda url, _: approve(url)),
    "say what nodes hold": ({"publisher"}, lambda url, _: say_what_is_held(url)),
    "register a gateway": ({"gateway"}, lambda url, _: store.register_gateway(url, "usage", "g", 30)),
    "acknowledge": ({"gateway"}, lambda url, _: store.acknowledge(url, "usage", "g0", 1)),
    "send a heartbeat": ({"node"}, lambda url, _: store.write_heartbeat(url, "usage", "a", 1.0, {})),
    "land a file": ({"gateway", "planner"}, lambda url, _: land_a_file(url)),
    "declare a node dead": (
        {"planner", "publisher"},
        lambda url, _: pool.set_node_state(url, "usage", "a", NodeState.DEAD),
    ),
    "take a lease": ({"planner", "publisher"}, lambda url, _: leases.acquire(url, "usage/controller", "me", 1)),
    "change the slots": (set(), lambda url, _: change_slots(url)),
    "migrate": (set(), lambda url, _: control_plane.migrate(url)),
}


@pytest.mark.parametrize("what", ALONE)
def test_what_is_another_roles_job_is_refused(
    published: str, login: Callable[[str], str], snapshot: Snapshot, what: str
) -> None:
    transitions.save_plan(published, plan_of(snapshot, "p0"), {})
    store.register_gateway(published, "usage", "g0", 30)
    allowed, do = ALONE[what]
    for role in ROLES:
        if role not in allowed:
            with pytest.raises(Refused, match=rf"^user {role}_\d+ may not do this in Postgres at [^\n]*routing-store.md$"):
                do(login(role), snapshot)
    assert pool.read_pool(published, "usage").current_epoch == 1
    assert transitions.read_plan(published, "usage", "p0").state == "proposed"


def test_every_table_is_someones_to_read(database: str) -> None:
    """A migration that adds a table says in role_right who may use it."""
    with control_plane.transaction(database) as cursor:
        cursor.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
            " EXCEPT SELECT table_name FROM role_right WHERE role_name = 'foreshard_reader' AND rights = 'SELECT'"
        )
        assert cursor.fetchall() == []


def test_a_user_that_may_not_create_roles_migrates_and_is_told_which_are_missing(postgres: EmbeddedPostgres) -> None:
    """As on a managed Postgres. An administrator creates the roles; the next `foreshard init` grants what they may do."""
    owner = f"owner_{next(_numbers)}"
    url = postgres.create_database(owner)
    with control_plane.transaction(url) as cursor:
        # The server's roles are shared by all tests: here a role of another name is missing.
        cursor.execute(f"CREATE USER {owner}; ALTER DATABASE {owner} OWNER TO {owner}")
    mine = url.replace("postgres@", f"{owner}@")
    assert control_plane.migrate(mine) == resources.names("sql/migrations", ".sql")
    missing = f"foreshard_{owner}"
    with control_plane.transaction(mine) as cursor:
        cursor.execute("INSERT INTO role_right VALUES (%s, 'pool', 'SELECT')", (missing,))
    assert control_plane.missing_roles(mine) == [missing]
    assert control_plane.migrate(mine) == [], "and it does not fail for that"
    with control_plane.transaction(url) as cursor:
        cursor.execute(f"CREATE ROLE {missing} NOLOGIN")
    assert control_plane.missing_roles(mine) == []
    with control_plane.transaction(url) as cursor:
        cursor.execute("SELECT has_table_privilege(%s, 'pool', 'SELECT') AS may", (missing,))
        assert cursor.fetchone() == {"may": True}

"""Which nodes are dead: those that neither beat nor answer. Which are overloaded: those that say so for long enough."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import pytest

from foreshard.local.processes import wait_until
from foreshard.model import NodeState
from foreshard.nodes.lifecycle import add_node
from foreshard.nodes.provisioner import provisioner_of
from foreshard.nodes.repair import propose_repair
from foreshard.nodes.watch import lasting_overloads, watch_once
from foreshard.routing import pool, store
from foreshard.settings import Settings
from foreshard.transition import store as transitions

Earlier = Callable[[str, str, float], None]


def state_of(settings: Settings, node_id: str) -> NodeState:
    return next(n.state for n in pool.read_nodes(settings.postgres_url, settings.pool_id) if n.node_id == node_id)


def beat(settings: Settings, *node_ids: str, load: float = 1.0) -> None:
    for node_id in node_ids:
        store.write_heartbeat(settings.postgres_url, settings.pool_id, node_id, load, {})


@pytest.fixture
def health() -> Iterator[Callable[[str], str]]:
    """Node → the address of a server that answers /healthz for it."""
    servers: list[HTTPServer] = []

    def serve(node_id: str) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                text = json.dumps({"node_id": node_id}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None:
                return

        server = HTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_node_that_stopped_beating_is_dead_joins_when_it_beats_again_and_then_is_active(
    watched: Settings, earlier: Earlier
) -> None:
    url = watched.postgres_url
    beat(watched, "a", "b", "c")
    assert watch_once(watched, url) == []
    earlier("heartbeat.at", "c", 60)
    wait_until(lambda: postgres_seconds(url) > 5, 30, "Postgres to have run for longer than dead_seconds")
    (said,) = watch_once(watched, url)
    assert said.startswith("node c is dead: no heartbeat for ")
    assert state_of(watched, "c") is NodeState.DEAD
    assert watch_once(watched, url) == [], "it is said once"
    beat(watched, "c")
    assert watch_once(watched, url) == ["node c sends heartbeats again, and joins"]
    assert state_of(watched, "c") is NodeState.JOINING
    assert watch_once(watched, url) == ["node c is ready, and active from now on"]
    assert state_of(watched, "c") is NodeState.ACTIVE


def postgres_seconds(url: str) -> float:
    from foreshard.routing import database as control_plane

    return float(control_plane.query(url, "read_server_age")[0]["seconds"])


def test_a_node_that_never_beat_is_nobodys_to_declare_dead(watched: Settings) -> None:
    assert watch_once(watched, watched.postgres_url) == []
    assert {n.state for n in pool.read_nodes(watched.postgres_url, "usage")} == {NodeState.ACTIVE}


def test_a_silent_node_that_answers_stays_and_one_whose_address_another_took_does_not(
    watched: Settings, earlier: Earlier, health: Callable[[str], str]
) -> None:
    url = watched.postgres_url
    beat(watched, "a", "b", "c")
    pool.set_node_url(url, "usage", "b", health("b"))
    pool.set_node_url(url, "usage", "c", health("somebody-else"))
    for name in ("b", "c"):
        earlier("heartbeat.at", name, 60)
    wait_until(lambda: postgres_seconds(url) > 5, 30, "Postgres to have run for longer than dead_seconds")
    first, second = watch_once(watched, url)
    assert "node b has sent no heartbeat" in first
    assert "but answers" in first
    assert second.startswith("node c is dead")
    assert (state_of(watched, "b"), state_of(watched, "c")) == (NodeState.ACTIVE, NodeState.DEAD)


def test_when_nobody_can_be_reached_nobody_is_marked_dead(watched: Settings, earlier: Earlier) -> None:
    url = watched.postgres_url
    beat(watched, "a", "b", "c")
    for name in ("a", "b", "c"):
        earlier("heartbeat.at", name, 60)
    wait_until(lambda: postgres_seconds(url) > 5, 30, "Postgres to have run for longer than dead_seconds")
    assert watch_once(watched, url) == [
        "no node can be reached (a, b, c): none is marked dead, as nothing could take over from them"
    ]
    assert {n.state for n in pool.read_nodes(url, "usage")} == {NodeState.ACTIVE}


def test_an_overload_is_reported_once_it_has_lasted_and_begins_anew_after_a_pause(watched: Settings, earlier: Earlier) -> None:
    url = watched.postgres_url
    beat(watched, "a", load=12)
    assert watch_once(watched, url) == []
    earlier("node_overload.since", "a", 290)
    assert watch_once(watched, url) == []
    earlier("node_overload.since", "a", 20)
    assert watch_once(watched, url) == ["node a carries 12.0 and can carry 10.0, for 5 minutes now"]
    assert [o.node_id for o in lasting_overloads(watched, url)] == ["a"]
    beat(watched, "a", load=9)
    assert watch_once(watched, url) == []
    beat(watched, "a", load=12)
    assert watch_once(watched, url) == [], "the pause counts"
    assert lasting_overloads(watched, url) == []


def test_an_overload_that_nobody_looked_at_meanwhile_does_not_count_as_lasting(watched: Settings, earlier: Earlier) -> None:
    url = watched.postgres_url
    beat(watched, "a", load=12)
    watch_once(watched, url)
    for column in ("node_overload.since", "node_overload.seen_at"):
        earlier(column, "a", 3600)
    assert watch_once(watched, url) == []


def comes_to_be(settings: Settings, node_id: str, state: NodeState) -> bool:
    watch_once(settings, settings.postgres_url)
    return state_of(settings, node_id) is state


@pytest.mark.live
def test_a_killed_pipeline_is_found_dead_repaired_around_started_again_and_active(watched: Settings, tmp_path: Path) -> None:
    url, nodes = watched.postgres_url, provisioner_of(watched)
    log = watched.home / "nodes" / "c" / "log"
    try:
        add_node(watched, url, "c", 20)
        wait_until(lambda: "c" in store.read_heartbeats(url, "usage"), 60, "the first heartbeat of c", log_path=log)
        pid = int(json.loads((watched.home / "nodes" / "c" / "process.json").read_text("utf-8"))["pid"])
        assert watch_once(watched, url) == []
        assert propose_repair(watched, url).sentence == ""

        psutil.Process(pid).kill()
        wait_until(lambda: comes_to_be(watched, "c", NodeState.DEAD), 60, "c to be found dead", log_path=log)
        repair = propose_repair(watched, url)
        record = transitions.read_plan(url, "usage", repair.plan_id)
        assert record.state == "approved"
        assert "c" not in {r["node_id"] for r in record.document["layout"]["replicas"]}
        assert nodes.observe() == {"c": "stopped"}

        add_node(watched, url, "c", 20)
        assert state_of(watched, "c") is NodeState.JOINING
        wait_until(lambda: comes_to_be(watched, "c", NodeState.ACTIVE), 60, "c to beat again", log_path=log)
        assert nodes.observe() == {"c": "running"}
    finally:
        nodes.remove_node("c", "")

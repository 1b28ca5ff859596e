"""The live safety net: which nodes are dead, which are back, and which have carried too much for too long.

A heartbeat that stays away is not enough: the node is asked as well, so that nobody is declared dead because Postgres, or the
way to it, was. Each change of a state is one compare-and-set, so that two watchers at once do no harm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx

from foreshard.model import Node, NodeState
from foreshard.nodes.correcting import correct_nodes
from foreshard.nodes.desired import refresh_desired
from foreshard.routing import database, pool
from foreshard.routing import store as routing_store
from foreshard.routing.store import Heartbeat
from foreshard.settings import Settings

_ASK_SECONDS = 3.0
_ASKED_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Overload:
    """A node that has carried more than its capacity for `seconds`; loads in weighted requests per second."""

    node_id: str
    load: float
    capacity: float
    seconds: float


def watch_once(settings: Settings, url: str) -> list[str]:
    """Looks at every node once and brings its state up to what is seen; one sentence for each thing that is worth saying."""
    nodes = pool.read_nodes(url, settings.pool_id)
    beats = routing_store.read_heartbeats(url, settings.pool_id)
    silence = _silence(url, beats)
    said = _mark_dead(settings, url, nodes, beats, silence)
    said += _take_back(settings, url, nodes, beats, silence)
    _note_overloads(settings, url, nodes, beats, silence)
    correct_nodes(settings, url, datetime.now(UTC))
    said += [
        f"node {o.node_id} carries {o.load:.1f} and can carry {o.capacity:.1f}, for {o.seconds / 60:.0f} minutes now"
        for o in lasting_overloads(settings, url)
    ]
    desired = refresh_desired(settings, url)
    return said + ([desired] if desired else [])


def lasting_overloads(settings: Settings, url: str) -> list[Overload]:
    """The nodes that the last looks found overloaded for watch.overload_minutes, by name."""
    nodes = {n.node_id: n for n in pool.read_nodes(url, settings.pool_id)}
    beats = routing_store.read_heartbeats(url, settings.pool_id)
    found = []
    for row in database.query(url, "read_node_overloads", {"pool_id": settings.pool_id}):
        beat, node = beats.get(row["node_id"]), nodes[row["node_id"]]
        if beat is not None and row["seconds"] >= 60 * settings.watch.overload_minutes:
            found.append(Overload(node.node_id, beat.load, _capacity(node, beat), row["seconds"]))
    return found


def answers(node: Node) -> bool:
    """Whether the node itself, and not another process at its address, answers over HTTP."""
    if not node.url:
        return False
    try:
        response = httpx.get(f"{node.url.rstrip('/')}/healthz", timeout=_ASK_SECONDS, trust_env=False)
        return bool(response.is_success and response.json().get("node_id") == node.node_id)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, AttributeError):
        return False


def _silence(url: str, beats: Mapping[str, Heartbeat]) -> dict[str, float]:
    """Node → seconds without a heartbeat, while Postgres was there to take one."""
    (server,) = database.query(url, "read_server_age")
    return {name: min(beat.age_seconds, server["seconds"]) for name, beat in beats.items()}


def _mark_dead(
    settings: Settings, url: str, nodes: Sequence[Node], beats: Mapping[str, Heartbeat], silence: Mapping[str, float]
) -> list[str]:
    live = [n for n in nodes if n.is_live]
    silent = [n for n in live if silence.get(n.node_id, 0.0) > settings.watch.dead_seconds]
    if not silent:
        return []
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as threads:
        still = dict(zip((n.node_id for n in silent), threads.map(answers, silent), strict=True))
    said = [
        f"node {name} has sent no heartbeat for {silence[name]:.0f} s, but answers: it stays, look at its way to Postgres"
        for name, does in still.items()
        if does
    ]
    lost = [n for n in silent if not still[n.node_id]]
    if lost and len(lost) == len(live):
        names = ", ".join(n.node_id for n in lost)
        return [*said, f"no node can be reached ({names}): none is marked dead, as nothing could take over from them"]
    for node in lost:
        changed = {"before": node.state.value, "after": NodeState.DEAD.value, "unless_beaten": True}
        if _change(settings, url, node, beats[node.node_id], changed):
            said.append(f"node {node.node_id} is dead: no heartbeat for {silence[node.node_id]:.0f} s, and no answer")
    return said


def _take_back(
    settings: Settings, url: str, nodes: Sequence[Node], beats: Mapping[str, Heartbeat], silence: Mapping[str, float]
) -> list[str]:
    """A dead node that beats joins; one that joins is active once it beats: it does so only when it can answer."""
    said = []
    steps = {
        NodeState.DEAD: (NodeState.JOINING, "sends heartbeats again, and joins"),
        NodeState.JOINING: (NodeState.ACTIVE, "is ready, and active from now on"),
    }
    for node in nodes:
        beat = beats.get(node.node_id)
        # By the clock alone: a heartbeat from before a restart of Postgres is old in any case.
        if beat is None or node.state not in steps or beat.age_seconds > settings.watch.dead_seconds:
            continue
        after, words = steps[node.state]
        if _change(settings, url, node, beat, {"before": node.state.value, "after": after.value, "unless_beaten": False}):
            said.append(f"node {node.node_id} {words}")
    return said


def _change(settings: Settings, url: str, node: Node, beat: Heartbeat, change: Mapping[str, object]) -> bool:
    key = {"pool_id": settings.pool_id, "node_id": node.node_id, "seen_at": beat.at}
    return bool(database.query(url, "change_node_state", {**key, **change}))


def _note_overloads(
    settings: Settings, url: str, nodes: Sequence[Node], beats: Mapping[str, Heartbeat], silence: Mapping[str, float]
) -> None:
    busy = [
        n.node_id
        for n in nodes
        if n.is_live
        and silence.get(n.node_id, settings.watch.dead_seconds) < settings.watch.dead_seconds
        and beats[n.node_id].load > _capacity(n, beats[n.node_id])
    ]
    parameters = {"pool_id": settings.pool_id, "node_ids": busy, "bound_seconds": 60 * settings.watch.overload_minutes}
    with database.transaction(url) as cursor:
        database.run(cursor, "delete_node_overloads", parameters)
        database.run(cursor, "upsert_node_overloads", parameters)


def _capacity(node: Node, beat: Heartbeat) -> float:
    return beat.capacity or node.capacity

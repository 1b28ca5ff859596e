"""From any epoch to any other: what is done ends at what is wanted, and nothing wrong can be asked on the way."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from live_haproxy import snapshot_of

from foreshard.errors import ForeshardError, Refused
from foreshard.model import NodeState, Replica
from foreshard.proxies.haproxy_changes import Changes, changes, maps_of
from foreshard.proxies.proxy_state import TO_SLOT, Key, ProxyState, Seen, Server, nothing_held, scaled, wanted
from foreshard.routing.snapshot import Snapshot

NODES = "abcd"
SLOT_BITS = 1
ENTITIES = ("hot", "hotter", "hottest")
DAYS = (None, date(2013, 11, 20), date(2013, 11, 21))


class Model:
    """HAProxy as far as the commands go; `check` is called after each of them."""

    def __init__(self, held: ProxyState) -> None:
        self.servers = dict(held.servers)
        self.checks = dict(held.checks)
        self.maps = maps_of(held)

    def state(self) -> ProxyState:
        epoch = int(self.maps["epoch"].get("epoch", "0"))
        maps = (self.maps["isolated"], self.maps["own"], self.maps["recent"])
        return ProxyState(epoch, dict(self.servers), dict(self.checks), *maps)

    def carry_out(self, held: ProxyState, then: ProxyState) -> None:
        steps = changes(held, then)
        for maps in (steps.maps_first, None, steps.maps_last):
            for command in () if maps else steps.commands if maps is None else ():
                self.run(command)
                self.check()
            for name, entries in (maps or {}).items():
                self.maps[name] = dict(entries)
                self.check()
        for key in steps.leaving:
            assert self.servers.pop(key).in_maintenance

    def run(self, command: str) -> None:
        if added := re.fullmatch(r"add server (\S+)/(\S+) (\S+):(\d+) weight (\d+)(?: track nodes/n(\d+))?", command):
            backend, name, host, port, weight, check = added.groups()
            assert (backend, name) not in self.servers
            assert check is None or self.checks[int(check)] == (host, int(port))
            self.servers[backend, name] = Server((host, int(port)), int(weight), in_maintenance=True)
            return
        backend, name, word, rest = re.fullmatch(r"set server (\S+)/(\S+) (\S+) (.+)", command).groups()  # type: ignore[union-attr]
        if backend == "nodes":
            self._set_check(int(name[1:]), word, rest)
            return
        now = self.servers[backend, name]
        if word == "weight":
            self.servers[backend, name] = replace(now, weight=int(rest))
        elif word == "state":
            self.servers[backend, name] = replace(now, in_maintenance=rest == "maint")
        else:
            host, port = rest.split(" port ")
            self.servers[backend, name] = replace(now, address=(host, int(port)))

    def _set_check(self, number: int, word: str, rest: str) -> None:
        if word == "addr":
            host, port = rest.split(" port ")
            self.checks[number] = (host, int(port))
        elif rest == "maint":
            self.checks[number] = None

    def open(self, backend: str) -> list[str]:
        """The names of a backend's servers that get queries."""
        return [name for (b, name), server in self.servers.items() if b == backend and not server.in_maintenance]

    def check(self) -> None:
        for backend, day in self.maps["recent"].items():
            beginnings = [name.split(":")[2] for name in self.open(f"{backend}-recent") if name.count(":") == 2]
            assert all(begins <= day for begins in beginnings)
        for backend in {b for b, _ in self.servers if not b.endswith("-recent")}:
            assert not [name for name in self.open(backend) if name.count(":") == 2]  # no hot replica for all time
        for backend in self.maps["isolated"].values():
            assert backend in self.maps["own"]


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    isolated = {entity: draw(st.integers(2, 6)) for entity in draw(st.sets(st.sampled_from(ENTITIES)))}
    replicas = []
    for shard in sorted({0, 1, *isolated.values()}):
        for node in draw(st.sets(st.sampled_from(NODES), min_size=1)):
            replicas.append(Replica(shard, node, draw(st.floats(0.01, 10)), draw(st.sampled_from(DAYS))))
    return snapshot_of(dict.fromkeys(NODES, "http://x"), SLOT_BITS, replicas, tuple(isolated.items()))


@st.composite
def nodes_seen(draw: st.DrawFn) -> dict[str, Seen]:
    return {
        node: Seen(("10.0.0.1", draw(st.integers(1, 6))), draw(st.sampled_from(list(NodeState))))
        for node in draw(st.sets(st.sampled_from(NODES)))
    }


@hypothesis.settings(max_examples=60, phases=[hypothesis.Phase.generate])
@given(st.lists(st.tuples(snapshots(), nodes_seen()), min_size=1, max_size=5))
def test_each_epoch_is_reached_from_the_one_before_without_a_wrong_step(epochs: list[tuple[Snapshot, dict[str, Seen]]]) -> None:
    model = Model(nothing_held(own_backends=2, checks=5))
    for number, (snapshot, seen) in enumerate(epochs, 1):
        held = model.state()
        then = wanted(replace(snapshot, epoch=number), seen, held)
        model.carry_out(held, then)
        assert model.state() == replace(then, remarks=())
        reached = {(r.shard_id, r.node_id) for r in snapshot.replicas if r.node_id in seen and seen[r.node_id].state != "dead"}
        for slot in (0, 1):
            full = {r.node_id for r in snapshot.replicas if r.shard_id == slot and r.is_full and (slot, r.node_id) in reached}
            assert {name.split(":")[0] for name in model.open(f"s{slot}")} == full
        # What a turn leaves behind frees checks and backends for the next ones; after a few nothing is left to do.
        for _ in range(6):
            held = model.state()
            model.carry_out(held, wanted(replace(snapshot, epoch=number), seen, held))
        held = model.state()
        assert changes(held, wanted(replace(snapshot, epoch=number), seen, held)) == Changes({}, (), {}, ())


def _held(servers: dict[Key, Server]) -> ProxyState:
    return replace(nothing_held(2, 5), servers={**nothing_held(2, 5).servers, **servers})


def test_a_backend_of_another_entity_is_taken_only_when_its_servers_are_gone() -> None:
    busy = {("own0", "a:1"): Server(("10.0.0.1", 1), 256, in_maintenance=True)}
    snapshot = snapshot_of({"a": ""}, SLOT_BITS, [Replica(s, "a") for s in (0, 1, 2)], (("hot", 2),))
    state = wanted(snapshot, {"a": Seen(("10.0.0.2", 2), NodeState.ACTIVE)}, _held(busy))
    assert set(state.isolated.values()) == {"own1"}
    assert state.servers["own1", TO_SLOT].weight == 1  # its slot has nobody but the node that holds its shard


def test_a_node_that_drains_keeps_the_smallest_weight_and_its_own_if_it_is_alone() -> None:
    snapshot = snapshot_of({"a": "", "b": ""}, SLOT_BITS, [Replica(0, "a", 5), Replica(0, "b", 1), Replica(1, "a", 5)])
    seen = {"a": Seen(("10.0.0.1", 1), NodeState.DRAINING), "b": Seen(("10.0.0.1", 2), NodeState.ACTIVE)}
    servers = wanted(snapshot, seen, nothing_held()).servers
    assert [servers["s0", "a:1"].weight, servers["s0", "b:2"].weight, servers["s1", "a:1"].weight] == [1, 256, 256]


def test_weights_are_shrunk_by_the_forecasts_skill_and_corrected_by_what_was_learnt() -> None:
    snapshot = snapshot_of({"a": "", "b": ""}, 0, [Replica(0, "a", 3.0), Replica(0, "b", 1.0)])
    seen = {node: Seen(("10.0.0.1", port), NodeState.ACTIVE) for port, node in enumerate("ab", 1)}

    def weights(skill: float, *corrections: tuple[str, float]) -> list[int]:
        servers = wanted(replace(snapshot, skill=skill, corrections=corrections), seen, nothing_held()).servers
        return [servers["s0", "a:1"].weight, servers["s0", "b:2"].weight]

    assert weights(1.0) == [256, 85]
    assert weights(0.5) == [256, 154]  # 5/8 and 3/8
    assert weights(0.0) == [256, 256]
    assert weights(0.0, ("a", 2.0)) == [128, 256]


def test_weights_are_kept_to_a_256th_of_the_largest() -> None:
    assert scaled([0.2, 0.1, 1e-9]) == [256, 128, 1]
    assert scaled([]) == []


def test_an_older_epoch_than_haproxys_and_a_pool_of_too_many_slots_are_refused() -> None:
    with pytest.raises(ForeshardError, match="HAProxy holds epoch 9"):
        wanted(snapshot_of({}, 1, []), {}, replace(nothing_held(), epoch=9))
    with pytest.raises(Refused, match="16384 slots"):
        wanted(snapshot_of({}, 14, []), {}, nothing_held())

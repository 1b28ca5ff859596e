"""What HAProxy should hold for one epoch: servers with weights per backend, and maps. Pure.

A slot is the backend `s17`, and `s17-recent` for queries that its hot replicas can answer too. An isolated entity has one of
the backends `own0`, `own1`, … (and `-recent`), whose server `slot` leads back to its slot's backend. A server is named
`node:check` or `node:check:day`; `check` is the number of the server in the backend `nodes` whose health it follows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

from foreshard.errors import ForeshardError, Refused
from foreshard.hashing import entity_slot
from foreshard.model import NodeState, Replica
from foreshard.routing.snapshot import Snapshot

HIGHEST_WEIGHT = 256
# More would be minutes of start and gigabytes of memory: each slot is two backends.
MOST_SLOT_BITS = 12
OWN_BACKENDS = 32
CHECKS = 128
UNCHECKED = 0
TO_SLOT = "slot"
RECENT = "-recent"

Key = tuple[str, str]  # backend, server
Address = tuple[str, int]  # IP address, port


@dataclass(frozen=True, slots=True)
class Server:
    """`weight` 1 to 256; `address` None is the way back to the slot's backend."""

    address: Address | None
    weight: int
    in_maintenance: bool = False


@dataclass(frozen=True)
class ProxyState:
    """What HAProxy holds or should hold.

    `checks`: number → what it asks, None if it is free. `isolated`: upper-case hex of an entity's UTF-8 → its own backend;
    `own_shards`: own backend → shard; `recent_from`: backend → the first day that all of `backend-recent` covers.
    """

    epoch: int
    servers: Mapping[Key, Server]
    checks: Mapping[int, Address | None]
    isolated: Mapping[str, str]
    own_shards: Mapping[str, str]
    recent_from: Mapping[str, str]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """A node as it is now: where it can be reached, None if nowhere, and its state."""

    address: Address | None
    state: NodeState


def nothing_held(own_backends: int = OWN_BACKENDS, checks: int = CHECKS) -> ProxyState:
    """The state of a configuration that no epoch was put in yet."""
    own = [f"own{number}{ending}" for number in range(own_backends) for ending in ("", RECENT)]
    servers = {(backend, TO_SLOT): Server(None, 1) for backend in own}
    return ProxyState(0, servers, {number: None for number in range(1, checks + 1)}, {}, {}, {})


def wanted(snapshot: Snapshot, seen: Mapping[str, Seen], held: ProxyState) -> ProxyState:
    """What HAProxy should hold for an epoch, with the own backends and checks that it uses already kept.

    Nodes not in `seen` cannot be reached. Raises ForeshardError if HAProxy holds a later epoch, Refused for too many slots.
    """
    if snapshot.slot_bits > MOST_SLOT_BITS:
        raise Refused(
            f"pool {snapshot.pool_id} has {1 << snapshot.slot_bits} slots; HAProxy with a backend for each is good for "
            f"{1 << MOST_SLOT_BITS}; put the reference gateway in front"
        )
    if held.epoch > snapshot.epoch:
        raise ForeshardError(
            f"HAProxy holds epoch {held.epoch}, and {snapshot.epoch} is the newest known here; is this the right database? "
            "If so, write the configuration anew by `foreshard haproxy config` and start HAProxy again"
        )
    return _Builder(snapshot, seen, held).state()


def check_of(server: str) -> int:
    """The number of the check that a server follows."""
    return int(server.split(":")[1]) if ":" in server else UNCHECKED


def scaled(weights: Iterable[float]) -> list[int]:
    """Weights as whole numbers from 1 to 256, the largest 256: within 0.2 % of the largest of what they were."""
    found = list(weights)
    top = max(found, default=0.0) or 1.0
    return [max(1, round(HIGHEST_WEIGHT * weight / top)) for weight in found]


class _Builder:
    def __init__(self, snapshot: Snapshot, seen: Mapping[str, Seen], held: ProxyState) -> None:
        self._snapshot, self._held = snapshot, held
        self._seen = {n: s for n, s in seen.items() if s.address is not None and s.state is not NodeState.DEAD}
        self._by_shard: dict[int, list[Replica]] = defaultdict(list)
        for replica in snapshot.replicas:
            if replica.node_id in self._seen:
                self._by_shard[replica.shard_id].append(replica)
        self._remarks: list[str] = []
        self._checks = dict(held.checks)
        self._check_of_node = self._placed_checks()
        self._servers: dict[Key, Server] = {}
        self._recent_from: dict[str, str] = {}

    def state(self) -> ProxyState:
        isolated, own_shards = self._placed_entities()
        for slot in range(1 << self._snapshot.slot_bits):
            self._fill(f"s{slot}", self._by_shard.get(slot, []), None)
        entities = {_hex(entity): entity for entity, _ in self._snapshot.isolated}
        for code, backend in isolated.items():
            own = self._by_shard[int(own_shards[backend])]
            slot = entity_slot(entities[code], self._snapshot.slot_bits)
            holders = {replica.node_id for replica in own}
            self._fill(backend, own, [r for r in self._by_shard.get(slot, []) if r.node_id not in holders])
        for key, server in self._held.servers.items():
            if server.address is None:  # own backends that are free keep their way back
                self._servers.setdefault(key, server)
        return ProxyState(
            self._snapshot.epoch, self._servers, self._checks, isolated, own_shards, self._recent_from, tuple(self._remarks)
        )

    def _fill(self, backend: str, replicas: list[Replica], of_slot: list[Replica] | None) -> None:
        """The backend of full replicas, and where there are hot ones that of all. `of_slot`: whom the way back leads to."""
        hot = [r.covers_from for r in replicas if r.covers_from is not None]
        full = [r for r in replicas if r.is_full]
        self._put(backend, full, None if of_slot is None else [r for r in of_slot if r.is_full])
        if hot:
            self._recent_from[backend] = max(hot).isoformat()
            self._put(backend + RECENT, replicas, of_slot)

    def _put(self, backend: str, replicas: list[Replica], of_slot: list[Replica] | None) -> None:
        staying = {r.node_id for r in replicas if self._seen[r.node_id].state is not NodeState.DRAINING}
        trusted = self._trusted([*replicas, *(of_slot or ())])
        weights = [w if r.node_id in staying or not staying else 0.0 for r, w in zip(replicas, trusted, strict=False)]
        keys = [(backend, self._name(r)) for r in replicas]
        addresses = [self._seen[r.node_id].address for r in replicas]
        if of_slot is not None:
            keys.append((backend, TO_SLOT))
            addresses.append(None)
            weights.append(sum(trusted[len(replicas) :]))
        # A node that drains keeps the smallest weight: HAProxy must have whom to turn to when the others are gone.
        for key, address, weight in zip(keys, addresses, scaled(weights), strict=True):
            self._servers[key] = Server(address, weight)

    def _trusted(self, replicas: list[Replica]) -> list[float]:
        """Weights as published, shrunk toward even as far as the forecast is not trusted, over what is known of the node."""
        skill, corrections = min(1.0, max(0.0, self._snapshot.skill)), dict(self._snapshot.corrections)
        total = sum(replica.weight for replica in replicas)
        return [
            (skill * r.weight / total + (1.0 - skill) / len(replicas)) / (corrections.get(r.node_id) or 1.0) for r in replicas
        ]

    def _name(self, replica: Replica) -> str:
        name = f"{replica.node_id}:{self._check_of_node[replica.node_id]}"
        return name + _day(replica.covers_from)

    def _placed_checks(self) -> dict[str, int]:
        """Node → number of its check; sets the numbers' addresses. A number that a server still follows is not given away."""
        in_use = {check_of(name) for _, name in self._held.servers}
        used = sorted({r.node_id for replicas in self._by_shard.values() for r in replicas})
        by_address = {address: number for number, address in self._held.checks.items() if address is not None}
        wanted_addresses = {self._seen[node].address for node in used}
        for number, address in self._held.checks.items():
            if address is not None and address not in wanted_addresses and number not in in_use:
                self._checks[number] = None
        free = [n for n in sorted(self._held.checks) if self._held.checks[n] is None and n not in in_use]
        placed: dict[str, int] = {}
        for node in used:
            address = self._seen[node].address
            assert address is not None
            if address not in by_address:
                by_address[address] = free.pop(0) if free else UNCHECKED
                if by_address[address] == UNCHECKED:
                    self._remarks.append(f"node {node} is not checked: all {len(self._held.checks)} checks are in use")
                else:
                    self._checks[by_address[address]] = address
            placed[node] = by_address[address]
        return placed

    def _placed_entities(self) -> tuple[dict[str, str], dict[str, str]]:
        """Hex of entity → own backend, own backend → shard. A backend is taken only when nothing of another is left in it."""
        with_replicas = {_hex(entity): shard for entity, shard in self._snapshot.isolated if self._by_shard.get(shard)}
        kept = {
            code: backend
            for code, backend in self._held.isolated.items()
            if code in with_replicas and self._held.own_shards.get(backend) == str(with_replicas[code])
        }
        busy = set(kept.values()) | {b.removesuffix(RECENT) for b, name in self._held.servers if name != TO_SLOT}
        own = {b.removesuffix(RECENT) for b, name in self._held.servers if name == TO_SLOT}
        free = sorted(own - busy - set(self._held.isolated.values()), key=lambda backend: int(backend.removeprefix("own")))
        waiting = sorted(code for code in with_replicas if code not in kept)
        for code, backend in zip(waiting, free, strict=False):
            kept[code] = backend
        if len(waiting) > len(free):
            self._remarks.append(
                f"{len(waiting) - len(free)} isolated entities go by their slots: all {len(own)} own backends are in use"
            )
        return kept, {backend: str(with_replicas[code]) for code, backend in kept.items()}


def _hex(entity_id: str) -> str:
    return entity_id.encode("utf-8").hex().upper()


def _day(covers_from: date | None) -> str:
    return f":{covers_from.isoformat()}" if covers_from else ""

"""The mechanics of a pool: nodes that boot, copies that take time, layouts that hold once their copies are verified.

A node sends and receives `copy_bytes_per_second` at most each, shared by its copies in the order of shards. A shard goes over
to the layout wanted when all of its copies are there and verified; until then the old replicas serve it. A node that is no
longer wanted is given back when it holds nothing. Widening a hot replica copies what it lacks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from foreshard.errors import ForeshardError
from foreshard.placement.cluster import FULL, HOT, NONE, Bools, Floats, Holdings
from foreshard.placement.loads import share_row
from foreshard.replay.policy import State, Wish
from foreshard.replay.pool import Pool

_OFF, _BOOTING, _ON = 0, 1, 2
_NOT_YET = -1


@dataclass
class _Copy:
    """One replica on its way; `ready`: the second from which it is verified."""

    source: int
    left: float
    ready: int = _NOT_YET


class Cluster:
    """The state of a pool at one second; `aim`, `settle` and `transfer` are called in this order in each step."""

    def __init__(self, pool: Pool, first: Wish) -> None:
        _check(pool, first)
        self._pool = pool
        self._node = np.where(first.nodes, _ON, _OFF)
        self._boots_at = np.zeros(pool.nodes, dtype=np.int64)
        self._wanted = Wish(first.nodes.copy(), first.held.copied())
        self._held = first.held.copied()
        self._copies: dict[tuple[int, int, int], _Copy] = {}  # by shard, target and kind
        self._shares = self._share_out()
        self.moves = 0
        self.reconfigurations = 0

    @property
    def running(self) -> Bools:
        """Nodes that have booted and are not given back, shape (N,)."""
        on: Bools = self._node == _ON
        return on

    @property
    def paid(self) -> int:
        """How many nodes run or boot."""
        return int((self._node != _OFF).sum())

    @property
    def quiet(self) -> bool:
        """Nothing boots or is copied: until the next wish every step is like this one."""
        return not self._copies and not (self._node == _BOOTING).any()

    def state(self) -> State:
        wanted = Wish(self._wanted.nodes.copy(), self._wanted.held.copied())
        return State(wanted, self.running, self._held.copied())

    def node_loads(self, rates: Floats) -> Floats:
        """Requests per second on each node, shape (N,), when `rates` (S,) come to the shards. Time O(replicas)."""
        loads: Floats = _node_loads(self._held.node, self._shares, rates, self._pool.nodes)
        return loads

    def aim(self, wish: Wish, second: int) -> None:
        """Takes a wish: starts nodes, begins copies, and goes on with those under way that are still wanted.

        Raises ForeshardError for a wish that no pool can carry out.
        """
        _check(self._pool, wish)
        if _same(wish, self._wanted):
            return
        self.reconfigurations += 1
        self._wanted = Wish(wish.nodes.copy(), wish.held.copied())
        starts = wish.nodes & (self._node == _OFF)
        self._node[starts] = _BOOTING
        self._boots_at[starts] = second + self._pool.defaults.boot_seconds
        self._node[~wish.nodes & (self._node == _BOOTING)] = _OFF
        self._copies = self._needed_copies()

    def settle(self, second: int) -> None:
        """What is complete by now takes effect: nodes have booted, verified copies serve, empty nodes are given back."""
        self._node[(self._node == _BOOTING) & (self._boots_at <= second)] = _ON
        waiting = {shard for (shard, _, _), copy in self._copies.items() if not 0 <= copy.ready <= second}
        due = np.ones(len(self._pool.shard_ids), dtype=np.bool_)
        due[list(waiting)] = False
        if not _rows_same(self._held, self._wanted.held)[due].all():
            wanted = self._wanted.held
            self._held.node[due] = wanted.node[due]
            self._held.kind[due] = wanted.kind[due]
            self._held.weight[due] = wanted.weight[due]
            self._shares = self._share_out()
        self._copies = {key: copy for key, copy in self._copies.items() if key[0] in waiting}
        holds = np.zeros(self._pool.nodes, dtype=np.bool_)
        holds[self._held.node[self._held.node >= 0]] = True
        self._node[(self._node == _ON) & ~self._wanted.nodes & ~holds] = _OFF

    def transfer(self, second: int) -> tuple[Floats, float]:
        """Copies for one step. The part of the step in which each node sent or received, shape (N,), and the bytes copied.

        A copy that ends within the step is verified from the end of the step on.
        """
        defaults = self._pool.defaults
        step = float(defaults.step_seconds)
        sends, receives = np.full(self._pool.nodes, step), np.full(self._pool.nodes, step)
        moved = 0.0
        for (_, target, _), copy in self._copies.items():
            if copy.ready != _NOT_YET or self._node[target] != _ON:
                continue
            takes = copy.left / defaults.copy_bytes_per_second
            seconds = min(takes, sends[copy.source], receives[target])
            sends[copy.source] -= seconds
            receives[target] -= seconds
            part = copy.left if seconds == takes else seconds * defaults.copy_bytes_per_second
            copy.left -= part
            moved += part
            if copy.left <= 0.0:
                copy.ready = second + defaults.step_seconds + defaults.verify_seconds
                self.moves += 1
        return 1.0 - np.minimum(sends, receives) / step, moved

    def _needed_copies(self) -> dict[tuple[int, int, int], _Copy]:
        """The copies between what is held and what is wanted, in the order of shards; those under way keep what they have."""
        copies: dict[tuple[int, int, int], _Copy] = {}
        queued = np.zeros(self._pool.nodes)
        for shard in np.flatnonzero(~_rows_same(self._held, self._wanted.held)).tolist():
            holds = _row(self._held, shard)
            for target, kind in _row(self._wanted.held, shard).items():
                if holds.get(target, NONE) < kind:
                    key = (shard, target, kind)
                    copies[key] = self._copies.get(key) or self._new_copy(key, holds, queued)
                    queued[copies[key].source] += copies[key].left
        return copies

    def _new_copy(self, key: tuple[int, int, int], holds: dict[int, int], queued: Floats) -> _Copy:
        """From a holder that leaves if there is one, then from the one with the least to send."""
        shard, target, kind = key
        remains = _row(self._wanted.held, shard)
        sources = [node for node, has in holds.items() if has >= kind]
        source = min(sources, key=lambda node: (node in remains, queued[node], node))
        full = float(self._pool.bytes_full[shard])
        hot = full * self._pool.defaults.hot_bytes_share
        has = hot if holds.get(target, NONE) == HOT else 0.0
        return _Copy(source, (full if kind == FULL else hot) - has)

    def _share_out(self) -> Floats:
        shares: Floats = _shares(self._held.node, self._held.kind, self._held.weight, self._pool.defaults.recent_share)
        return shares


def _row(held: Holdings, shard: int) -> dict[int, int]:
    """Node → kind of one shard's replicas."""
    return {int(n): int(kind) for n, kind in zip(held.node[shard], held.kind[shard], strict=True) if n >= 0}


def _rows_same(a: Holdings, b: Holdings) -> Bools:
    """The shards of which the same nodes hold the same in the same places, shape (S,)."""
    same: Bools = ((a.node == b.node) & (a.kind == b.kind) & (a.weight == b.weight)).all(axis=1)
    return same


def _same(a: Wish, b: Wish) -> bool:
    return bool((a.nodes == b.nodes).all() and _rows_same(a.held, b.held).all())


def _check(pool: Pool, wish: Wish) -> None:
    node, kind, weight = wish.held
    shape = (len(pool.shard_ids), pool.defaults.max_replicas)
    if wish.nodes.shape != (pool.nodes,) or not node.shape == kind.shape == weight.shape == shape:
        raise ForeshardError(f"a wish must say of {pool.nodes} nodes whether they run, and have places of shape {shape}")
    used = node >= 0
    if (node >= pool.nodes).any() or not wish.nodes[node[used]].all():
        raise ForeshardError("a wish has a replica on a node that it does not want; place replicas on wanted nodes")
    twice = np.sort(np.where(used, node, -1 - np.arange(shape[1])), axis=1)
    if (np.diff(twice, axis=1) == 0).any() or not ((kind == FULL) & used).any(axis=1).all():
        raise ForeshardError("a wish needs a full replica of each shard, and each node at most once for a shard")
    if (weight[used] <= 0).any() or (np.abs(np.where(used, weight, 0.0).sum(axis=1) - 1.0) > 1e-9).any():
        raise ForeshardError("the weights of a shard's replicas in a wish must be above zero and sum to 1")


@numba.njit(cache=True, nogil=True)
def _shares(node, kind, weight, recent):  # type: ignore[no-untyped-def]
    """Each replica's share of its shard's load, shape (S, K); every node that holds something is live."""
    out = np.zeros(node.shape)
    live = np.ones(node.max() + 1, dtype=np.bool_)
    for s in range(node.shape[0]):
        share_row(node[s], kind[s], weight[s], live, recent, out[s])
    return out


@numba.njit(cache=True, nogil=True)
def _node_loads(node, share, rates, nodes):  # type: ignore[no-untyped-def]
    out = np.zeros(nodes)
    for s in range(node.shape[0]):
        for k in range(node.shape[1]):
            if node[s, k] >= 0:
                out[node[s, k]] += share[s, k] * rates[s]
    return out

"""A plan in the making: who holds what, where each replica comes from and why, and the loads and resources that follow.

Everything is in arrays that compiled code changes in place.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt
from numba import types
from numba.experimental import structref

from foreshard.placement.cluster import FULL, HOT, Bools, Cluster, Floats, Holdings, Ints
from foreshard.placement.loads import add_share, node_loads, quantile_at, share_row

Bytes = npt.NDArray[np.int8]
Places = npt.NDArray[np.int32]


class Facts(NamedTuple):
    """What compiled code reads of a cluster; see Cluster."""

    shard_ids: Ints
    mean: Floats
    own_square: Floats
    common: Floats
    recent: Floats
    size: Ints
    need: Floats
    group: Ints
    permit: Ints
    allowed: Bools
    group_start: Ints  # (G + 1,) members of each group
    members: Ints
    distinct: Bools
    near_start: Ints
    near: Ints
    hashes: npt.NDArray[np.uint64]  # (N,) of the node's id
    capacity: Floats
    accepts: Bools
    live: Bools
    zone: Ints
    neighbourhood: Ints
    limit: Floats
    transient: Bools
    ceiling: Floats  # (N, T)
    target: Floats  # (N,) load
    pinned: Bools  # (S, N) or (0, 0) where nothing is pinned
    delicate: Bools  # (S,) of a group that must stay spread over zones or near another: single moves could break that
    held_node: Places  # (S, K of the layout at hand)
    held_kind: Bytes
    z: float


class Draft(NamedTuple):
    """Changed in place. `origin`: the node that the replica moves from, its own for one that was there, -1 for a new one."""

    node: Places  # (S, K)
    kind: Bytes
    weight: Floats
    origin: Places
    goal: Bytes  # (S, K) position in GOALS, -1 for a replica that was there
    step: Places  # (S, K) the step whose load made it necessary, -1 for none
    gain: Floats  # (S, K)
    mean: Floats  # (N, T)
    own_square: Floats
    common: Floats
    used: Floats  # (N, R) what replicas take
    leaving: Floats  # (N, R) what replicas that are to leave take until they are retired, of transient resources

    @property
    def held(self) -> Holdings:
        return Holdings(self.node, self.kind, self.weight)

    def copied(self) -> Draft:
        return Draft(**{name: column.copy() for name, column in self._asdict().items()})


# Compiled code takes both by reference: passing dozens of arrays by value would make each function slow to compile and to call.
@structref.register
class _Reference(types.StructRef):  # type: ignore[misc]
    def preprocess_fields(self, fields):  # type: ignore[no-untyped-def]
        return tuple((name, types.unliteral(kind)) for name, kind in fields)


class Reference(structref.StructRefProxy):  # type: ignore[misc]
    """Facts or a Draft as compiled code takes it; shares the arrays."""


structref.define_boxing(_Reference, Reference)
_FACTS = _Reference(
    [
        ("shard_ids", types.int64[::1]),
        ("mean", types.float64[:, ::1]),
        ("own_square", types.float64[:, ::1]),
        ("common", types.float64[:, :, ::1]),
        ("recent", types.float64[::1]),
        ("size", types.int64[:, ::1]),
        ("need", types.float64[:, ::1]),
        ("group", types.int64[::1]),
        ("permit", types.int64[::1]),
        ("allowed", types.boolean[:, ::1]),
        ("group_start", types.int64[::1]),
        ("members", types.int64[::1]),
        ("distinct", types.boolean[::1]),
        ("near_start", types.int64[::1]),
        ("near", types.int64[::1]),
        ("hashes", types.uint64[::1]),
        ("capacity", types.float64[::1]),
        ("accepts", types.boolean[::1]),
        ("live", types.boolean[::1]),
        ("zone", types.int64[::1]),
        ("neighbourhood", types.int64[::1]),
        ("limit", types.float64[:, ::1]),
        ("transient", types.boolean[::1]),
        ("ceiling", types.float64[:, ::1]),
        ("target", types.float64[::1]),
        ("pinned", types.boolean[:, ::1]),
        ("delicate", types.boolean[::1]),
        ("held_node", types.int32[:, ::1]),
        ("held_kind", types.int8[:, ::1]),
        ("z", types.float64),
    ]
)
_DRAFT = _Reference(
    [
        ("node", types.int32[:, ::1]),
        ("kind", types.int8[:, ::1]),
        ("weight", types.float64[:, ::1]),
        ("origin", types.int32[:, ::1]),
        ("goal", types.int8[:, ::1]),
        ("step", types.int32[:, ::1]),
        ("gain", types.float64[:, ::1]),
        ("mean", types.float64[:, ::1]),
        ("own_square", types.float64[:, ::1]),
        ("common", types.float64[:, :, ::1]),
        ("used", types.float64[:, ::1]),
        ("leaving", types.float64[:, ::1]),
    ]
)


@numba.njit(cache=True)
def facts_reference(given):  # type: ignore[no-untyped-def]
    result = structref.new(_FACTS)
    result.shard_ids = given.shard_ids
    result.mean = given.mean
    result.own_square = given.own_square
    result.common = given.common
    result.recent = given.recent
    result.size = given.size
    result.need = given.need
    result.group = given.group
    result.permit = given.permit
    result.allowed = given.allowed
    result.group_start = given.group_start
    result.members = given.members
    result.distinct = given.distinct
    result.near_start = given.near_start
    result.near = given.near
    result.hashes = given.hashes
    result.capacity = given.capacity
    result.accepts = given.accepts
    result.live = given.live
    result.zone = given.zone
    result.neighbourhood = given.neighbourhood
    result.limit = given.limit
    result.transient = given.transient
    result.ceiling = given.ceiling
    result.target = given.target
    result.pinned = given.pinned
    result.delicate = given.delicate
    result.held_node = given.held_node
    result.held_kind = given.held_kind
    result.z = given.z
    return result


@numba.njit(cache=True)
def draft_reference(given):  # type: ignore[no-untyped-def]
    result = structref.new(_DRAFT)
    result.node = given.node
    result.kind = given.kind
    result.weight = given.weight
    result.origin = given.origin
    result.goal = given.goal
    result.step = given.step
    result.gain = given.gain
    result.mean = given.mean
    result.own_square = given.own_square
    result.common = given.common
    result.used = given.used
    result.leaving = given.leaving
    return result


def draft_of(cluster: Cluster, places: int) -> Draft:
    """The layout at hand as a draft with at least so many places per shard. Time O(S × K × (T × F + R))."""
    held = cluster.held.widened(places).copied()
    loads = node_loads(cluster, held)
    shape = held.node.shape
    used = np.zeros_like(cluster.nodes.limit)
    if used.shape[1]:
        _add_needs(held.node, held.kind, cluster.shards.need, cluster.shards.size, used)
    return Draft(
        *held,
        origin=held.node.copy(),
        goal=np.full(shape, -1, dtype=np.int8),
        step=np.full(shape, -1, dtype=np.int32),
        gain=np.zeros(shape),
        mean=loads.mean,
        own_square=loads.own_square,
        common=loads.common,
        used=used,
        leaving=np.zeros_like(used),
    )


def recharge(cluster: Cluster, draft: Draft) -> None:
    """Recomputes every load from scratch, which also sheds rounding left by increments."""
    loads = node_loads(cluster, draft.held)
    draft.mean[:], draft.own_square[:], draft.common[:] = loads.mean, loads.own_square, loads.common


@numba.njit(cache=True, nogil=True)
def takes(size, need, kind):  # type: ignore[no-untyped-def]
    """The part of a full replica's needs that one of this kind takes."""
    if kind == FULL or size[FULL] <= 0:
        return 1.0
    return min(1.0, size[HOT] / size[FULL])


@numba.njit(cache=True, nogil=True)
def _add_needs(node, kind, need, size, used):  # type: ignore[no-untyped-def]
    for s in range(node.shape[0]):
        for k in range(node.shape[1]):
            if node[s, k] >= 0:
                part = takes(size[s], need[s], kind[s, k])
                for r in range(need.shape[1]):
                    used[node[s, k], r] += part * need[s, r]


@numba.njit(cache=True, nogil=True)
def charge(f, d, s, sign):  # type: ignore[no-untyped-def]
    """Puts the shard's load, by its replicas' weights, onto its nodes, or takes it off (sign -1)."""
    share = np.zeros(d.node.shape[1])
    share_row(d.node[s], d.kind[s], d.weight[s], f.live, f.recent[s], share)
    for k in range(share.shape[0]):
        if share[k] > 0.0:
            add_share(d.mean, d.own_square, d.common, d.node[s, k], sign * share[k], f.mean[s], f.own_square[s], f.common[s])


@numba.njit(cache=True, nogil=True)
def occupy(f, d, s, n, kind, sign):  # type: ignore[no-untyped-def]
    part = takes(f.size[s], f.need[s], kind)
    for r in range(f.need.shape[1]):
        d.used[n, r] += sign * part * f.need[s, r]


@numba.njit(cache=True, nogil=True)
def leave(f, d, s, n, kind, sign):  # type: ignore[no-untyped-def]
    """Counts what a replica takes of transient resources on the live node that it is to leave."""
    if f.live[n]:
        part = takes(f.size[s], f.need[s], kind)
        for r in range(f.need.shape[1]):
            if f.transient[r]:
                d.leaving[n, r] += sign * part * f.need[s, r]


@numba.njit(cache=True, nogil=True)
def place_of(d, s, n):  # type: ignore[no-untyped-def]
    """The place of the shard's replica on a node, -1 for none; with n = -1 a free place."""
    for k in range(d.node.shape[1]):
        if d.node[s, k] == n:
            return k
    return -1


@numba.njit(cache=True, nogil=True)
def fits(f, d, s, n, kind):  # type: ignore[no-untyped-def]
    """Whether a replica of the shard could be added on node n as far as hard constraints go, its shard's count apart."""
    if not f.accepts[n] or (f.permit[s] >= 0 and not f.allowed[f.permit[s], n]) or place_of(d, s, n) >= 0:
        return False
    part = takes(f.size[s], f.need[s], kind)
    for r in range(f.need.shape[1]):
        if part * f.need[s, r] > 0.0 and d.used[n, r] + d.leaving[n, r] + part * f.need[s, r] > f.limit[n, r]:
            return False
    g = f.group[s]
    if g < 0:
        return True
    if f.distinct[g]:
        for i in range(f.group_start[g], f.group_start[g + 1]):
            if place_of(d, f.members[i], n) >= 0:
                return False
    for i in range(f.near_start[g], f.near_start[g + 1]):
        if not _is_near(f, d, f.near[i], f.neighbourhood[n]):
            return False
    return True


@numba.njit(cache=True, nogil=True)
def _is_near(f, d, g, neighbourhood):  # type: ignore[no-untyped-def]
    for i in range(f.group_start[g], f.group_start[g + 1]):
        s = f.members[i]
        for k in range(d.node.shape[1]):
            if d.node[s, k] >= 0 and f.neighbourhood[d.node[s, k]] == neighbourhood:
                return True
    return False


@numba.njit(cache=True, nogil=True)
def apart(f, d, s, n, without):  # type: ignore[no-untyped-def]
    """Whether no other live replica of the shard is in the zone of node n, one on `without` not counted."""
    for k in range(d.node.shape[1]):
        other = d.node[s, k]
        if other >= 0 and other != without and other != n and f.live[other] and f.zone[other] == f.zone[n]:
            return False
    return True


@numba.njit(cache=True, nogil=True)
def load_with(f, d, n, t, share, s):  # type: ignore[no-untyped-def]
    """The quantile of node n at step t with a further share, which may be negative, of the shard's load."""
    square = max(d.own_square[n, t] + share * abs(share) * f.own_square[s, t], 0.0)
    for i in range(f.common.shape[2]):
        factor = d.common[n, t, i] + share * f.common[s, t, i]
        square += factor * factor
    return max(d.mean[n, t] + share * f.mean[s, t], 0.0) + f.z * np.sqrt(square)


@numba.njit(cache=True, nogil=True)
def highest_with(f, d, n, share, s, above):  # type: ignore[no-untyped-def]
    """The highest of (quantile with the share) / above over the steps, `above` of shape (T,)."""
    worst = 0.0
    for t in range(f.mean.shape[1]):
        load = load_with(f, d, n, t, share, s)
        if load > 0.0:
            worst = max(worst, load / above[t]) if above[t] > 0.0 else np.inf
    return worst


@numba.njit(cache=True, nogil=True)
def load_at(f, d, n, t):  # type: ignore[no-untyped-def]
    return quantile_at(d.mean[n, t], d.own_square[n, t], d.common[n, t], f.z)

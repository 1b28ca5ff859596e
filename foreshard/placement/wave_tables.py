"""What ordering moves into waves looks up: the moves beside their nodes, shards and groups, and the counts that they change.

Only what the moves touch is counted, so the size grows with the moves, not with shards × nodes. Places are (shard, node),
spots are (group, node), and areas are (group, zone) or (group, neighbourhood); each kind is numbered apart.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from foreshard.placement.cluster import FULL, HOT, NONE, Bools, Cluster, Floats, Ints
from foreshard.placement.movement import Moves

Kinds = npt.NDArray[np.int8]


class Lists(NamedTuple):
    """For each key the positions of its moves, in their order."""

    start: Ints
    item: Ints


class Tables(NamedTuple):
    """M moves over L touched shards with W places; N nodes; R resources; G groups. Never changed while waves are made."""

    shard: Ints  # (M,) position among the touched shards
    group: Ints  # (M,) -1 for none
    source: Ints  # (M,)
    target: Ints  # (M,)
    bytes: Ints  # (M,)
    holds: Kinds  # (M,) of the target afterwards; 0 for a drop
    source_place: Ints  # (M,) -1 for none
    target_place: Ints
    need: Floats  # (L, 3, R) by what is held
    least: Ints  # (L,) full replicas
    least_any: Ints  # (L,) replicas of either kind
    most: Ints  # (L,)
    limit: Floats  # (N, R)
    transient: Bools  # (R,)
    live: Bools  # (N,)
    distinct: Bools  # (G,)
    min_zones: Ints  # (G,)
    spots: Ints  # sorted keys group × N + node
    zone: Ints  # (N,)
    zones: Ints  # sorted keys group × N + zone
    neighbourhood: Ints  # (N,)
    areas: Ints  # sorted keys group × N + neighbourhood
    near: Lists  # by group: the groups that must be where it is
    beside: Lists  # by group: the groups that must have it where they are
    leaving: Lists  # by node: the moves that take something off it
    of_shard: Lists  # the moves of a touched shard
    of_group: Lists
    most_in_flight: int
    most_bytes: int


class Tally(NamedTuple):
    """The state that changes. `now` is with the wave in the making, `was` is as published before it."""

    held: Kinds  # (W,) what each place holds, as published
    taken: Kinds  # (W,) 1 where the wave adds or removes something
    used: Floats  # (N, R) as published
    copied: Floats  # (N, R) added by the wave
    freed: Floats  # (N, R) taken off by the wave
    in_flight: Ints  # (N,) copies that a node sends and receives in the wave
    bytes: Ints  # (N,) likewise
    full_was: Ints  # (L,) full replicas on live nodes
    full_now: Ints
    live_was: Ints  # (L,) replicas on live nodes
    live_now: Ints
    all_was: Ints  # (L,) replicas
    all_now: Ints
    spot_was: Ints  # replicas of a group on a node
    spot_now: Ints
    zone_was: Ints  # replicas of a group in a zone
    zone_now: Ints
    zones_was: Ints  # (G,) zones with a replica
    zones_now: Ints
    area_was: Ints  # replicas of a group in a neighbourhood
    area_now: Ints


def tables_of(cluster: Cluster, moves: Moves) -> tuple[Tables, Tally]:
    """Tables and first tally, in O(replicas + M log M). Moves are looked at in the order given."""
    nodes, shards, groups = cluster.nodes, cluster.shards, cluster.groups
    count = len(nodes.ids)
    touched, shard = np.unique(moves.shard, return_inverse=True)
    group = shards.group[moves.shard]
    places = np.unique(np.concatenate([(shard * count + at)[at >= 0] for at in (moves.source, moves.target)]))
    source_place = _find(places, shard * count + moves.source, moves.source >= 0)
    target_place = _find(places, shard * count + moves.target, moves.target >= 0)
    row, node, kind = _replicas(cluster)
    held = _held_at(places, touched, count, row, node, kind)
    live = nodes.live[node]
    spots, zones, areas = (_keys(cluster, row[live], code[node[live]], moves, code) for code in _codes(cluster))
    full, alive, every = _counts(cluster, touched)
    leaves = (moves.source >= 0) & nodes.live[moves.source]
    comes = (moves.target >= 0) & (held[target_place] == NONE)
    final = alive + np.bincount(shard[comes], minlength=touched.size) - np.bincount(shard[leaves], minlength=touched.size)
    near = Lists(groups.near_start, groups.near)
    tables = Tables(
        shard=shard.astype(np.int64),
        group=group,
        source=moves.source,
        target=moves.target,
        bytes=moves.bytes,
        holds=np.where(moves.target >= 0, moves.holds, NONE).astype(np.int8),
        source_place=source_place,
        target_place=target_place,
        need=_needs(cluster, touched),
        least=shards.least[touched],
        # One replica is kept unless the moves take all, as when an entity's isolation ends.
        least_any=np.clip(final, 0, 1).astype(np.int64),
        most=shards.most[touched],
        limit=nodes.limit,
        transient=cluster.costs.transient,
        live=nodes.live,
        distinct=groups.distinct,
        min_zones=groups.min_zones,
        spots=spots[0],
        zone=nodes.zone,
        zones=zones[0],
        neighbourhood=nodes.neighbourhood,
        areas=areas[0],
        near=near,
        beside=_reversed(near, len(groups.ids)),
        leaving=_lists(moves.source, count),
        of_shard=_lists(shard, touched.size),
        of_group=_lists(group, len(groups.ids)),
        most_in_flight=max(1, cluster.policy.max_moves_in_flight),
        most_bytes=cluster.policy.max_bytes_in_flight,
    )
    occupied = np.bincount(zones[0][zones[1] > 0] // count, minlength=len(groups.ids)).astype(np.int64)
    counts = (full, alive, every, spots[1], zones[1], occupied, areas[1])
    tally = Tally(
        held,
        np.zeros(places.size, dtype=np.int8),
        _used(cluster, row, node, kind),
        np.zeros(nodes.limit.shape),
        np.zeros(nodes.limit.shape),
        np.zeros(count, dtype=np.int64),
        np.zeros(count, dtype=np.int64),
        *(side for was in counts for side in (was, was.copy())),
    )
    return tables, tally


def _held_at(places: Ints, touched: Ints, count: int, row: Ints, node: Ints, kind: Kinds) -> Kinds:
    """What each place holds in the layout at hand."""
    held = np.zeros(places.size, dtype=np.int8)
    local = _find(touched, row, np.ones(row.size, dtype=bool))
    at = _find(places, local * count + node, local >= 0)
    held[at[at >= 0]] = kind[at >= 0]
    return held


def _replicas(cluster: Cluster) -> tuple[Ints, Ints, Kinds]:
    """Shard, node and kind of every replica of the layout at hand."""
    row, place = np.nonzero(cluster.held.kind > NONE)
    return row.astype(np.int64), cluster.held.node[row, place].astype(np.int64), cluster.held.kind[row, place]


def _codes(cluster: Cluster) -> tuple[Ints, Ints, Ints]:
    """What spots, zones and areas are counted by, each of shape (N,)."""
    return np.arange(len(cluster.nodes.ids)), cluster.nodes.zone, cluster.nodes.neighbourhood


def _keys(cluster: Cluster, row: Ints, code: Ints, moves: Moves, codes: Ints) -> tuple[Ints, Ints]:
    """Sorted keys group × N + code that replicas or targets of moves have, and the replicas at each."""
    count = len(cluster.nodes.ids)
    group = cluster.shards.group[row]
    at = (group * count + code)[group >= 0]
    added = cluster.shards.group[moves.shard]
    aims = (added >= 0) & (moves.target >= 0)
    keys = np.unique(np.concatenate([at, (added * count + codes[moves.target])[aims]]))
    return keys, np.bincount(np.searchsorted(keys, at), minlength=keys.size).astype(np.int64)


def _counts(cluster: Cluster, touched: Ints) -> tuple[Ints, Ints, Ints]:
    """Full replicas on live nodes, replicas on live nodes, and all replicas of the touched shards, each of shape (L,)."""
    kind = cluster.held.kind[touched]
    live = (kind > NONE) & cluster.nodes.live[cluster.held.node[touched]]
    full, alive, every = (x.sum(axis=1).astype(np.int64) for x in ((kind == FULL) & live, live, kind > NONE))
    return full, alive, every


def _needs(cluster: Cluster, touched: Ints) -> Floats:
    """What a shard takes of each resource by what is held of it, shape (L, 3, R)."""
    need = cluster.shards.need[touched]
    table = np.zeros((touched.size, 3, need.shape[1]))
    table[:, HOT] = need * cluster.shards.hot_part()[touched, None]
    table[:, FULL] = need
    return table


def _used(cluster: Cluster, row: Ints, node: Ints, kind: Kinds) -> Floats:
    """What the layout at hand uses, shape (N, R)."""
    part = np.where(kind == FULL, 1.0, cluster.shards.hot_part()[row])
    used = np.zeros(cluster.nodes.limit.shape)
    for resource in range(len(cluster.costs.names)):
        used[:, resource] = np.bincount(node, part * cluster.shards.need[row, resource], len(cluster.nodes.ids))
    return used


def _find(keys: Ints, wanted: Ints, exists: Bools) -> Ints:
    """Position of each wanted key among the sorted ones, -1 where it does not exist or is not there."""
    if not keys.size:
        return np.full(wanted.shape, -1, dtype=np.int64)
    at = np.searchsorted(keys, wanted).clip(0, keys.size - 1)
    return np.where(exists & (keys[at] == wanted), at, -1).astype(np.int64)


def _lists(key: Ints, count: int) -> Lists:
    order = np.argsort(key, kind="stable")
    order = order[key[order] >= 0]
    start = np.searchsorted(key[order], np.arange(count + 1))
    return Lists(start.astype(np.int64), order.astype(np.int64))


def _reversed(lists: Lists, count: int) -> Lists:
    owner = np.repeat(np.arange(count), np.diff(lists.start))
    back = _lists(lists.item, count)
    return Lists(back.start, owner[back.item].astype(np.int64))

"""An assignment packed into few arrays, one record per unit and per node, because a candidate reads whole records.

A unit's record: use (R), tilt (B), mean (T), own² (T), common (T·F), move cost. Tilt is what the unit adds to a node's
`balance_target × free(first) − free(second)`. A node's record: room (R), above (R), spare (B), excess (T), own² (T), common
(T·F), cost. Room is the limit less what is held (of a transient resource, what the node's initial units use from the start),
above is use less `soft`, spare the balance's left side, excess Σ mean less the ceiling. Transient resources come first. The
last unit is nobody: it uses nothing, so that a shift is an exchange with it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from foreshard.errors import ForeshardError
from foreshard.placement.assignment import Assignment, Bools, Floats, Ints

INITIAL, CLASS, GROUP, PERMIT, MARKED, HOME = range(6)
# Above this many cells, a class's members are looked through instead of keeping who is where.
_MOST_CELLS = 1 << 29
_FEW_MEMBERS = 6


class Sizes(NamedTuple):
    """Columns of the records."""

    resources: int
    transient: int
    balances: int
    steps: int
    factors: int


class Packed(NamedTuple):
    """What does not change during a search. U units and nobody, N nodes, C conflict classes, G groups, W watched groups."""

    sizes: Sizes
    units: Floats  # (U + 1, columns)
    labels: Ints  # (U + 1, 6): initial node, conflict class, group, row of targets, watched or not, where it may return
    prices: Floats  # (R + B + 2,): soft, balance, overload, z
    empty: Floats  # (N, columns) record of each node without units
    movable: Ints  # units that are not fixed
    free: Bools  # (U + 1,) not fixed
    size: Floats  # (U + 1,) the largest share of an average node that a resource of the unit takes
    target_start: Ints  # (K + 2,) row K: any node
    target: Ints
    may_hold: Bools  # (K + 1, N)
    class_start: Ints  # (C + 1,)
    class_member: Ints
    class_row: Ints  # (C,) row of State.present, -1 where members are looked through
    watched: Ints  # (G,) row of the counts, -1 where neither zones nor nearness matter
    min_zones: Ints  # (W,)
    near_start: Ints  # (W + 1,) rows that a row must be near
    near: Ints
    followed_start: Ints  # (W + 1,) rows that must be near a row
    followed: Ints
    zone: Ints  # (N,)
    neighbourhood: Ints  # (N,)
    pair_cost: Floats
    group_move_cost: float


def pack(a: Assignment) -> Packed:
    """Packs in time linear in the arrays. Raises ForeshardError where a balance names a resource without limits."""
    if len(a.balance_first) and not np.isfinite(a.limit[:, np.r_[a.balance_first, a.balance_second]]).all():
        raise ForeshardError("A balance between two resources needs a finite limit of both on every node; state the limits.")
    order = np.argsort(~a.transient, kind="stable")
    watched, watched_rows = _watched(a)
    near_start, near = _near(a, watched, watched_rows)
    followed_start, followed = _inverse(near_start, near)
    may_hold = np.vstack([a.allowed & a.accepts, a.accepts[None, :]])
    target_start, target = _rows(may_hold)
    class_start, class_member, class_row = _classes(a)
    return Packed(
        sizes=Sizes(a.use.shape[1], int(a.transient.sum()), len(a.balance_first), *a.common.shape[1:]),
        units=_unit_records(a, order),
        labels=_labels(a, watched, len(may_hold) - 1),
        prices=np.concatenate([a.soft_cost[order], a.balance_cost, [a.overload_cost, a.z]]),
        empty=_node_records(a, order),
        movable=np.flatnonzero(~a.fixed),
        free=np.append(~a.fixed, False),
        size=_size(a),
        target_start=target_start,
        target=target,
        may_hold=may_hold,
        class_start=class_start,
        class_member=class_member,
        class_row=class_row,
        watched=watched,
        min_zones=a.min_zones[watched_rows],
        near_start=near_start,
        near=near,
        followed_start=followed_start,
        followed=followed,
        zone=a.zone.astype(np.int64),
        neighbourhood=a.neighbourhood.astype(np.int64),
        pair_cost=np.ascontiguousarray(a.pair_cost),
        group_move_cost=float(a.group_move_cost),
    )


def _unit_records(a: Assignment, order: Ints) -> Floats:
    units, steps, factors = a.common.shape
    tilt = a.use[:, a.balance_second] - a.balance_target * a.use[:, a.balance_first]
    common = a.common.reshape(units, steps * factors)
    parts = [a.use[:, order], tilt, a.mean, a.own_square, common, a.move_cost[:, None]]
    records = np.zeros((units + 1, sum(part.shape[1] for part in parts)))
    np.concatenate(parts, axis=1, out=records[:-1])
    return records


def _size(a: Assignment) -> Floats:
    average = a.use.sum(0) / len(a.limit)
    share = a.use / np.where(average > 0.0, average, np.inf)
    return np.append(share.max(1, initial=0.0), 0.0)


def _node_records(a: Assignment, order: Ints) -> Floats:
    nodes, (steps, factors) = len(a.limit), a.common.shape[1:]
    spare = a.balance_target * a.limit[:, a.balance_first] - a.limit[:, a.balance_second]
    load = [-a.ceiling, np.zeros((nodes, steps + steps * factors))]
    room = a.limit[:, order].copy()
    held, transient = np.flatnonzero(a.initial >= 0), int(a.transient.sum())
    np.subtract.at(room[:, :transient], a.initial[held], a.use[held][:, order[:transient]])
    return np.ascontiguousarray(np.hstack([room, -a.soft[:, order], spare, *load, np.zeros((nodes, 1))]))


def _labels(a: Assignment, watched: Ints, any_node: int) -> Ints:
    units = len(a.use)
    labels = np.full((units + 1, 6), -1, dtype=np.int64)
    labels[:-1, INITIAL], labels[:-1, CLASS], labels[:-1, GROUP] = (
        a.initial,
        np.unique(a.conflict, return_inverse=True)[1],
        a.group,
    )
    labels[:-1, PERMIT] = np.where(a.permit >= 0, a.permit, any_node)
    labels[:, MARKED] = 0
    grouped = np.flatnonzero(a.group >= 0)
    labels[grouped, MARKED] = watched[a.group[grouped]] >= 0
    labels[:-1, HOME] = np.where(_may_return(a), a.initial, -1)
    labels[-1, INITIAL] = -2
    return labels


def _may_return(a: Assignment) -> Bools:
    """The initial node takes a unit back even if it accepts no others, but not where the unit's permit forbids it."""
    may = a.initial >= 0
    asked = np.flatnonzero(may & (a.permit >= 0))
    may[asked] = a.allowed[a.permit[asked], a.initial[asked]]
    return may


def _watched(a: Assignment) -> tuple[Ints, Ints]:
    """The row of each group in the counts (-1: none is kept), and the groups with a row."""
    marked = a.min_zones > 1
    marked |= np.diff(a.near_start) > 0
    marked[a.near] = True
    rows = np.flatnonzero(marked)
    watched = np.full(len(a.min_zones), -1, dtype=np.int64)
    watched[rows] = np.arange(len(rows))
    return watched, rows


def _near(a: Assignment, watched: Ints, rows: Ints) -> tuple[Ints, Ints]:
    owner = np.repeat(np.arange(len(a.min_zones)), np.diff(a.near_start))
    others = a.near != owner
    return _start(np.bincount(watched[owner[others]], minlength=len(rows))), watched[a.near[others]]


def _inverse(start: Ints, items: Ints) -> tuple[Ints, Ints]:
    owner = np.repeat(np.arange(len(start) - 1), np.diff(start))
    order = np.argsort(items, kind="stable")
    return _start(np.bincount(items, minlength=len(start) - 1)), owner[order]


def _start(counts: npt.ArrayLike) -> Ints:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(np.asarray(counts, dtype=np.int64))])


def _rows(matrix: Bools) -> tuple[Ints, Ints]:
    return _start(matrix.sum(1)), np.nonzero(matrix)[1].astype(np.int64)


def _classes(a: Assignment) -> tuple[Ints, Ints, Ints]:
    number = np.unique(a.conflict, return_inverse=True)[1]
    counts = np.bincount(number)
    large = np.flatnonzero(counts > _FEW_MEMBERS)
    large = large[np.argsort(-counts[large], kind="stable")][: _MOST_CELLS // max(1, len(a.limit))]
    row = np.full(len(counts), -1, dtype=np.int64)
    row[large] = np.arange(len(large))
    return _start(counts), np.argsort(number, kind="stable").astype(np.int64), row

"""The movement bound never exceeds what a plan needs: against any layout's own balance, and against exact optima."""

from __future__ import annotations

from collections.abc import Sequence

import arrays
import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp

from foreshard.model import Policy
from foreshard.placement.cluster import FULL, HOT, NONE, Cluster, Floats, Holdings
from foreshard.placement.loads import node_quantiles
from foreshard.placement.movement_bound import movement_lower_bound


def copied_bytes(cluster: Cluster, after: Holdings) -> int:
    """Bytes copied from the cluster's layout to another: new replicas whole, hot ones that become full by the difference."""
    total = 0
    for s, size in enumerate(cluster.shards.size.tolist()):
        before = dict(zip(cluster.held.node[s].tolist(), cluster.held.kind[s].tolist(), strict=True))
        for node, kind in zip(after.node[s].tolist(), after.kind[s].tolist(), strict=True):
            if node >= 0:
                total += _copied(size, before.get(node, NONE), kind)
    return total


def _copied(size: Sequence[int], before: int, kind: int) -> int:
    if before == NONE:
        return size[kind]
    return max(0, size[FULL] - size[HOT]) if before == HOT and kind == FULL else 0


def random_cluster(seed: int, *, replicas: int, risk_z: float, mixed: bool = False) -> Cluster:
    generator = np.random.default_rng(seed)
    count, steps = int(generator.integers(2, 7)), int(generator.integers(1, 3))
    size = int(generator.integers(2, 6))
    accepts = generator.random(size) < 0.8
    accepts[0] = True
    live = accepts | (generator.random(size) < 0.5)
    mean = generator.integers(0, 10, (count, steps)).astype(float)
    factors = int(generator.integers(0, 2))
    sign = generator.choice([-1.0, 1.0], (count, steps, factors)) if mixed else 1.0
    full = generator.integers(1, 4, count) * 20
    least = np.minimum(generator.integers(1, replicas + 1, count), accepts.sum())
    shards = arrays.shards(
        mean,
        own_square=(generator.uniform(0, 0.5, (count, steps)) * mean) ** 2,
        common=sign * generator.uniform(0, 1.0 if mixed else 0.3, (count, steps, factors)) * mean[:, :, None],
        recent=generator.choice([0.0, 0.5, 0.9], count),
        size=np.stack([np.zeros(count, dtype=np.int64), full // int(generator.choice([1, 2, 10])), full], axis=1),
        least=least,
        most=np.full(count, replicas),
        permit=generator.integers(-1, 1, count),
    )
    allowed = (generator.random((1, size)) < 0.8) | (np.arange(size) == 0)
    held = arrays.placement(seed, least.tolist(), [replicas] * count, list(range(size)))
    pool = arrays.nodes([10.0] * size, accepts=accepts, live=live)
    return arrays.cluster(pool, shards, held, allowed=allowed, policy=Policy(risk_z=risk_z))


def any_plan(cluster: Cluster, seed: int) -> Holdings:
    """Some layout that a plan might lead to: each shard as it is where it may stay so, or anywhere it may go."""
    generator = np.random.default_rng(seed)
    shards, rows, weights = cluster.shards, [], []
    for s in range(len(shards.ids)):
        may = cluster.nodes.accepts & (cluster.allowed[shards.permit[s]] if shards.permit[s] >= 0 else True)
        kept = {
            int(n): int(k)
            for n, k in zip(cluster.held.node[s], cluster.held.kind[s], strict=True)
            if n >= 0 and cluster.nodes.accepts[n] and generator.random() < 0.8
        }
        low = min(int(shards.least[s]), int(may.sum()))
        row = dict(kept)
        for n in generator.permutation(np.flatnonzero(may)):
            if sum(k == FULL for k in row.values()) >= low and (len(row) >= low or generator.random() < 0.7):
                break
            row[int(n)] = FULL if sum(k == FULL for k in row.values()) < low else int(generator.choice([HOT, FULL]))
        parts = generator.uniform(0.02, 1.0, len(row))
        rows.append(row)
        weights.append(dict(zip(row, (parts / parts.sum()).tolist(), strict=True)))
    return arrays.holdings(rows, weights)


@pytest.mark.parametrize("block", range(20))
@pytest.mark.parametrize("mixed", [False, True])
def test_no_plan_attains_its_own_balance_with_fewer_bytes_than_the_bound(block: int, mixed: bool) -> None:
    for seed in range(block * 50, block * 50 + 50):
        cluster = random_cluster(seed, replicas=1 + seed % 3, risk_z=1.645, mixed=mixed)
        after = any_plan(cluster, seed)
        attained = node_quantiles(cluster, after)
        # More replicas than `most` would only lower the cost, so the bound must hold with the plan's own number.
        floor = attained if seed % 2 else attained.max(axis=1)
        wide = np.maximum(cluster.shards.most, (after.node >= 0).sum(axis=1))
        cluster.shards.most[:] = wide
        bound = movement_lower_bound(cluster, attained, floor)
        assert bound.bytes <= copied_bytes(cluster, after), f"seed {seed}"


@pytest.mark.parametrize("block", range(4))
def test_a_plan_that_lacks_replicas_is_not_asked_for_them(block: int) -> None:
    for seed in range(block * 50, block * 50 + 50):
        cluster = random_cluster(seed, replicas=3, risk_z=1.0)
        after = any_plan(cluster, seed)
        full = after.kind == FULL
        spare = full & (full.cumsum(axis=1) > 1)  # all but the first full replica
        after.node[spare], after.kind[spare], after.weight[spare] = -1, NONE, 0.0
        loads = node_quantiles(cluster, after)
        bound = movement_lower_bound(cluster, loads, loads, attained=after)
        assert bound.bytes <= copied_bytes(cluster, after), f"seed {seed}"


def exact_bytes(cluster: Cluster, ceiling: Floats, floor: Floats) -> int | None:
    """The fewest bytes to a layout and weights with every mean load between floor and ceiling, by mixed-integer programming.

    For risk_z 0. Per shard and node: whether it has a full and a hot replica, and its shares of recent and older load.
    """
    shards, nodes = cluster.shards, cluster.nodes
    count, size = len(shards.ids), len(nodes.ids)
    kinds = 4  # full, hot, recent share, older share
    column = np.arange(count * size * kinds).reshape(count, size, kinds)
    cost, upper = np.zeros(column.size), np.ones(column.size)
    rows: list[tuple[dict[int, float], float, float]] = []
    for s in range(count):
        before = dict(zip(cluster.held.node[s].tolist(), cluster.held.kind[s].tolist(), strict=True))
        for n in range(size):
            full, hot, recent, older = column[s, n].tolist()
            cost[full] = _copied(shards.size[s], before.get(n, NONE), FULL)
            cost[hot] = _copied(shards.size[s], before.get(n, NONE), HOT)
            may = nodes.accepts[n] and (n in before or shards.permit[s] < 0 or cluster.allowed[shards.permit[s], n])
            upper[[full, hot, recent, older]] = float(may)
            if before.get(n) == FULL:
                upper[hot] = 0.0
            rows.append(({full: 1.0, hot: 1.0}, 0.0, 1.0))
            rows.append(({full: 1.0, hot: 1.0, recent: -1.0}, 0.0, np.inf))
            rows.append(({full: 1.0, older: -1.0}, 0.0, np.inf))
        rows.append((dict.fromkeys(column[s, :, 0].tolist(), 1.0), float(shards.least[s]), np.inf))
        rows.append((dict.fromkeys(column[s, :, :2].ravel().tolist(), 1.0), 0.0, float(shards.most[s])))
        for part in (2, 3):
            rows.append((dict.fromkeys(column[s, :, part].tolist(), 1.0), 1.0, 1.0))
    for n in np.flatnonzero(nodes.accepts):
        for t in range(shards.mean.shape[1]):
            parts = {int(column[s, n, 2]): float(shards.recent[s] * shards.mean[s, t]) for s in range(count)}
            parts |= {int(column[s, n, 3]): float((1 - shards.recent[s]) * shards.mean[s, t]) for s in range(count)}
            rows.append((parts, float(floor[n, t]), float(ceiling[n, t])))
    matrix = np.zeros((len(rows), column.size))
    for i, (entries, _, _) in enumerate(rows):
        matrix[i, list(entries)] = list(entries.values())
    limits = LinearConstraint(matrix, [r[1] for r in rows], [r[2] for r in rows])
    whole = np.zeros(column.shape)
    whole[:, :, :2] = 1
    found = milp(cost, constraints=limits, bounds=Bounds(0.0, upper), integrality=whole.ravel())
    return round(found.fun) if found.status == 0 else None


@pytest.mark.parametrize("replicas", [1, 2, 3])
@pytest.mark.parametrize("used", [0.5, 0.8, 1.0])
def test_the_bound_is_at_most_the_exact_least_movement(replicas: int, used: float) -> None:
    gaps, solved = [], 0
    for seed in range(40):
        cluster = random_cluster(seed, replicas=replicas, risk_z=0.0)
        mean = cluster.shards.mean.sum(axis=0)
        fair = mean[None, :] / cluster.accepting * np.ones((len(cluster.nodes.ids), 1))
        ceiling = fair * (1.0 + 0.5 * (1.5 - used)) + (1.5 - used)
        floor = np.where(cluster.nodes.accepts[:, None] & (seed % 2 == 0), fair * 0.5 * used, 0.0)
        exact = exact_bytes(cluster, ceiling, floor)
        if exact is None:
            continue
        bound = movement_lower_bound(cluster, ceiling, floor).bytes
        assert bound <= exact, f"seed {seed}"
        solved += 1
        gaps.append((exact - bound) / exact if exact else 0.0)
    print(f"replicas {replicas}, used {used}: {solved} solved, gap mean {np.mean(gaps):.3f}")
    assert solved >= 5

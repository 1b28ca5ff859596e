"""Plays a load through a pool under a policy, step by step. The same inputs give the same outcome on any machine."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from foreshard.errors import ForeshardError
from foreshard.replay.cluster import Cluster
from foreshard.replay.load import Load
from foreshard.replay.outcome import Movement, Outcome, Tally
from foreshard.replay.policy import History, Known, Policy, Wish
from foreshard.replay.pool import Pool


class Decision(NamedTuple):
    """What a policy asked for, at which second of the test."""

    second: int
    wish: Wish


class Replayed(NamedTuple):
    outcome: Outcome
    decisions: tuple[Decision, ...]


def simulate(load: Load, pool: Pool, policy: Policy) -> Replayed:
    """What the test period of a load would have been under a policy.

    Within an interval the load is even, since the trace says no more. In each step: the policy decides, if it is time; what is
    complete takes effect; copies go on; the load is shared out and what is above a node's capacity counts as overload, once,
    and isn't carried into the next step. Raises ForeshardError for intervals that are no multiple of the step, an empty
    period, and a wish that cannot be. Time O(steps in which something moves + intervals + decisions) × (replicas + nodes), and
    what the policy takes.
    """
    _check(load, pool)
    defaults = pool.defaults
    history = History(load.training, len(load.test))
    begin = policy.first(Known(0, load.interval_seconds, history.view(), None), pool)
    cluster = Cluster(pool, begin)
    decisions = [Decision(0, begin)]
    tally = Tally(len(load.test), load.interval_seconds, defaults)
    second, end = 0, len(load.test) * load.interval_seconds
    while second < end:
        interval, elapsed = divmod(second, load.interval_seconds)
        rates = load.test[interval]
        if second and not elapsed:
            history.add(load.test[interval - 1])
        if second and not second % defaults.decision_seconds:
            known = Known(second, load.interval_seconds, history.view(), rates.copy() if elapsed else None)
            wish = policy.decide(known, cluster.state(), pool)
            if wish is not None:
                cluster.aim(wish, second)
                decisions.append(Decision(second, wish))
        cluster.settle(second)
        steps = _like_this(second, load.interval_seconds, defaults.decision_seconds, end) // defaults.step_seconds
        steps = steps if cluster.quiet else 1
        busy, moved = cluster.transfer(second)
        runs = cluster.running
        capacity = pool.capacity * (1.0 - (1.0 - defaults.capacity_while_copying) * busy[runs])
        tally.add(interval, cluster.node_loads(rates)[runs], capacity, cluster.paid, steps, moved)
        second += steps * defaults.step_seconds
    return Replayed(tally.outcome(Movement(cluster.moves, cluster.reconfigurations)), tuple(decisions))


def _like_this(second: int, interval: int, decision: int, end: int) -> int:
    """Seconds until the load may change or the policy is asked."""
    return min(interval - second % interval, decision - second % decision, end - second)


def _check(load: Load, pool: Pool) -> None:
    step = pool.defaults.step_seconds
    if load.interval_seconds % step or pool.defaults.decision_seconds % step:
        raise ForeshardError(
            f"intervals of {load.interval_seconds} s and decisions every {pool.defaults.decision_seconds} s must be whole "
            f"steps of {step} s"
        )
    if not 1 <= load.test_start < len(load.rates):
        raise ForeshardError("a replay needs at least one interval before the test and one in it")
    if load.rates.shape[1:] != pool.shard_ids.shape or not (np.isfinite(load.rates).all() and (load.rates >= 0).all()):
        raise ForeshardError("a replay needs finite loads, not below zero, of every shard of the pool")

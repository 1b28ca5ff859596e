"""Improves a placement for as long as it is given: annealing in each thread, which now and then take over the best of them."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from foreshard.placement.assignment import Assignment, Floats, Improved, Ints
from foreshard.placement.search.anneal import anneal, typical_change
from foreshard.placement.search.chance import exponential_table, word
from foreshard.placement.search.packing import Packed, pack
from foreshard.placement.search.repair import repair
from foreshard.placement.search.state import COST, LOWEST, State, forget, new_state, restart

# The threads meet this often, and cool in so many steps between two meetings.
_MEETINGS = 24
_BLOCKS = 20
# Of 256 candidates: swaps and chains; the others are shifts.
_SWAPS, _CHAINS, _ROOMS = 85, 85, 64
# Temperatures in units of the mean cost change of a random shift: at the start, when `_KNEE` of the run is over (what decides
# the cost happens before), and at the end, after which `_DESCENT` of the run takes improvements only.
_HOT, _WARM, _COLD = 4.0, 0.03, 0.0003
# With fewer candidates per unit and thread than this, the start is cooler in proportion, down to `_WARM`: too short a run would
# not find back from what a hot start stirs up. A run by the clock reckons with so many candidates a second.
_ENOUGH = 40_000
_RECKONED = 2e6
_KNEE, _DESCENT = 0.75, 0.02
# The clock is looked at after so many candidates: a few hundredths of a second.
_TIMED_BLOCK = 50_000
_SAMPLES = 20_000


class _Schedule(NamedTuple):
    """What the budget allows: `steps` a block and thread (None: paced by the clock), until `deadline` (by time.monotonic)."""

    began: float
    deadline: float | None
    steps: int | None
    change: float  # the mean cost change of a random shift
    hot: float  # temperature at the start, in units of `change`

    def temperature(self, share: float) -> float:
        """After `share` of the run. Single precision hides the last digit of a power, which differs between processors."""
        if share < _KNEE:
            relative = self.hot * (_WARM / self.hot) ** (share / _KNEE)
        elif share < 1.0 - _DESCENT:
            relative = _WARM * (_COLD / _WARM) ** ((share - _KNEE) / (1.0 - _DESCENT - _KNEE))
        else:
            return 0.0
        return float(np.float32(relative * self.change))

    def elapsed(self) -> float:
        """The share of the time limit that is used up."""
        if self.deadline is None:
            return 0.0
        return (time.monotonic() - self.began) / max(1e-9, self.deadline - self.began)


@dataclass
class _Runner:
    """One thread's part: its state and how many candidates it has tried."""

    packed: Packed
    state: State
    table: Floats
    tried: int = 0
    late: bool = False

    def run(self, schedule: _Schedule, meeting: int) -> None:
        """Anneals from one meeting to the next."""
        if schedule.steps is None:
            while (share := schedule.elapsed()) < (meeting + 1) / _MEETINGS and not self.done():
                self._block(schedule.temperature(share), _TIMED_BLOCK)
            return
        for block in range(_BLOCKS):
            temperature = schedule.temperature((meeting + block / _BLOCKS) / _MEETINGS)
            for at in range(0, schedule.steps, _TIMED_BLOCK):
                self.late = schedule.elapsed() >= 1.0
                if self.late or self.done():
                    return
                self._block(temperature, min(_TIMED_BLOCK, schedule.steps - at))

    def done(self) -> bool:
        """Nothing is left to gain: costs are never negative."""
        return bool(self.state.totals[LOWEST] <= 0.0)

    def _block(self, temperature: float, steps: int) -> None:
        anneal(self.packed, self.state, self.table, temperature, steps, _SWAPS, _CHAINS, _ROOMS)
        self.tried += steps


def improve(
    assignment: Assignment,
    start: Ints,
    *,
    seed: int,
    iterations: int | None,
    time_limit: float | None = None,
    threads: int = 2,
) -> Improved:
    """The cheapest placement found from `start`, shape (U,), which has every unit on a node.

    Hard constraints hold in the result, or are broken no more than in `start`. What `start` breaks is repaired, at any cost, as
    far as single moves and room made for them can; otherwise the result is never dearer than `start`.

    An iteration is one candidate move, of all threads together. With `iterations` the result depends on the arguments alone,
    not on the machine, unless the time limit (seconds) ends the search before. `iterations=None` leaves the pace to the time
    limit: as good as that allows, but not repeatable.

    Simulated annealing (Kirkpatrick, Gelatt, Vecchi 1983) over shifts, swaps and chains; O(R + B + T·F) a candidate.
    """
    deadline = None if time_limit is None else time.monotonic() + time_limit
    packed = pack(assignment)
    runners = [_Runner(packed, new_state(packed, start, word(seed, thread)), exponential_table()) for thread in range(threads)]
    if len(packed.movable) == 0 or len(packed.empty) < 2:
        return Improved(start.copy(), float(runners[0].state.totals[COST]), "converged", 0)
    if repair(packed, runners[0].state) > 0:
        for runner in runners:
            restart(packed, runner.state, runners[0].state.best)
            forget(runner.state)
    if runners[0].done():
        return _result(runners, False)
    schedule = _schedule(runners, iterations, deadline)
    with ThreadPoolExecutor(threads) as pool:
        for meeting in range(_MEETINGS):
            # A thread that is done does not stop another one in the middle: what each tries depends on its seed alone.
            list(pool.map(lambda runner, at=meeting: runner.run(schedule, at), runners))
            if any(runner.late or runner.done() for runner in runners):
                break
            _meet(runners)
    return _result(runners, schedule.steps is None or any(runner.late for runner in runners))


def _schedule(runners: list[_Runner], iterations: int | None, deadline: float | None) -> _Schedule:
    first = runners[0]
    change = float(np.float32(typical_change(first.packed, first.state, _SAMPLES)))
    steps = None if iterations is None else max(1, iterations // (len(runners) * _MEETINGS * _BLOCKS))
    # The first call compiles, which is no part of the run that the clock paces.
    anneal(first.packed, first.state, first.table, 0.0, 0, _SWAPS, _CHAINS, _ROOMS)
    began = time.monotonic()
    tried = steps * _MEETINGS * _BLOCKS if steps is not None else _RECKONED * max(0.0, (deadline or began) - began)
    hot = min(_HOT, max(_WARM, _HOT * tried / (_ENOUGH * len(first.packed.movable))))
    return _Schedule(began, deadline, steps, change, hot)


def _meet(runners: list[_Runner]) -> None:
    """The thread with the dearest placement goes on from the cheapest one."""
    costs = [runner.state.totals[COST] for runner in runners]
    cheapest, dearest = int(np.argmin(costs)), int(np.argmax(costs))
    if costs[dearest] > costs[cheapest]:
        loser = runners[dearest]
        restart(loser.packed, loser.state, runners[cheapest].state.node)


def _result(runners: list[_Runner], late: bool) -> Improved:
    winner = min(runners, key=lambda runner: float(runner.state.totals[LOWEST]))
    restart(winner.packed, winner.state, winner.state.best)
    ended_by = "converged" if winner.done() else "time limit" if late else "iterations"
    tried = sum(runner.tried for runner in runners)
    return Improved(winner.state.node[:-1].copy(), float(winner.state.totals[COST]), ended_by, tried)

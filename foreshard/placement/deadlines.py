"""When moves must begin: the load they are made for comes at a step, and copying, verifying and a margin come before it."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np

from foreshard.placement.cluster import Bools, Cluster, Floats, Ints
from foreshard.placement.movement import Moves

# Seconds, forty years: copies so slow that they should have begun before are late all the same.
_LONGEST = 1_262_304_000


class Deadlines(NamedTuple):
    """M moves in W waves."""

    start_by: tuple[datetime | None, ...]  # (M,) None where nothing presses
    late: Bools  # (M,) it should have begun before the first step
    duration: Floats  # (W,) seconds from the start of a wave's copies to its publication


def start_by(cluster: Cluster, moves: Moves, wave: Ints) -> Deadlines:
    """The latest start of each move, in O(M log M).

    A wave is published when its last copy is verified. So it must be, the policy's margin included, by the earliest step that
    one of its moves serves (`moves.step`), and by the latest start of the next wave. A copy takes the bytes that the busier of
    its two nodes sends and receives in the wave, over `copy_bytes_per_second`, then `verify_seconds`. A time before the first
    step is kept as it is and marked late. Moves without a wave, and a problem without steps, have no deadlines.
    """
    waves = int(wave.max(initial=-1)) + 1
    placed = wave >= 0
    copies = placed & (moves.target >= 0)
    takes = np.where(copies, _copy_seconds(cluster, moves, wave, copies) + cluster.policy.verify_seconds, 0.0)
    duration = np.zeros(waves)
    np.maximum.at(duration, wave[placed], takes[placed])
    if not cluster.steps:
        return Deadlines((None,) * wave.size, np.zeros(wave.size, dtype=np.bool_), duration)
    first = cluster.steps[0]
    begins = np.array([(step - first).total_seconds() for step in cluster.steps])
    pressed = placed & (moves.step >= 0)
    publish = np.full(waves, np.inf)
    np.minimum.at(publish, wave[pressed], begins[moves.step[pressed]] - cluster.policy.margin_seconds)
    for w in range(waves - 2, -1, -1):
        publish[w] = min(publish[w], publish[w + 1] - duration[w + 1])
    latest = np.full(wave.size, np.inf)
    latest[placed] = publish[wave[placed]] - takes[placed]
    times = tuple(first + timedelta(seconds=max(-_LONGEST, math.floor(x))) if np.isfinite(x) else None for x in latest)
    return Deadlines(times, latest < 0, duration)


def lateness(cluster: Cluster, deadlines: Deadlines) -> str:
    """A sentence on the moves whose start has passed, empty if there are none."""
    late = [t for t, is_late in zip(deadlines.start_by, deadlines.late, strict=True) if is_late and t is not None]
    if not late:
        return ""
    minutes = -(-(cluster.steps[0] - min(late)).total_seconds() // 60)
    what = "move" if len(late) == 1 else "moves"
    return (
        f"{len(late)} {what} should have begun before {cluster.step_label(0)}, the first of them {minutes:.0f} min earlier; "
        "until they are done their sources stay above their ceilings"
    )


def _copy_seconds(cluster: Cluster, moves: Moves, wave: Ints, copies: Bools) -> Floats:
    """How long each copy takes, shape (M,): a node's copies in a wave share what it can send and receive."""
    count = len(cluster.nodes.ids)
    ends = [(moves.target, copies), (moves.source, copies & (moves.source >= 0) & cluster.nodes.live[moves.source])]
    keys = [wave * count + node for node, _ in ends]
    known, index = np.unique(
        np.concatenate([key[takes] for key, (_, takes) in zip(keys, ends, strict=True)]), return_inverse=True
    )
    sizes = np.concatenate([moves.bytes[takes] for _, takes in ends])
    total = np.bincount(index, sizes, known.size)
    busiest = np.zeros(wave.size)
    for key, (_, takes) in zip(keys, ends, strict=True):
        busiest[takes] = np.maximum(busiest[takes], total[np.searchsorted(known, key[takes])])
    return busiest / cluster.policy.copy_bytes_per_second

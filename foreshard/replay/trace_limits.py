"""What limits what a replay can tell of a load, and which loads are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from foreshard.errors import ForeshardError

# What the forecast engine asks of a shard before it uses more than its level.
_HISTORY_DAYS = 7
# Requests per second that the busiest moment of any pool is between.
_LOWEST, _HIGHEST = 1e-9, 1e15


def limits_of(intervals: int, with_rows: int, interval_seconds: int, one: str = "") -> tuple[str, ...]:
    """Sentences for a reader; `with_rows`: intervals that have any; `one`: what there is only one of, if so."""
    days, notes = intervals * interval_seconds / 86_400, []
    if days < 2 * _HISTORY_DAYS:
        notes.append(
            f"{days:.4g} days are less than a week of training and a week of test: weekly cycles cannot be seen in them"
        )
    if with_rows < intervals:
        notes.append(f"{intervals - with_rows} of {intervals} intervals have no row; they count as without load")
    if one:
        notes.append(f"one {one}: its load cannot be divided over shards, only over replicas of one")
    return tuple(notes)


def refuse_unbelievable(rates: npt.NDArray[np.float64], where: Path) -> None:
    """Raises ForeshardError for requests per second (T, S) so high or low that sums of them would not be numbers."""
    highest = float(rates.max()) * rates.shape[1]
    if not _LOWEST <= highest <= _HIGHEST:
        raise ForeshardError(
            f"{where}: the highest load is {highest:.3g} requests per second; a replay takes {_LOWEST:g} to {_HIGHEST:g}, so "
            "look for a wrong count"
        )

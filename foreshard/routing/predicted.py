"""The forecast that an epoch carries: each shard's load at each interval, as columns, of which a large pool has long ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import overload

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class PredictedLoad:
    """Predicted load of one shard over one interval, weighted requests per second; interval_start in UTC."""

    shard_id: int
    interval_start: datetime
    mean: float


class PredictedLoads(Sequence[PredictedLoad]):
    """Reads like a tuple of PredictedLoad, and equals one with the same items; the columns are for who needs them all at once.

    `shard`, `at` (index into `starts`) and `mean` have one entry per item, in the order of the items.
    """

    __slots__ = ("at", "mean", "shard", "starts")

    def __init__(
        self, starts: Sequence[datetime], shard: NDArray[np.int32], at: NDArray[np.int32], mean: NDArray[np.float64]
    ) -> None:
        """Raises ValueError if the columns do not fit each other."""
        if not len(shard) == len(at) == len(mean) or (len(at) and not 0 <= int(at.min()) <= int(at.max()) < len(starts)):
            raise ValueError("the columns of predicted loads do not fit each other")
        self.starts, self.shard, self.at, self.mean = tuple(starts), shard, at, mean

    @classmethod
    def of(cls, items: Iterable[PredictedLoad]) -> PredictedLoads:
        """The same items; those that are columns already stay as they are."""
        if isinstance(items, PredictedLoads):
            return items
        rows = list(items)
        index: dict[datetime, int] = {}
        at = [index.setdefault(row.interval_start, len(index)) for row in rows]
        return cls(
            tuple(index),
            np.array([row.shard_id for row in rows], np.int32),
            np.array(at, np.int32),
            np.array([row.mean for row in rows], np.float64),
        )

    @classmethod
    def of_series(cls, shards: Sequence[int], starts: Sequence[datetime], means: Sequence[Sequence[float]]) -> PredictedLoads:
        """Each shard's means at all starts, shard after shard; `means` has a row per shard."""
        return cls(
            starts,
            np.repeat(np.array(shards, np.int32), len(starts)),
            np.tile(np.arange(len(starts), dtype=np.int32), len(shards)),
            np.array(means, np.float64).reshape(-1),
        )

    def __len__(self) -> int:
        return len(self.shard)

    @overload
    def __getitem__(self, place: int) -> PredictedLoad: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[PredictedLoad, ...]: ...
    def __getitem__(self, place: int | slice) -> PredictedLoad | tuple[PredictedLoad, ...]:
        if isinstance(place, slice):
            return tuple(PredictedLoads(self.starts, self.shard[place], self.at[place], self.mean[place]))
        return PredictedLoad(int(self.shard[place]), self.starts[int(self.at[place])], float(self.mean[place]))

    def __iter__(self) -> Iterator[PredictedLoad]:
        starts = map(self.starts.__getitem__, self.at.tolist())
        return map(PredictedLoad, self.shard.tolist(), starts, self.mean.tolist())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, PredictedLoads):
            return self._columns_equal(other)
        return isinstance(other, tuple) and len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    def _columns_equal(self, other: PredictedLoads) -> bool:
        if not (np.array_equal(self.shard, other.shard) and np.array_equal(self.mean, other.mean)):
            return False
        mine, others = (np.array([s.timestamp() for s in p.starts])[p.at] if len(p) else p.mean for p in (self, other))
        return bool(np.array_equal(mine, others))

    def __hash__(self) -> int:
        return hash((len(self), *self[:1]))

    def __repr__(self) -> str:
        return f"PredictedLoads({len(self)} of {len(set(self.shard.tolist()))} shards)"


def from_timestamps(seconds: Iterable[float]) -> tuple[datetime, ...]:
    return tuple(datetime.fromtimestamp(second, UTC) for second in seconds)

"""Columns as text for a snapshot's document: numbers as base64 of their little-endian bytes, names and days as indices."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foreshard.model import Replica
from foreshard.routing.predicted import PredictedLoad, PredictedLoads, from_timestamps

Column = NDArray[Any]


def packed_replicas(replicas: Sequence[Replica]) -> dict[str, Any]:
    """{"names", "days", "shard", "node", "weight", "day"}; `node` and `day` are indices into the lists, in order of use."""
    names: dict[str, int] = {}
    days: dict[date | None, int] = {}
    return {
        "shard": _text([r.shard_id for r in replicas], "<i4"),
        "node": _text([names.setdefault(r.node_id, len(names)) for r in replicas], "<i4"),
        "weight": _text([r.weight for r in replicas], "<f8"),
        "day": _text([days.setdefault(r.covers_from, len(days)) for r in replicas], "<i4"),
        "names": list(names),
        "days": [day.isoformat() if day else None for day in days],
    }


def unpacked_replicas(packed: dict[str, Any]) -> tuple[Replica, ...]:
    """Raises ValueError, KeyError or IndexError if it was not written by packed_replicas."""
    names = packed["names"]
    days = [date.fromisoformat(day) if day else None for day in packed["days"]]
    return tuple(
        map(
            Replica,
            _column(packed["shard"], "<i4").tolist(),
            map(names.__getitem__, _column(packed["node"], "<i4").tolist()),
            _column(packed["weight"], "<f8").tolist(),
            map(days.__getitem__, _column(packed["day"], "<i4").tolist()),
        )
    )


def packed_loads(predicted: Sequence[PredictedLoad]) -> dict[str, Any]:
    """{"starts" (seconds), "shard", "at", "mean"}; `at` is an index into the starts."""
    columns = PredictedLoads.of(predicted)
    return {
        "starts": [start.timestamp() for start in columns.starts],
        "shard": _text(columns.shard, "<i4"),
        "at": _text(columns.at, "<i4"),
        "mean": _text(columns.mean, "<f8"),
    }


def unpacked_loads(packed: dict[str, Any]) -> PredictedLoads:
    """Raises ValueError or KeyError if it was not written by packed_loads."""
    shard, at = _column(packed["shard"], "<i4"), _column(packed["at"], "<i4")
    return PredictedLoads(from_timestamps(packed["starts"]), shard, at, _column(packed["mean"], "<f8"))


def _text(values: Sequence[float] | Column, kind: str) -> str:
    return base64.b64encode(np.asarray(values, kind).tobytes()).decode("ascii")


def _column(text: str, kind: str) -> Column:
    return np.frombuffer(base64.b64decode(text), kind)

"""Costlier families join a series where they pay: where they make the backtest's pinball loss at 0.95 clearly smaller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from foreshard.forecast import calibration, combination
from foreshard.forecast.batch import Backtest, Batch, Floats, Prediction
from foreshard.forecast.combination import Blend
from foreshard.forecast.families import FAMILIES

LEVEL = 0.95
# The loss must fall to this share of the incumbent's, over at least so many windows; otherwise the incumbent stays.
_WORTH, _LEAST_WINDOWS = 0.95, 14


def joined(
    batch: Batch, backtest: Backtest, members: Mapping[str, Prediction], learnt: Mapping[str, Any], rows: Sequence[int]
) -> Blend:
    """The blend of the cheap members, with those of each family of `learnt` in those of `rows` where it pays, and nowhere else.

    Only the series of `rows` are fitted by these families.
    """
    offered: dict[str, Prediction] = {}
    if rows:
        few = batch.take(rows)
        for name, what in learnt.items():
            for member, made in FAMILIES[name].predict(few, backtest, what).items():
                offered[member] = Prediction(_among(len(batch), rows, made.mean), _among(len(batch), rows, made.backtest))
    return chosen(batch, backtest, members, offered)


def _among(count: int, rows: Sequence[int], values: Floats) -> Floats:
    """The rows' values, and NaN for all others."""
    whole = np.full((count, *values.shape[1:]), np.nan)
    whole[list(rows)] = values
    return whole


def chosen(batch: Batch, backtest: Backtest, members: Mapping[str, Prediction], offered: Mapping[str, Prediction]) -> Blend:
    """The members with each offered one, in turn, in the series where it pays."""
    current = dict(members)
    for name, prediction in offered.items():
        without = combination.blend(batch, backtest, current)
        with_it = combination.blend(batch, backtest, {**current, name: prediction})
        windows = np.isfinite(without.errors).all(axis=2).sum(axis=1)
        pays = (windows >= _LEAST_WINDOWS) & (pinball(with_it) < _WORTH * pinball(without))
        mean = np.where(pays[:, None], prediction.mean, np.nan)
        current[name] = Prediction(mean, np.where(pays[:, None, None], prediction.backtest, np.nan))
    return combination.blend(batch, backtest, current)


def pinball(blend: Blend) -> Floats:
    """The mean pinball loss at LEVEL of each series' backtest, every window with the others' errors for its own quantile."""
    with np.errstate(invalid="ignore"):
        own = calibration.left_out_quantile(blend.errors, LEVEL)
        left = blend.errors - own[:, :, None]
        loss = np.where(left >= 0, LEVEL * left, (LEVEL - 1) * left)
    known = np.isfinite(loss)
    mean: Floats = np.where(known, loss, 0.0).sum(axis=(1, 2)) / np.maximum(known.sum(axis=(1, 2)), 1)
    return mean

"""Members combined with weights per series, by the inverse square of what each one's backtest was off.

Recent windows count more. A window's own blend uses weights found without that window, so that the blend's errors are those
of a forecast that did not see what it is judged by.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foreshard.forecast.batch import Backtest, Batch, Floats, Prediction
from foreshard.forecast.lags import known_windows

Flags = npt.NDArray[np.bool_]
# A window counts this much of the next newer one.
DECAY = 0.9
_FLOOR = 1e-6


@dataclass(frozen=True)
class Blend:
    """`mean` (series, horizon); `fitted` and `errors` (actual − fitted, NaN where unknown), both (series, windows, horizon);
    `weights` (members, series); `spread`: how far the members are apart, weighted, at each window and, last, in the forecast,
    (series, windows + 1, horizon)."""

    names: tuple[str, ...]
    mean: Floats
    fitted: Floats
    errors: Floats
    weights: Floats
    spread: Floats

    def described(self) -> list[str]:
        """Per series the members that matter, the heaviest first, such as `0.61 spar+0.39 weekly_mean`."""
        order = np.argsort(-self.weights, axis=0, kind="stable")
        return [self._of_one(order[:, row], self.weights[:, row]) for row in range(self.weights.shape[1])]

    def _of_one(self, order: npt.NDArray[np.intp], weights: Floats) -> str:
        shown = [i for i in order[:3] if weights[i] >= 0.1] or [order[0]]
        return "+".join(f"{weights[i]:.2f} {self.names[i]}" for i in shown)


def age_weights(windows: int) -> Floats:
    """How much each window counts, oldest first, shape (windows,)."""
    weights: Floats = DECAY ** np.arange(windows - 1, -1, -1, dtype=np.float64)
    return weights


def blend(batch: Batch, backtest: Backtest, members: Mapping[str, Prediction]) -> Blend:
    """The members' means and backtests with weights ∝ 1 / (mean square error)²; loads are not below zero.

    A member that is NaN anywhere in a series has no weight there. Without a window to judge by all have the same.
    """
    names = tuple(members)
    actual, judged = backtest.windows(batch.values), known_windows(batch, backtest)
    means = np.stack([members[name].mean for name in names])
    tried = np.stack([members[name].backtest for name in names])
    usable: Flags = np.logical_and(np.isfinite(means).all(axis=2), np.isfinite(tried).all(axis=(2, 3)))
    if not usable.all():
        means, tried = np.where(usable[..., None], means, 0.0), np.where(usable[..., None, None], tried, 0.0)
    with np.errstate(invalid="ignore"):
        squares = np.where(judged, (actual - tried) ** 2, 0.0).sum(axis=3)
    age = age_weights(len(backtest.starts))
    squares *= age
    known = judged.sum(axis=2) * age
    floor = (
        _FLOOR * (np.where(judged, actual, 0.0) ** 2).sum(axis=(1, 2)) / max(judged[0].size if len(judged) else 1, 1) + 1e-12
    )
    total, count = squares.sum(axis=2), known.sum(axis=1)
    weights = _weights(total / np.maximum(count, 1e-300), floor, usable)
    without = (total[..., None] - squares) / np.maximum(count[:, None] - known, 1e-300)
    left_out = _weights(without, floor[:, None], usable[..., None])
    mean = np.einsum("fn,fnh->nh", weights, means)
    fitted = np.einsum("fnw,fnwh->nwh", left_out, tried)
    spread = np.empty((len(batch), len(backtest.starts) + 1, backtest.horizon))
    spread[:, :-1] = np.sqrt(np.einsum("fnw,fnwh->nwh", left_out, (tried - fitted) ** 2))
    spread[:, -1] = np.sqrt(np.einsum("fn,fnh->nh", weights, (means - mean) ** 2))
    fitted = np.maximum(fitted, 0.0)
    return Blend(names, np.maximum(mean, 0.0), fitted, np.where(judged, actual - fitted, np.nan), weights, spread)


def _weights(error: Floats, floor: Floats, usable: Flags) -> Floats:
    """Inverse squares of the mean square errors, over the members (first axis)."""
    raw = np.where(usable, (error + floor) ** -2.0, 0.0)
    # Scaled first: squares of small errors would overflow.
    raw = raw / np.maximum(raw.max(axis=0, keepdims=True), 1e-300)
    weights: Floats = raw / np.maximum(raw.sum(axis=0, keepdims=True), 1e-300)
    return weights

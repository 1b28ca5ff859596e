"""How far a forecast is to be trusted: the share of what it foresaw that came."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def measured_skill(predicted: Sequence[float], observed: Sequence[float]) -> float:
    """0 (no better than knowing nothing) to 1, from pairs of what was predicted and what then was; 1 without any spread.

    The slope of the regression of the observed on the predicted deviations from their means, cut off at 0 and 1. A forecast
    shrunk toward even by it has the least squared error that any shrinking gives it (James and Stein's idea), so that it is
    never worse than even on what it was measured on. Scale doesn't matter: each side is divided by its mean. Time O(pairs).
    """
    x, y = np.asarray(predicted, dtype=np.float64), np.asarray(observed, dtype=np.float64)
    if not x.size or not x.mean() or not y.mean():
        return 1.0
    foreseen, came = x / x.mean() - 1.0, y / y.mean() - 1.0
    spread = float(foreseen @ foreseen)
    return 1.0 if spread == 0.0 else float(np.clip(foreseen @ came / spread, 0.0, 1.0))

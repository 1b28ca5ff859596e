"""Gradient-boosted trees that correct simpler forecasts, one model of the whole fleet: an extra, `pip install foreshard[ml]`.

Source: Ke et al. 2017, "LightGBM". A row is a series, an origin and a step ahead, so a forecast never feeds on itself. Trees
cannot see a window before they forecast it: the backtest's older half is forecast by trees of the newer half's windows, and the
other way round, without the windows that reach into the other half; the future by trees of all.

Most of the time goes into learning, once a fleet, from at most _ROWS rows: some 15 to 20 CPU seconds at 414 hourly series. What
a series costs after that is about 4 ms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from foreshard.errors import ForeshardError
from foreshard.forecast.batch import Backtest, Batch, Floats, Prediction
from foreshard.forecast.spar import Coefficients, Spar
from foreshard.forecast.tree_features import Known, known

Steps = npt.NDArray[np.intp]

# Member → the forecast that its trees correct.
MEMBERS = {"lightgbm": "blend", "lightgbm_daily": "yesterday"}
# More rows cost time and change little.
_ROWS = 200_000
# Fewer teach nothing that holds beyond them.
_LEAST_ROWS = 500
# In units of the series' scale: a few bursts are no rule.
_FARTHEST = 8.0
_SETTINGS: Mapping[str, Any] = {
    "objective": "l1",
    "learning_rate": 0.1,
    "num_leaves": 31,
    "min_data_in_leaf": 40,
    "max_bin": 63,
    "lambda_l2": 1.0,
    "feature_fraction": 0.7,
    "bagging_fraction": 0.5,
    "bagging_freq": 1,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}


@dataclass(frozen=True)
class Trees:
    """One member's trees in the library's text form, empty where there was too little to learn from."""

    for_older: str
    for_newer: str
    for_future: str


@dataclass(frozen=True)
class Learnt:
    """`spar`: what the blend needs; `trees` by member. Windows that begin more than `boundary` steps before the end of the
    history are the older half."""

    spar: Coefficients
    trees: Mapping[str, Trees]
    boundary: int


@dataclass(frozen=True)
class LightGBM:
    """Members `lightgbm`, which corrects the blend of the families that need no extra, and `lightgbm_daily`, which corrects
    yesterday's value. `seed` draws the rows and features of each tree, of which there are `rounds`."""

    seed: int = 0
    rounds: int = 100
    name: str = "lightgbm"
    # Trees of the fleet are learnt once; what a series costs beside that is little, so they join every series.
    is_cheap: bool = True

    def learn(self, sample: Batch, backtest: Backtest) -> Learnt:
        """Trees of the sample's windows. Raises ForeshardError without the extra."""
        _library()
        coefficients = Spar().learn(sample, backtest)
        windows = len(backtest.starts)
        most = max(_ROWS // max(windows * backtest.horizon, 1), 1)
        told = known(sample.take(range(min(most, len(sample)))), backtest, coefficients)
        starts = np.asarray(backtest.starts, dtype=np.intp)
        boundary = int(sample.steps - starts[(windows - 1) // 2]) - 1 if windows else 0
        is_older = _is_older(sample, starts, boundary)
        apart_from_older = starts >= starts[is_older].max(initial=-backtest.horizon) + backtest.horizon
        apart_from_newer = starts + backtest.horizon <= starts[~is_older].min(initial=sample.steps)
        trees = {
            member: Trees(
                self._trees(told, base, ~is_older & apart_from_older),
                self._trees(told, base, is_older & apart_from_newer),
                self._trees(told, base, np.ones(windows, dtype=np.bool_)),
            )
            for member, base in MEMBERS.items()
        }
        return Learnt(coefficients, trees, boundary)

    def predict(self, batch: Batch, backtest: Backtest, learnt: Learnt) -> Mapping[str, Prediction]:
        """Raises ForeshardError without the extra."""
        _library()
        told = known(batch, backtest, learnt.spar)
        windows = np.arange(len(backtest.starts))
        is_older = _is_older(batch, np.asarray(backtest.starts, dtype=np.intp), learnt.boundary)
        made = {}
        for member, base in MEMBERS.items():
            trees = learnt.trees[member]
            forecast = told.bases[base].copy()
            parts = ((trees.for_older, windows[is_older]), (trees.for_newer, windows[~is_older]))
            for text, origins in (*parts, (trees.for_future, np.array([len(windows)], dtype=np.intp))):
                forecast[:, origins] += _correction(told, base, text, origins)
            made[member] = Prediction.of(np.maximum(forecast, 0.0) * told.scale)
        return made

    def _trees(self, told: Known, base: str, chosen: npt.NDArray[np.bool_]) -> str:
        """Trees of the chosen windows. Calm series count more than wild ones, as they do in the fleet's SPAR."""
        library = _library()
        origins = np.flatnonzero(chosen)
        target = np.clip(told.target(base, origins), -_FARTHEST, _FARTHEST)
        is_known = np.isfinite(target)
        if is_known.sum() < _LEAST_ROWS:
            return ""
        size = np.where(is_known, np.abs(target), 0.0).sum(axis=(1, 2)) / np.maximum(is_known.sum(axis=(1, 2)), 1)
        weight = 1.0 / (size + 0.5 * np.median(size) + 1e-9)
        weights = np.broadcast_to((weight / weight.mean())[:, None, None], target.shape)[is_known]
        rows = told.rows(base, origins)[is_known]
        data = library.Dataset(rows, target[is_known], weight=weights, params=dict(_SETTINGS))
        text: str = library.train({**_SETTINGS, "seed": self.seed}, data, self.rounds).model_to_string()
        return text


def _library() -> Any:
    """Imported late: the other families do without the extra."""
    try:
        import lightgbm
    except (ImportError, OSError) as error:
        raise ForeshardError(
            f"the model lightgbm needs a library that is not there ({error}): pip install foreshard[ml]"
        ) from None
    return lightgbm


def _is_older(batch: Batch, starts: Steps, boundary: int) -> npt.NDArray[np.bool_]:
    older: npt.NDArray[np.bool_] = batch.steps - starts > boundary
    return older


def _correction(told: Known, base: str, text: str, origins: Steps) -> Floats | float:
    """What the trees add to the base at some origins; nothing where there are no trees, no origins or no series."""
    if not text or not len(origins) or not len(told.scale):
        return 0.0
    rows = told.rows(base, origins)
    said: Floats = _booster(text).predict(rows.reshape(-1, rows.shape[3]), num_threads=1)
    return said.reshape(rows.shape[:3])


# Reading a model takes longer than a chunk of series does.
@lru_cache(maxsize=16)
def _booster(text: str) -> Any:
    return _library().Booster(model_str=text)

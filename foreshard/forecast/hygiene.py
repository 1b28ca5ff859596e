"""What is done to histories before a fit: faults and outages masked, and a named reason where no family can forecast a series.

Only fits see the masks: forecasts are scored against the values as they came.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from foreshard.forecast.batch import DAY, WEEK, Batch, Floats
from foreshard.forecast.weekly import trimmed_mean

Bools = npt.NDArray[np.bool_]

NO_VALUES = "no value in the history"
NO_LOAD = "no load in the history"
DEAD = "no load in the last 7 days"
NEW = "less than 7 days of history"
SPARSE = "less than half a week of values is known"
CONSTANT = "the history is constant"
REASONS = (NO_VALUES, NO_LOAD, DEAD, NEW, SPARSE, CONSTANT)

# More than this is taken for infinite: a double does not count it in ones any more.
MOST_LOAD = 1e15
# A load below this share of what its own profile says is as good as none.
NEAR_ZERO = 0.05
# A run of near zeros is an outage when it lacks this many times the usual deviation, ...
_DEVIATIONS = 6.0
# ... and the series is this rarely near zero where its profile says load.
_RARELY = 0.1
# The load may be gone for good when it has been away for longer: forecasts have to follow it then. Pedestrian counters and
# bicycle stations that were silent for up to 6 hours came back within a day, those of more than 12 hours did not.
_LONGEST_AT_END = DAY / 2
# The fleet's sum scatters less: it is out below this share already, and for a single step too.
_FLEET_SHARE = 0.2
_WEEKS = 8


@dataclass(frozen=True)
class Cleaned:
    """A batch for the families, and what was done to it.

    `batch`: NaN where a value is not to be used. `raw`: the batch as it came, to score against. `reasons`: why the families
    cannot forecast a series, one of REASONS, empty where they can. `masked`: what was masked → values of each series, shape
    (series,).
    """

    batch: Batch
    raw: Batch
    reasons: tuple[str, ...]
    masked: Mapping[str, npt.NDArray[np.intp]]

    def notes(self) -> tuple[str, ...]:
        """What was masked of each series, in words; empty where nothing was."""
        notes = [""] * len(self.batch)
        for kind, counts in self.masked.items():
            for i in np.flatnonzero(counts):
                notes[i] += f"{', ' if notes[i] else ''}{counts[i]} {kind}"
        return tuple(f"masked: {note}" if note else "" for note in notes)


def fleet_outages(sample: Batch, spared: Bools | None = None) -> Bools:
    """The steps at which the whole fleet, of which `sample` is a part, was out: shape (steps,). Handed to `clean` for every
    batch.

    Judged by the sum of the series, as `clean` judges one; not the steps at which most of `spared` (series, steps) is set.
    """
    is_load = (sample.values > 0) & (sample.values <= MOST_LOAD)
    total = np.where(is_load, sample.values, 0.0).sum(axis=0, keepdims=True)
    total[:, ~np.isfinite(sample.values).any(axis=0)] = np.nan
    most = None if spared is None or not len(spared) else spared.mean(axis=0, keepdims=True) > 0.5
    out: Bools = _outages(total, sample, most, _FLEET_SHARE, least=1, longest_at_end=sample.steps)[0]
    return out


def clean(batch: Batch, fleet: Bools | None = None, spared: Bools | None = None) -> Cleaned:
    """Masks what is no load, and names the series that the families cannot forecast.

    Masked are values that are not finite or are below zero, zeros of more than 7 days before a series begins, the steps of
    `fleet` (from `fleet_outages`), and a series' own outages: runs far below what its own profile says, but for the steps in
    `spared` (series, steps), where events explain them. An own outage that lasts to the end of the history is masked for up to
    half a day. A row of the result depends on that row, on `fleet` and on `spared` alone. Running time: linear in the values.
    """
    raw = batch.values
    if not batch.steps:
        return Cleaned(batch, batch, (NO_VALUES,) * len(batch), {})
    masks: dict[str, Bools] = {}
    masks["values that are not finite"] = np.abs(raw) > MOST_LOAD
    masks["values below zero"] = (raw < 0) & (raw >= -MOST_LOAD)
    values = np.where((raw >= 0) & (raw <= MOST_LOAD), raw, np.nan)
    masks["zeros before it began"] = _leading_zeros(values, batch)
    values[masks["zeros before it began"]] = np.nan
    known = values.copy()
    if fleet is not None and fleet.any():
        masks["values in an outage of the fleet"] = np.isfinite(values) & fleet
        values[:, fleet] = np.nan
    longest = batch.steps_per(_LONGEST_AT_END)
    masks["values in an outage"] = _outages(values, batch, spared, NEAR_ZERO, least=2, longest_at_end=longest)
    values[masks["values in an outage"]] = np.nan
    reasons = _reasons(values, known, batch)
    counts = {kind: mask.sum(axis=1) for kind, mask in masks.items()}
    return Cleaned(replace(batch, values=values), batch, reasons, counts)


def _leading_zeros(values: Floats, batch: Batch) -> Bools:
    is_before = ~np.logical_or.accumulate(values > 0, axis=1)
    zeros = is_before & (values == 0)
    is_long = zeros.sum(axis=1) > batch.steps_per(WEEK)
    # Of a series that never began the zeros are all there is to say.
    has_begun = ~is_before.all(axis=1)
    leading: Bools = zeros & (is_long & has_begun)[:, None]
    return leading


def _profile(values: Floats, batch: Batch) -> Floats:
    """What is usual at each step, shape (series, steps): the mean of the middle half of its time of the week, of its time of
    the day while there are not three weeks, or of everything while there are not three days; NaN where nothing is known."""
    steps = values.shape[1]
    period = next((p for p in (batch.steps_per(WEEK), batch.steps_per(DAY)) if p > 0 and 3 * p <= steps), 1)
    recent = values[:, max(steps - _WEEKS * period, 0) :] if period > 1 else values
    # Periods are counted from the end of the history, so that the newest is whole.
    whole = -(-recent.shape[1] // period) * period
    padded = np.full((len(values), whole), np.nan)
    padded[:, whole - recent.shape[1] :] = recent
    usual = trimmed_mean(padded.reshape(len(values), -1, period))
    return usual[:, (np.arange(steps) - steps) % period]


def _outages(values: Floats, batch: Batch, spared: Bools | None, share: float, least: int, longest_at_end: int) -> Bools:
    """Where series are below a share of their profile for at least so many steps, and for at most so many up to the end, and
    that is more than scatter; shape (series, steps)."""
    usual = _profile(values, batch)
    # Unknown values and profiles compare as false.
    is_low = (values <= share * usual) & (usual > 0)
    is_judged = (values >= 0) & (usual > 0)
    candidates = np.flatnonzero(is_low.any(axis=1) & (is_low.sum(axis=1) <= _RARELY * is_judged.sum(axis=1)))
    result = np.zeros(values.shape, dtype=bool)
    if not len(candidates):
        return result
    low, own, usual = is_low[candidates], values[candidates], usual[candidates]
    is_known = is_judged[candidates]
    expected, actual = np.where(is_known, usual, 0.0), np.where(is_known, own, 0.0)
    if spared is not None:
        low &= ~spared[candidates]
    # Loads scatter with the root of their level; the mean deviation of steps that are not low tells by how much.
    is_usual = is_known & ~is_low[candidates]
    scaled = np.abs(actual - expected) / np.sqrt(np.maximum(expected, 1e-300))
    scatter = 1.25 * np.where(is_usual, scaled, 0.0).sum(axis=1) / np.maximum(is_usual.sum(axis=1), 1)
    run = _runs(low)
    length = _sum_by_run(run, low.astype(np.float64))
    lacking = _sum_by_run(run, np.where(low, expected - actual, 0.0))
    size = _sum_by_run(run, np.where(low, expected, 0.0))
    is_out = low & (lacking > _DEVIATIONS * scatter[:, None] * np.sqrt(size)) & (length >= least)
    reaches_end = low[:, -1:] & (run == run[:, -1:])
    too_long = reaches_end & (length > longest_at_end)
    result[candidates] = is_out & ~too_long
    return result


def _runs(low: Bools) -> npt.NDArray[np.intp]:
    """A number for each run of equal values along the rows; no two rows share one."""
    begins = np.ones(low.shape, dtype=bool)
    begins[:, 1:] = low[:, 1:] != low[:, :-1]
    return np.cumsum(begins.ravel(), dtype=np.intp).reshape(low.shape) - 1


def _sum_by_run(run: npt.NDArray[np.intp], values: Floats) -> Floats:
    return np.asarray(np.bincount(run.ravel(), weights=values.ravel())[run], dtype=np.float64)


def _reasons(values: Floats, known: Floats, batch: Batch) -> tuple[str, ...]:
    """`values`: what the families get. `known`: what the series really did, outages included."""
    week = max(batch.steps_per(WEEK), 1)
    count = np.isfinite(values).sum(axis=1)
    # These leave NaN out, unlike max and min.
    highest, lowest = np.fmax.reduce(values, axis=1), np.fmin.reduce(values, axis=1)
    is_known = np.isfinite(known)
    begins = np.where(is_known.any(axis=1), is_known.argmax(axis=1), batch.steps)
    last_week = known[:, -week:]
    is_dead = ~(last_week > 0).any(axis=1) & (np.isfinite(last_week).sum(axis=1) * 2 >= week)
    # In the order of REASONS: the first that holds is named.
    tests = (
        count == 0,
        ~(known > 0).any(axis=1),
        is_dead & (batch.steps >= week),
        batch.steps - begins < week,
        count * 2 < week,
        highest == lowest,
    )
    first = np.argmax(np.column_stack([*tests, np.ones(len(batch), dtype=bool)]), axis=1)
    named = (*REASONS, "")
    return tuple(named[i] for i in first)

"""From the forecasts of one run to its figures: by set, over all sets, and beside what is to be reached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks import forecast_metrics as metrics
from benchmarks.forecast_data import DataSet
from benchmarks.forecast_metrics import LEVELS, Scores

OURS = "foreshard"
WITH_LIGHTGBM = "foreshard + LightGBM"
M4, DRAWN = "m4_hourly", "drawn"
LEAST_COMPARED = 20  # series; a rival that came to fewer in its time is shown, but too uncertain to be the best
TOLERANCE = {0.90: 0.015, 0.95: 0.010, 0.99: 0.007}


@dataclass(frozen=True)
class Result:
    """One contestant on one set; CPU seconds."""

    scores: Scores
    seconds: float
    tried: int
    failed: int
    is_rival: bool

    @property
    def forecasts(self) -> int:
        return int(self.scores.done.sum())

    @property
    def is_whole(self) -> bool:
        return bool(self.scores.done.all())


def of_set(data: DataSet, results: Mapping[str, Result], skipped: int) -> dict[str, Any]:
    """The figures of one set, and which rival came nearest (or went ahead)."""
    ours = results.get(OURS)
    rows = next(iter(results.values())).scores.series
    entries = {name: _entry(found, ours if name != OURS else None) for name, found in results.items()}
    return {
        "name": data.name,
        "series": int(np.unique(rows).size),
        "origins": len(data.origins),
        "forecasts": len(rows),
        "context": data.context,
        "horizon": data.horizon,
        "step": f"{int(data.step.total_seconds() // 60)} min",
        "skipped": skipped,
        "contestants": entries,
        "best_rival": _best_rival(entries),
    }


def _entry(found: Result, ours: Result | None) -> dict[str, Any]:
    scores = found.scores
    compared = ours is not None and bool((scores.done & ours.scores.done).any())
    return {
        "is_rival": found.is_rival,
        "forecasts": found.forecasts,
        "series": int(np.unique(scores.series[scores.done]).size),
        "failed": found.failed,
        "spl95": asdict(metrics.mean_of(scores.spl, scores.series)),
        "spl95_median": float(np.nanmedian(scores.spl)) if found.forecasts else float("nan"),
        "mase": asdict(metrics.mean_of(scores.mase, scores.series)),
        "coverage": [asdict(metrics.mean_of(share, scores.series)) for share in scores.hits],
        "ms": 1000.0 * found.seconds / max(found.tried, 1),
        "against_foreshard": asdict(metrics.advantage(ours.scores, scores)) if ours is not None and compared else None,
    }


def _best_rival(entries: Mapping[str, dict[str, Any]]) -> str | None:
    """The rival that loses least beside foreshard on the same rows (without foreshard in the run: the lowest SPL95)."""
    rivals = {n: e for n, e in entries.items() if e["is_rival"] and e["series"] >= LEAST_COMPARED}
    if not rivals:
        return None
    return min(rivals, key=lambda n: (rivals[n]["against_foreshard"] or rivals[n]["spl95"])["value"])


def pooled(sets: Mapping[str, Mapping[str, Result]]) -> dict[str, Any]:
    """Over all sets, for those that forecast every row of each: means of the sets' figures; coverage of all outcomes."""
    names = [n for n in next(iter(sets.values())) if all(n in found and found[n].is_whole for found in sets.values())]
    figures = {}
    for name in names:
        found = [results[name] for results in sets.values()]
        shares = [metrics.pooled_mean([(r.scores.hits[i], r.scores.series) for r in found]) for i in range(len(LEVELS))]
        figures[name] = {
            "spl95": float(np.mean([r.scores.spl.mean() for r in found])),
            "mase": float(np.mean([r.scores.mase.mean() for r in found])),
            "coverage": [asdict(share) for share in shares],
            "ms": 1000.0 * sum(r.seconds for r in found) / sum(r.tried for r in found),
        }
    return figures


def targets(
    sets: Mapping[str, dict[str, Any]], over_all: Mapping[str, Any], agreement: Mapping[str, Any] | None
) -> list[dict[str, str]]:
    """Each figure that is to be reached, as far as this run measures it."""
    rows: list[dict[str, str]] = []

    def add(figure: str, measured: str, to_reach: str, met: bool) -> None:
        rows.append({"figure": figure, "measured": measured, "to_reach": to_reach, "met": "yes" if met else "no"})

    m4 = sets.get(M4, {"contestants": {}})["contestants"]
    for name, spl, mase in ((OURS, 0.112, 0.70), (WITH_LIGHTGBM, 0.107, 0.66)):
        if name in m4:
            value, error = m4[name]["spl95"]["value"], m4[name]["mase"]["value"]
            add(f"{name}: SPL95 on M4 hourly", f"{value:.4f}", f"≤ {spl}", value <= spl)
            add(f"{name}: MASE on M4 hourly", f"{error:.3f}", f"≤ {mase:.2f}", error <= mase)
    ahead = {
        name: _ahead(figures) for name, figures in sets.items() if OURS in figures["contestants"] and figures["best_rival"]
    }
    if M4 in ahead:
        add("better than the best rival on M4 hourly", _beside(sets[M4]), "interval above 0", ahead[M4])
    others = [is_ahead for name, is_ahead in ahead.items() if name not in (M4, DRAWN)]
    if len(others) >= 3:
        add("better than the best rival on traces", f"{sum(others)} of {len(others)}", "at least 3 of 5", sum(others) >= 3)
    if OURS in over_all:
        for level, share in zip(LEVELS, over_all[OURS]["coverage"], strict=True):
            shown = f"{share['value']:.2%} [{share['low']:.2%}, {share['high']:.2%}]"
            bound = TOLERANCE[level]
            add(
                f"outcomes ≤ q{round(100 * level)}, all sets",
                shown,
                f"{level:.0%} ± {100 * bound:.1f}",
                abs(share["value"] - level) <= bound,
            )
    if OURS in m4:
        cost = m4[OURS]["ms"]
        add(
            "ms a series, one core, M4 hourly",
            f"{cost:.2f}",
            "≤ 1.0",
            cost <= 1.0,
        )
    if agreement:
        near, far, faster = agreement["median"], agreement["p90"], agreement["library_ms"] / agreement["ms"]
        where = f"batched_prophet, {agreement['set']}: "
        add(where + "median distance from Prophet's yhat", f"{near:.2%}", "≤ 0.2 %", near <= 0.002)
        add(where + "90th percentile of the distance", f"{far:.2%}", "≤ 0.5 %", far <= 0.005)
        shown = f"{faster:,.0f} × ({agreement['ms']:.3f} against {agreement['library_ms']:.0f} ms a series)"
        add(where + "times as fast as Prophet", shown, "≥ 500 ×", faster >= 500)
    return rows


def _ahead(figures: Mapping[str, Any]) -> bool:
    difference = figures["contestants"][figures["best_rival"]]["against_foreshard"]
    return difference is not None and difference["low"] > 0


def _beside(figures: Mapping[str, Any]) -> str:
    rival = figures["best_rival"]
    found = figures["contestants"][rival]["against_foreshard"]
    return f"{found['value']:+.4f} [{found['low']:+.4f}, {found['high']:+.4f}] to {rival}"

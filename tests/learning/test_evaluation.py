"""Evaluation: every figure against a plain computation over the same rows, and what old, empty and odd scores give."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from drawn_scores import START, drawn_scores

from foreshard.errors import ForeshardError
from foreshard.forecast.batch import LEVELS
from foreshard.learning.evaluation import QUANTILES, Figures, days_of, evaluate, series_of, stored_scores
from foreshard.settings import Settings


@pytest.fixture(scope="module")
def scores() -> pd.DataFrame:
    return drawn_scores()


def arrow(frame: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(frame, preserve_index=False)


def assert_figures(found: Figures, rows: pd.DataFrame) -> None:
    """The same, computed row by row."""
    error = (rows.actual - rows["mean"]).abs()
    beside = rows[rows.naive.notna()]
    naive = (beside.actual - beside.naive).abs()
    assert (found.shards, found.intervals) == (rows.shard_id.nunique(), len(rows))
    assert found.error == pytest.approx(error.mean())
    assert found.mean_load == pytest.approx(rows.actual.mean())
    if naive.sum() > 0:
        assert found.skill == pytest.approx(1 - error[rows.naive.notna()].sum() / naive.sum())
        loss = np.maximum(0.95 * (beside.actual - beside.q95), -0.05 * (beside.actual - beside.q95))
        assert found.scaled_pinball_95 == pytest.approx(loss.sum() / naive.sum())
    else:
        assert (found.skill, found.scaled_pinball_95) == (None, None)
    spread = rows[rows.q99 > rows.q50]
    for level, name in zip(LEVELS, QUANTILES, strict=True):
        pinball, covered, judged = found.at(level)
        off = rows.actual - rows[name]
        assert pinball == pytest.approx(np.maximum(level * off, (level - 1) * off).mean())
        assert judged == len(spread)
        assert covered == (pytest.approx((spread.actual <= spread[name]).mean()) if len(spread) else None)


def test_every_figure_is_that_of_its_rows(scores: pd.DataFrame) -> None:
    found = evaluate(arrow(scores), 60)
    assert_figures(found.whole, scores)
    leading = scores.model.map(
        {
            "0.61 spar+0.39 weekly_mean": "spar",
            "0.55 weekly_mean+0.45 spar": "weekly_mean",
            "spar": "spar",
            "fallback: less than 2 days of history": "fallback: less than 2 days of history",
        }
    )
    assert {figures.name for figures in found.models} == set(leading)
    for figures in found.models:
        assert_figures(figures, scores[leading == figures.name])
    bounds = {"up to 1 h": (0, 1), "1 to 6 h": (1, 6), "6 to 24 h": (6, 24)}
    assert [figures.name for figures in found.horizons] == list(bounds)
    for figures in found.horizons:
        low, high = bounds[figures.name]
        assert_figures(figures, scores[(scores.horizon_steps > low) & (scores.horizon_steps <= high)])
    assert [figures.name for figures in found.steps] == [str(step) for step in range(1, 25)]
    assert_figures(found.steps[6], scores[scores.horizon_steps == 7])
    losses = [figures.at(0.95)[0] for figures in found.worst]
    assert losses == sorted(losses, reverse=True)
    assert {f.name for f in found.worst} == {str(shard) for shard in range(1, 6)}, "the silent shard loses nothing"
    assert [f.name for f in found.busiest] == [
        str(s) for s in scores.groupby("shard_id").actual.mean().sort_values()[::-1].index
    ]
    assert_figures(found.worst[0], scores[scores.shard_id == int(found.worst[0].name)])


def test_buckets_are_hours_whatever_the_grain(scores: pd.DataFrame) -> None:
    assert [(f.name, f.intervals) for f in evaluate(arrow(scores), 15).horizons] == [
        ("up to 1 h", len(scores) * 4 // 24),
        ("1 to 6 h", len(scores) * 20 // 24),
    ]


def test_days_say_what_drift_and_levels_need(scores: pd.DataFrame) -> None:
    days = days_of(arrow(scores))
    assert [day.day for day in days] == sorted(set(scores.day))
    assert days == list(evaluate(arrow(scores), 60).days)
    one = scores[(scores.day == days[3].day) & (scores.q99 > scores.q50)]
    assert days[3].judged == len(one)
    assert days[3].covered == pytest.approx([(one.actual <= one[name]).mean() for name in QUANTILES])
    assert days[3].error < days[3].naive_error
    assert (days[0].error, days[0].naive_error) == (0.0, 0.0), "no naive before there was a day before"


def test_a_series_is_what_was_said_longest_before(scores: pd.DataFrame) -> None:
    (found,) = series_of(arrow(scores), [3, 99], 48)
    assert found.shard_id == 3
    assert len(found.times) == 48
    assert found.times[-1] == START + timedelta(hours=24 * 10 - 1)
    own = scores[scores.shard_id == 3].sort_values("origin").drop_duplicates("interval_start").set_index("interval_start")
    rows = own.loc[list(found.times)]
    assert found.mean == pytest.approx(rows["mean"].to_numpy())
    assert found.quantiles == pytest.approx(rows[list(QUANTILES)].to_numpy().T)
    assert list(found.steps_ahead) == list(rows.horizon_steps)
    assert min(found.steps_ahead[:-6]) >= 19


def test_scores_from_before_there_were_more_quantiles_still_count(scores: pd.DataFrame) -> None:
    old = scores.drop(columns=["q05", "q10", "q50", "q90", "q99"])
    found = evaluate(arrow(old), 60).whole
    new = evaluate(arrow(scores), 60).whole
    assert found.at(0.95) == pytest.approx(new.at(0.95))
    assert found.at(0.99) == (None, None, 0)
    assert found.error == pytest.approx(new.error)
    partly = pd.concat([old, scores[scores.day > date(2026, 3, 8)]])
    assert evaluate(arrow(partly), 60).whole.at(0.99)[2] < new.at(0.99)[2]


def test_only_the_newest_days_are_read_and_none_is_one_sentence(
    scores: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory
) -> None:
    settings = Settings(lake=str(tmp_path_factory.mktemp("lake")))
    with pytest.raises(ForeshardError, match="there are no scores yet; the learn job"):
        stored_scores(settings, 7)
    path = settings.table("forecast_score")
    write_deltalake(path, arrow(scores).slice(0, 0), partition_by=["day"])
    with pytest.raises(ForeshardError, match="there are no scores yet"):
        stored_scores(settings, 7)
    write_deltalake(path, arrow(scores), mode="append")
    assert {d.day for d in days_of(stored_scores(settings, 3))} == {date(2026, 3, 9), date(2026, 3, 10), date(2026, 3, 11)}
    assert days_of(stored_scores(settings, 1, date(2026, 3, 11)))[0].day == date(2026, 3, 10)

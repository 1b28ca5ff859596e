"""`foreshard forecast evaluate`: its tables, its document, its pictures, and one sentence where there is nothing to show."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from drawn_scores import drawn_scores
from matplotlib.colors import to_rgb
from typer.testing import CliRunner

from foreshard.cli import app
from foreshard.drawing import BLUE, VERMILION
from foreshard.errors import ForeshardError
from foreshard.forecast.batch import LEVELS
from foreshard.lake import log
from foreshard.learning.drift import Drift
from foreshard.learning.evaluation import days_of, stored_scores
from foreshard.learning.learnt import Learnt, learn_of_days, read_learnt
from foreshard.settings import Settings, load

DAYS = 16
CHANGED = date(2026, 3, 15)


@pytest.fixture
def settings_file(tmp_path: Path) -> Path:
    path = tmp_path / "foreshard.toml"
    path.write_text(f'lake = "{tmp_path}/lake"\n')
    return path


@pytest.fixture
def scored(settings_file: Path) -> Settings:
    """Scores of 16 days; in the last three, loads were a half higher than anyone could know."""
    settings = load(settings_file)
    frame = drawn_scores(days=DAYS, shards=5, seed=4, every=12)
    frame.loc[frame.day >= CHANGED, "actual"] *= 1.5
    write_deltalake(settings.table("forecast_score"), pa.Table.from_pandas(frame, preserve_index=False), partition_by=["day"])
    return settings


def said(settings_file: Path, *words: str) -> str:
    result = CliRunner().invoke(app, ["forecast", "evaluate", "--settings", str(settings_file), *words], env={"COLUMNS": "180"})
    if result.exception:
        raise result.exception
    return result.stdout


def has_colour(path: Path, colour: str) -> bool:
    image = matplotlib.image.imread(path)[:, :, :3]
    return bool((np.abs(image - np.array(to_rgb(colour))).max(axis=2) < 0.005).any())


def test_without_scores_there_is_one_sentence(settings_file: Path) -> None:
    with pytest.raises(ForeshardError, match=r"^there are no scores yet; the learn job scores .* aggregated$"):
        said(settings_file)


def test_tables_name_models_horizons_and_the_worst_shards(settings_file: Path, scored: Settings) -> None:
    text = said(settings_file, "--days", "30")
    for words in (
        "By the heaviest model",
        "weekly_mean",
        "1 to 6 h",
        "Worst shards",
        "Nothing was learnt from these scores yet",
    ):
        assert words in text
    learn_of_days(scored, datetime(2026, 3, 18, tzinfo=UTC))
    text = said(settings_file)
    assert f"Drift since {CHANGED}: less was covered by the 95 % quantile than before" in text
    assert "Levels follow what was covered up to 2026-03-17" in text


def test_the_document_has_every_figure_and_the_pictures_show_the_drift(
    settings_file: Path, scored: Settings, tmp_path: Path
) -> None:
    learn_of_days(scored, datetime(2026, 3, 18, tzinfo=UTC))
    found: dict[str, Any] = json.loads(said(settings_file, "--json", "--out", str(tmp_path / "pictures")))
    assert (found["first_day"], found["last_day"]) == ("2026-03-02", "2026-03-17")
    assert {model["name"] for model in found["models"]} == {"spar", "weekly_mean", "fallback: less than 2 days of history"}
    assert sum(model["intervals"] for model in found["models"]) == found["all"]["intervals"]
    assert set(found["all"]["covered"]) == {"0.05", "0.10", "0.50", "0.90", "0.95", "0.99"}
    assert found["worst_shards"][0]["pinball"]["0.95"] >= found["worst_shards"][1]["pinball"]["0.95"]
    assert len(found["days"]) == DAYS
    assert found["drift"]["since"] == CHANGED.isoformat()
    assert len(found["pictures"]) == 3
    for path in map(Path, found["pictures"].values()):
        assert matplotlib.image.imread(path).shape[1] == 1320
        assert has_colour(path, BLUE)
    assert has_colour(tmp_path / "pictures" / "coverage.png", VERMILION), "where the drift began"


def test_a_day_is_learnt_from_once_it_is_over_and_once(scored: Settings) -> None:
    path = scored.table("forecast_score")
    assert read_learnt(scored) == Learnt()
    first = learn_of_days(scored, datetime(2026, 3, 14, 23, tzinfo=UTC))
    assert first.day == date(2026, 3, 13)
    assert learn_of_days(scored, datetime(2026, 3, 14, 23, 30, tzinfo=UTC)) == first == read_learnt(scored)
    levels_used = first.levels_used
    for day in (15, 16, 17, 18):
        learnt = learn_of_days(scored, datetime(2026, 3, day, 1, tzinfo=UTC))
        assert learnt.day == date(2026, 3, day - 1)
    assert read_learnt(scored) == learnt
    assert learnt.levels_used[LEVELS.index(0.95)] > levels_used[LEVELS.index(0.95)], "too little was covered of late"
    assert learnt.drift.since == CHANGED
    origins = [datetime(2026, 3, 18, tzinfo=UTC) + timedelta(days=n) for n in (0, 6, 30)]
    assert [learnt.windows(14, origin, timedelta(days=1)) for origin in origins] == [3, 8, 14]
    assert [learnt.windows(14, origin, timedelta(hours=12)) for origin in origins] == [4, 14, 14]
    assert [learnt.windows(14, origin, timedelta(days=2)) for origin in origins] == [3, 8, 14]

    newest = learn_of_days(scored, datetime(2026, 3, 18, 2, tzinfo=UTC))
    assert newest == learnt
    kept = log.newest_commit(path, "days")["days"]
    assert [day[0] for day in kept] == [str(date(2026, 3, 2) + timedelta(days=n)) for n in range(DAYS)]
    days = days_of(stored_scores(scored, DAYS))
    for day, figures in zip(kept, days, strict=True):
        assert day[2] == pytest.approx(figures.covered)
        assert [day[1], *day[3:]] == pytest.approx([figures.judged, figures.error, figures.naive_error])
    write_deltalake(scored.table("load_forecast"), pa.table({"shard_id": [1]}))
    log.say(scored.table("load_forecast"), {"input_version": 1, **learnt.as_metadata()})
    shutil.rmtree(path)
    assert read_learnt(scored) == learnt, "what the forecast used outlives scores that were deleted"


def test_what_was_learnt_of_other_levels_is_not_used() -> None:
    learnt = Learnt((0.06, 0.1, 0.5, 0.9, 0.96, 0.99), date(2026, 3, 1), Drift(date(2026, 2, 27), ("changed",)))
    assert Learnt.of_metadata(json.loads(json.dumps(learnt.as_metadata()))) == learnt
    assert Learnt.of_metadata({**learnt.as_metadata(), "levels": [0.5]}) == Learnt()

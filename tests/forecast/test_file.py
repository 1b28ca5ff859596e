"""`foreshard forecast run`: the columns of design.md §6, the same file again, and one sentence for bad input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from foreshard.cli import app
from foreshard.errors import ForeshardError

COLUMNS = ["unique_id", "ds", "model", "mean", "q05", "q10", "q50", "q90", "q95", "q99"]


def run(source: Path, out: Path, *more: str) -> str:
    result = CliRunner().invoke(app, ["forecast", "run", "--series", str(source), "--out", str(out), *more])
    if isinstance(result.exception, ForeshardError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def write(folder: Path, hours: int, **columns: object) -> Path:
    times = pd.date_range("2013-11-01", periods=hours, freq="h", tz="UTC")
    values = 10 + 5 * np.sin(np.arange(hours) * 2 * np.pi / 24) + np.arange(hours) % 5
    frame = pd.DataFrame({"unique_id": "x", "ds": times, "y": values}).assign(**columns)
    target = folder / "series.parquet"
    frame.to_parquet(target)
    return target


def test_a_row_for_every_series_and_step_and_the_same_file_again(tmp_path: Path) -> None:
    source = write(tmp_path, 24 * 15)
    other = pd.read_parquet(source).assign(unique_id="short").tail(30)
    pd.concat([pd.read_parquet(source), other]).sample(frac=1, random_state=1).to_parquet(source)
    first, second = tmp_path / "1.parquet", tmp_path / "2.parquet"
    assert "2 series" in run(source, first, "--horizon", "5", "--seed", "3", "--country", "US")
    run(source, second, "--horizon", "5", "--seed", "3", "--country", "US")
    assert first.read_bytes() == second.read_bytes()
    made = pd.read_parquet(first)
    assert list(made.columns) == COLUMNS
    assert str(made["ds"].dtype.tz) == "UTC"  # type: ignore[union-attr]
    for name, own in made.groupby("unique_id"):
        assert own["ds"].tolist() == pd.date_range("2013-11-16", periods=5, freq="h", tz="UTC").tolist(), name
    assert set(made[made["unique_id"] == "short"]["model"]) == {"fallback: less than 7 days of history"}
    assert not any("fallback" in model for model in made[made["unique_id"] == "x"]["model"])
    assert (np.diff(made[COLUMNS[4:]].to_numpy(), axis=1) >= 0).all()


def test_times_without_a_zone_are_taken_as_utc_and_models_can_be_chosen(tmp_path: Path) -> None:
    source = write(tmp_path, 24 * 15)
    frame = pd.read_parquet(source)
    frame.assign(ds=frame["ds"].dt.tz_localize(None)).to_parquet(source)
    run(source, tmp_path / "out.parquet", "--models", "seasonal_naive", "--horizon", "2")
    made = pd.read_parquet(tmp_path / "out.parquet")
    assert all("seasonal_naive" in model and "spar" not in model for model in made["model"])
    assert made["ds"].tolist() == pd.date_range("2013-11-16", periods=2, freq="h", tz="UTC").tolist()


def test_each_series_is_forecast_from_its_own_end_whatever_else_is_in_the_file(tmp_path: Path) -> None:
    times = pd.date_range("2013-11-01", periods=24 * 21, freq="h", tz="UTC")
    draw = np.random.default_rng(1)
    many = [
        pd.DataFrame({"unique_id": f"s{n}", "ds": times, "y": draw.poisson(20 + 10 * np.sin(np.arange(504) * np.pi / 12))})
        for n in range(60)
    ]
    earlier = many[0].assign(unique_id="earlier").iloc[:-30]
    half_past = many[1].assign(unique_id="half past", ds=times + pd.Timedelta(minutes=30))
    pd.concat([*many, earlier, half_past]).to_parquet(tmp_path / "all.parquet")
    run(tmp_path / "all.parquet", tmp_path / "out.parquet", "--horizon", "3")
    made = pd.read_parquet(tmp_path / "out.parquet")
    starts = made.groupby("unique_id")["ds"].min()
    assert starts["s0"] == times[-1] + pd.Timedelta(hours=1)
    assert starts["earlier"] == times[-30]
    assert starts["half past"] == times[-1] + pd.Timedelta(hours=1, minutes=30)
    pd.concat(many).to_parquet(tmp_path / "many.parquet")
    run(tmp_path / "many.parquet", tmp_path / "alone.parquet", "--horizon", "3")
    alone = pd.read_parquet(tmp_path / "alone.parquet")
    same = made[made["unique_id"].isin(alone["unique_id"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(same, alone)


@pytest.mark.parametrize(
    ("spoil", "more", "words"),
    [
        (lambda f: f.unlink(), (), "cannot read the series"),
        (lambda f: f.write_text("unique_id,ds,y"), (), "cannot read the series"),
        (lambda f: pd.read_parquet(f).drop(columns="y").to_parquet(f), (), "lacks the columns y"),
        (lambda f: pd.read_parquet(f).head(0).to_parquet(f), (), "has no rows"),
        (
            lambda f: pd.read_parquet(f).assign(ds="soon").to_parquet(f),
            (),
            "not a time",
        ),
        (lambda f: pd.concat([pd.read_parquet(f)] * 2).to_parquet(f), (), "stands twice"),
        (lambda f: None, ("--freq", "7min"), "not a whole number of steps of 00:07:00"),
        (lambda f: None, ("--country", "ZZ"), "unknown country"),
        (lambda f: None, ("--zone", "Mars/Olympus"), "unknown time zone"),
        (lambda f: None, ("--events", "nowhere.csv"), "cannot read the events nowhere.csv"),
        (lambda f: None, ("--freq", "soon"), "is not an interval"),
        (lambda f: None, ("--models", "oracle"), "unknown models oracle"),
        (lambda f: None, ("--models", ","), "--models names none"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(
    tmp_path: Path, spoil: Callable[[Path], object], more: tuple[str, ...], words: str
) -> None:
    source = write(tmp_path, 50)
    spoil(source)
    with pytest.raises(ForeshardError, match=words):
        run(source, tmp_path / "out.parquet", *more)
    assert not (tmp_path / "out.parquet").exists()


def test_an_output_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ForeshardError, match=r"cannot write the forecast .*nowhere"):
        run(write(tmp_path, 50), tmp_path / "nowhere" / "out.parquet")


def test_wrong_usage_ends_with_status_2(tmp_path: Path) -> None:
    source = str(write(tmp_path, 50))
    asked = ["forecast", "run", "--series", source, "--out", str(tmp_path / "o"), "--horizon", "0"]
    assert CliRunner().invoke(app, asked).exit_code == 2
    assert CliRunner().invoke(app, ["forecast", "run", "--series", source]).exit_code == 2

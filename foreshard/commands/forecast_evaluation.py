"""What `foreshard forecast evaluate` shows: tables for people, one document for programs, pictures in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from foreshard.commands.options import print_table
from foreshard.forecast.batch import LEVELS
from foreshard.learning.drift import coverage_bounds, skill_bounds
from foreshard.learning.evaluation import Evaluation, Figures, evaluate, stored_scores
from foreshard.learning.learnt import Learnt, read_learnt
from foreshard.settings import Settings

_COVERED = (0.90, 0.95, 0.99)
_SHOWN_DAYS = 7


@dataclass(frozen=True)
class Evaluated:
    """An evaluation, what was learnt from scores, and the pictures: what is seen → file."""

    evaluation: Evaluation
    learnt: Learnt
    pictures: dict[str, Path]

    def document(self) -> dict[str, Any]:
        """What `--json` prints; shares and losses by level, such as "0.95"."""
        found = self.evaluation
        groups = {"models": found.models, "horizons": found.horizons, "steps_ahead": found.steps, "worst_shards": found.worst}
        return {
            "first_day": found.first.isoformat(),
            "last_day": found.last.isoformat(),
            "all": _document(found.whole),
            **{name: [_document(figures) for figures in figures_of] for name, figures_of in groups.items()},
            "days": [
                {"day": day.day.isoformat(), "intervals": day.judged, "covered": _by_level(day.covered)} for day in found.days
            ],
            **self.learnt.as_metadata(),
            "pictures": {seen: str(path) for seen, path in self.pictures.items()},
        }

    def print(self) -> None:
        found = self.evaluation
        typer.echo(
            f"{found.whole.intervals:,} forecasts of intervals from {found.first} to {found.last}, of {found.whole.shards:,} "
            "shards. Errors and losses are in weighted requests per second. Skill is the part of the naive forecast's "
            "error that is gone (the naive says the load of a week before), and the scaled loss a multiple of that error."
        )
        print_table("By the heaviest model", ["model", *_COLUMNS], [_row(f) for f in (*found.models, found.whole)])
        print_table("By horizon", ["horizon", *_COLUMNS], [_row(f) for f in found.horizons])
        print_table(
            "Worst shards, by the loss at 95 %", ["shard", "mean load", *_COLUMNS[1:]], [_shard_row(f) for f in found.worst]
        )
        for line in self._sentences():
            typer.echo(line)
        for seen, path in self.pictures.items():
            typer.echo(f"Picture of {seen}: {path}")

    def _sentences(self) -> list[str]:
        found, learnt = self.evaluation, self.learnt
        said = []
        if found.whole.at(0.95)[1] is not None:
            low, high = coverage_bounds(found.days, 0.95)
            said.append(f"By draws of whole days, the 95 % quantile covers {low:.1%} to {high:.1%}.")
        if found.whole.skill is not None:
            low, high = skill_bounds(found.days)
            said.append(f"By draws of whole days, the skill is {low:.1%} to {high:.1%}.")
        if learnt.day is None:
            return [*said, "Nothing was learnt from these scores yet: no day of them is over."]
        used = ", ".join(
            f"{level:.0%} at {place:.2%}" for level, place in zip(LEVELS, learnt.levels_used, strict=True) if level > 0.5
        )
        said.append(f"Levels follow what was covered up to {learnt.day}; quantiles are read at: {used}.")
        if learnt.drift.since is None:
            return [*said, "No drift: recent days are like those before."]
        reasons = " and ".join(learnt.drift.reasons)
        return [*said, f"Drift since {learnt.drift.since}: {reasons}. Forecasts learn from backtests since then alone."]


_COLUMNS = ["shards", "intervals", "error", "skill", "loss at 95 %", "scaled", *(f"below q{100 * c:.0f}" for c in _COVERED)]


def evaluated(settings: Settings, days: int, folder: Path | None) -> Evaluated:
    """Reads the newest `days` days of scores and draws them into `folder`, if given; ForeshardError if there is no score."""
    stored = stored_scores(settings, days)
    evaluation, learnt = evaluate(stored, settings.forecast.grain_minutes), read_learnt(settings)
    pictures: dict[str, Path] = {}
    if folder is not None:
        from foreshard.learning.evaluation_pictures import draw

        intervals = _SHOWN_DAYS * 24 * 60 // settings.forecast.grain_minutes
        pictures = draw(folder, stored, evaluation, learnt.drift, intervals)
    return Evaluated(evaluation, learnt, pictures)


def _row(figures: Figures) -> list[str]:
    loss = figures.at(0.95)[0]
    row = [figures.name, f"{figures.shards:,}", f"{figures.intervals:,}", f"{figures.error:.4g}"]
    row += [_share(figures.skill), _number(loss), _number(figures.scaled_pinball_95)]
    return row + [_covered(figures, level) for level in _COVERED]


def _shard_row(figures: Figures) -> list[str]:
    row = _row(figures)
    return [row[0], f"{figures.mean_load:.4g}", *row[2:]]


def _covered(figures: Figures, level: float) -> str:
    _, share, judged = figures.at(level)
    return "" if share is None else f"{share:.1%} of {judged:,}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _document(figures: Figures) -> dict[str, Any]:
    return {
        "name": figures.name,
        "shards": figures.shards,
        "intervals": figures.intervals,
        "mean_load": figures.mean_load,
        "mean_absolute_error": figures.error,
        "naive_error": figures.naive_error,
        "skill": figures.skill,
        "scaled_pinball_95": figures.scaled_pinball_95,
        "pinball": _by_level(figures.pinball),
        "covered": _by_level(figures.covered),
        "judged": _by_level(figures.judged),
    }


def _by_level(values: Sequence[Any]) -> dict[str, Any]:
    return {f"{level:.2f}": value for level, value in zip(LEVELS, values, strict=True)}

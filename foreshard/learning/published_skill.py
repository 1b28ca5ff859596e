"""The skill of published forecasts, from `forecast_score`: measured by the learn job, read when an epoch is published.

What is judged is how far shards differ within an interval, since by that gateways share queries out; a forecast that is too
high for all of them alike does no harm there.
"""

from __future__ import annotations

from typing import Any

import duckdb

from foreshard.errors import ForeshardError
from foreshard.lake import log
from foreshard.learning.evaluation import stored_scores
from foreshard.settings import Settings

# Of scores, so that one odd day does not decide.
DAYS = 7
_MEMORY = "1GB"
# Each forecast of an interval is a group: its loads beside their mean, as foreshard.learning.skill does it for one.
_SUMS = """
WITH forecast AS (
    SELECT count(*) AS shards, avg(mean) AS foreseen, avg(actual) AS came,
           sum(mean * actual) AS products, sum(mean * mean) AS squares
    FROM score GROUP BY interval_start, origin
)
SELECT sum(products / (foreseen * came) - shards), sum(squares / (foreseen * foreseen) - shards)
FROM forecast WHERE foreseen > 0 AND came > 0
"""
# As little spread is rounding.
_NO_SPREAD = 1e-9


def read_skill(settings: Settings) -> float:
    """As it was last measured; 1 if it never was."""
    return float(log.newest_commit(settings.table("forecast_score"), "skill").get("skill", 1.0))


def measure_skill(settings: Settings) -> float:
    """Measures it over the last days and keeps it as a commit of its own, if it changed; a repeat changes nothing."""
    before = read_skill(settings)
    try:
        skill = skill_of(stored_scores(settings, DAYS))
    except ForeshardError:
        return before  # nothing is scored yet
    if skill is None or round(skill, 3) == before:
        return before
    log.say(settings.table("forecast_score"), {"skill": round(skill, 3)})
    return round(skill, 3)


def skill_of(stored: Any) -> float | None:
    """0 to 1, of scores (an arrow table or dataset with columns of forecast_score); None if no forecast told shards apart."""
    database = duckdb.connect()
    database.execute(f"SET memory_limit = '{_MEMORY}'")
    database.register("score", stored)
    together, spread = database.execute(_SUMS).fetchall()[0]
    if spread is None or spread <= _NO_SPREAD:
        return None
    return min(1.0, max(0.0, float(together) / float(spread)))

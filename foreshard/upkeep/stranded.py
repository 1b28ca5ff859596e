"""Plans that nobody carries on, moves whose plan has ended, and versions kept for plans that need them no more."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from foreshard.routing import database
from foreshard.settings import Settings
from foreshard.transition import store
from foreshard.transition.controller import lease_name
from foreshard.upkeep.finding import Finding

QUIET_SECONDS = 600.0


def stranded(settings: Settings, url: str) -> list[Finding]:
    """What is stuck or kept in vain in Postgres."""
    names = {"pool_id": settings.pool_id, "lease_name": lease_name(settings.pool_id)}
    found = [f for row in database.query(url, "list_stranded_plans", names) for f in _of_plan(row)]
    for row in database.query(url, "list_stale_pins", names):
        table, holder = row["table_name"], row["holder"]
        what = f"version {row['version']} is kept for plan {holder}, which is {row['state']}"
        repair = partial(_unpin, settings, url, table, holder)
        found.append(Finding(what, table, "give it up: `foreshard doctor --repair`", repair))
    return found


def _of_plan(row: dict[str, Any]) -> Iterator[Finding]:
    plan_id, state, begun = row["plan_id"], row["state"], row["begun"]
    if state != "running":
        if begun:
            do = (
                f"`foreshard transition run {plan_id}` goes on with it" if state == "failed" else "repair the copies, see above"
            )
            yield Finding(f"{begun} moves were begun and not ended, and the plan is {state}", f"plan {plan_id}", do)
        return
    quiet = row["quiet_seconds"] or 0.0
    if row["is_controlled"] or quiet < QUIET_SECONDS:
        return
    if row["paused"]:
        do = f"`foreshard transition resume {plan_id}`, or `foreshard transition rollback {plan_id}`"
        yield Finding(f"paused, and nothing has happened for {quiet / 60:.0f} minutes", f"plan {plan_id}", do)
        return
    do = f"trigger the DAG reshard or run `foreshard transition run {plan_id}`, which go on with it"
    yield Finding(f"nobody carries it on, and nothing has happened for {quiet / 60:.0f} minutes", f"plan {plan_id}", do)


def _unpin(settings: Settings, url: str, table: str, holder: str) -> str:
    store.unpin(url, settings.pool_id, table, holder)
    return f"gave up the version kept for plan {holder}"

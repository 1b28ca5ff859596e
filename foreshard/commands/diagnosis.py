"""What `foreshard doctor` looks for, parts missing, tables behind, leftovers, and how it repairs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from foreshard.errors import ForeshardError
from foreshard.local.postgres import resolve_url
from foreshard.local.spark import jars, java_home
from foreshard.routing import pool
from foreshard.settings import Settings
from foreshard.upkeep.finding import Finding
from foreshard.upkeep.leftovers import leftovers
from foreshard.upkeep.stranded import stranded
from foreshard.usage.watermark import watermark


@dataclass(frozen=True)
class Repaired:
    """What a repair came to: `done` in words, also if it is none."""

    where: str
    done: str
    succeeded: bool


def diagnose(settings: Settings) -> list[Finding]:
    """Everything found wrong, the parts that others need first; nothing is changed."""
    found = []
    for part, check in (("Java", java_home), ("Delta's jars", jars)):
        try:
            check()
        except ForeshardError as error:
            found.append(Finding(f"{part} missing", "this machine", str(error)))
    try:
        url = resolve_url(settings)
        registered = pool.read_pool(url, settings.pool_id)
    except ForeshardError as error:
        return [*found, Finding("control plane", "Postgres", str(error))]
    if registered.current_epoch == 0:
        found.append(Finding("no epoch published", settings.pool_id, "run `foreshard init`"))
    return [*found, *_lag(settings), *leftovers(settings, url), *stranded(settings, url)]


def _lag(settings: Settings) -> list[Finding]:
    marks = {name: watermark(settings, name) for name in ("usage_hourly", "query_load", "query_pattern_observed")}
    reached = [m.hour for m in marks.values() if m.hour]
    if not reached:
        return [Finding("nothing aggregated yet", settings.lake, "land files and run the aggregate DAG or job")]
    newest = max(reached)
    return [
        Finding(
            f"table behind the others by {newest - m.hour if m.hour else 'everything'}", name, "run the aggregate job again"
        )
        for name, m in marks.items()
        if m.hour != newest
    ]


def repair(findings: Sequence[Finding]) -> list[Repaired]:
    """Repairs what can be; what is refused or fails keeps the others from nothing. Safe to repeat and to be killed in."""
    done = []
    for finding in findings:
        if finding.repair is None:
            continue
        try:
            done.append(Repaired(finding.where, finding.repair(), True))
        except ForeshardError as error:
            done.append(Repaired(finding.where, f"not repaired: {error}", False))
    return done

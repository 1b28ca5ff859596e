"""What an operator wants to see first, as tables of text and links: read from Postgres and Delta, written nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from foreshard.errors import ForeshardError
from foreshard.settings import Settings, load

_PRODUCTS = ("usage_hourly", "query_load")
_EPOCHS = 10
_RUNS_LOOKED_AT = 200
_RUNS_SHOWN = 10


@dataclass(frozen=True)
class Link:
    """A cell that leads to a page, by a path relative to this one."""

    text: str
    path: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Table:
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


def overview() -> list[Table]:
    """Epochs, the latest plan's moves, the watermarks and runs with findings; what cannot be read says why in its place."""
    settings = load()
    made = []
    for title, part in PARTS.items():
        try:
            made.append(part(settings))
        except ForeshardError as error:
            made.append(Table(title, ["not readable"], [[error]]))
    return made


def _epochs(settings: Settings) -> Table:
    from foreshard.local.postgres import resolve_url
    from foreshard.routing import store

    history = store.history(resolve_url(settings), settings.pool_id, _EPOCHS)
    rows = [
        ["current" if e.is_current else "", e.epoch, f"{e.published_at:%Y-%m-%d %H:%M:%S %Z}", e.published_by, e.reason]
        for e in history
    ]
    return Table(f"Epochs of pool {settings.pool_id}", ["", "epoch", "published", "by", "reason"], rows)


def _latest_plan(settings: Settings) -> Table:
    from foreshard.local.postgres import resolve_url
    from foreshard.transition import store

    url = resolve_url(settings)
    columns = ["move", "shard", "from", "to", "bytes", "state", "reason"]
    plan = store.latest_plan(url, settings.pool_id)
    if plan is None:
        return Table("Latest plan: none yet", columns, [])
    moves = store.read_moves(url, settings.pool_id, plan.plan_id)
    rows = [[m.kind.value, m.shard_id, m.source, m.target, f"{m.bytes:,}", m.state, m.reason] for m in moves]
    return Table(f"Latest plan: {plan.plan_id}, {plan.state}, {len(moves)} moves", columns, rows)


def _watermarks(settings: Settings) -> Table:
    from foreshard.usage.watermark import watermark

    marks = {name: watermark(settings, name) for name in _PRODUCTS}
    rows = [[name, f"{m.hour:%Y-%m-%d %H:%M}" if m.hour else "nothing yet", m.version] for name, m in marks.items()]
    return Table("Data", ["table", "complete to (UTC)", "version"], rows)


def _findings(settings: Settings) -> Table:
    from foreshard.checks.reports import newest_runs

    looked_at = newest_runs(settings.home, _RUNS_LOOKED_AT)
    worse = [run for run in looked_at if run.status != "passed"]
    rows: list[Sequence[Any]] = [
        [
            run.status,
            f"{run.at:%Y-%m-%d %H:%M:%S}",
            run.dag,
            Link(run.run, f"quality/{quote(run.dag, safe='')}/{quote(run.run, safe='')}/"),
            ", ".join([*run.tables_with("critical"), *run.tables_with("warning")]),
        ]
        for run in worse[:_RUNS_SHOWN]
    ]
    rows.append(["", "", "", Link("all reports", "quality/index.html"), ""])
    title = f"Data quality: {len(worse)} of the last {len(looked_at)} runs have findings"
    return Table(title, ["worst", "last check (UTC)", "DAG", "run", "tables"], rows)


PARTS = {"Epochs": _epochs, "Latest plan": _latest_plan, "Data": _watermarks, "Data quality": _findings}

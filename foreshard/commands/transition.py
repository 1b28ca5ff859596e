"""`foreshard transition`: how far a plan has come, and a person's hand on it."""

from __future__ import annotations

import getpass
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foreshard import settings as configuration
from foreshard.commands.options import AsJson, SettingsFile, print_json, print_table
from foreshard.errors import ForeshardError
from foreshard.placement.explanation.wording import size
from foreshard.settings import Settings

if TYPE_CHECKING:
    from foreshard.transition.progress import PlanKey
    from foreshard.transition.store import EventRecord

app = typer.Typer(no_args_is_help=True)

PlanId = Annotated[str, typer.Argument(help="The plan's id; default: the one being carried out, else the newest.")]
_EVENTS = 40
# What other moves wait for stands above the table.
_WITH_REASON = ("failed", "rolled_back", "paused")
_UNITS = {"k": 1e3, "M": 1e6, "G": 1e9}


@app.command()
def status(
    plan_id: PlanId = "",
    every_step: Annotated[bool, typer.Option("--all", help="Every step so far, not the newest only.")] = False,
    settings: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Show how far a plan's moves have come, at which rate, what is waited for, and every step so far with its time."""
    from foreshard.local.postgres import resolve_url
    from foreshard.transition import store
    from foreshard.transition.status import status_of

    chosen = configuration.load(settings)
    url = resolve_url(chosen)
    now = status_of(chosen, url, _chosen(chosen, url, plan_id))
    events = store.read_events(url, chosen.pool_id, now.plan_id)
    if as_json:
        print_json({**now.as_document(), "events": events})
        return
    typer.echo(now.headline)
    for line in now.lines:
        typer.echo(f"  {line}")
    columns = ["move", "wave", "kind", "shard", "from", "to", "state", "since (UTC)", "bytes", "copied", "detail"]
    rows = [
        [
            *(m.position, (m.wave or 0) + 1, m.kind.value, m.shard_id, m.source, m.target, m.state),
            *(f"{m.since:%H:%M:%S}" if m.since else "", size(m.bytes), size(m.bytes_copied)),
            m.detail if m.state in _WITH_REASON else "",
        ]
        for m in now.moves
    ]
    if rows:
        print_table("Moves", columns, rows)
    # An epoch's own event says again what its moves' events say.
    told = [e for e in events if e.stage != "published" or not now.moves]
    together = [list(group) for _, group in itertools.groupby(told, key=lambda e: (e.stage, e.actor, e.epoch, e.detail))]
    shown = together if every_step else together[-_EVENTS:]
    steps = [
        [f"{g[0].at:%Y-%m-%d %H:%M:%S}", g[0].stage, _moves(g), g[0].actor, g[0].epoch, _rows(g), g[0].detail] for g in shown
    ]
    print_table("Steps", ["at (UTC)", "stage", "moves", "by", "epoch", "rows", "detail"], steps)


def _moves(group: Sequence[EventRecord]) -> str:
    """The moves of events that belong together: their number, or the one."""
    positions = [e.position for e in group if e.position is not None]
    return f"{len(positions)} moves" if len(positions) > 1 else ", ".join(map(str, positions))


def _rows(group: Sequence[EventRecord]) -> str:
    counts = [e.rows for e in group if e.rows is not None]
    return f"{sum(counts):,}" if counts else ""


@app.command()
def pause(plan_id: PlanId = "", settings: SettingsFile = None) -> None:
    """Hold the plan where it is; a copy stops after the part that it is writing."""
    from foreshard.transition import progress

    _, url, key = _on(settings, plan_id)
    held = progress.pause(url, key, f"by {key.actor}")
    typer.echo(f"{len(held)} moves of plan {key.plan_id} are paused; `foreshard transition resume` lets them go on.")


@app.command()
def resume(plan_id: PlanId = "", settings: SettingsFile = None) -> None:
    """Let a paused plan go on from where it was."""
    from foreshard.transition import progress

    _, url, key = _on(settings, plan_id)
    typer.echo(f"{len(progress.resume(url, key, f'by {key.actor}'))} moves of plan {key.plan_id} go on.")


@app.command()
def rollback(
    plan_id: PlanId = "",
    reason: Annotated[str, typer.Option(help="Why; it is kept with the plan.")] = "asked for",
    wait: Annotated[float, typer.Option(help="Seconds to carry it out within, if no other process does.")] = 60.0,
    settings: SettingsFile = None,
) -> None:
    """Take a plan back: the layout that it began from is published again. Possible until old copies are dropped."""
    from foreshard.errors import Refused
    from foreshard.transition import progress, steps

    chosen, url, key = _on(settings, plan_id)
    progress.request_rollback(url, key, f"{reason}, by {key.actor}")
    try:
        ended = steps.carry_on(chosen, key.plan_id, key.actor, typer.echo, seconds=wait, wait_seconds=wait)
    except Refused as refused:
        typer.echo(f"{refused}\nThat process will take it back.")
        return
    if not ended.is_over:
        raise ForeshardError(f"not yet taken back: {ended.decision.sentence}; `foreshard transition status` shows the rest")
    typer.echo("Copies that nothing needs any more go with `foreshard doctor --repair`.")


@app.command()
def throttle(
    rate: Annotated[str, typer.Argument(help="Bytes per second, such as 20M; `off` for none; nothing shows it.")] = "",
    settings: SettingsFile = None,
) -> None:
    """Limit how fast copies are made in this pool, from now on and through restarts."""
    from foreshard.local.postgres import resolve_url
    from foreshard.transition import throttle as throttling

    chosen = configuration.load(settings)
    url = resolve_url(chosen)
    if rate:
        throttling.set_rate(url, chosen.pool_id, None if rate == "off" else _bytes(rate))
    now = throttling.read_rate(url, chosen.pool_id)
    typer.echo(f"Pool {chosen.pool_id}: {'copies are made as fast as it goes' if now is None else f'{size(now)} per second'}.")


@app.command()
def run(
    plan_id: PlanId = "",
    wait: Annotated[float, typer.Option(help="Seconds to wait while nothing changes.")] = 600.0,
    nice: Annotated[int, typer.Option(min=0, max=19, help="Niceness of this and of its Spark jobs, up to 19.")] = 0,
    settings: SettingsFile = None,
) -> None:
    """Carry a plan out from here, with Spark jobs on this machine where copies are needed; says one sentence a step."""
    from foreshard.local.niceness import give_way
    from foreshard.local.submit import submit
    from foreshard.transition import steps

    if nice:
        give_way(nice)
    chosen, _, key = _on(settings, plan_id)
    while True:
        done = steps.carry_on(chosen, key.plan_id, key.actor, typer.echo, seconds=wait, wait_seconds=wait)
        if not done.needs_spark:
            break
        submit(chosen, "warm_up_replicas", ["--plan", key.plan_id], nice=nice)
    if not done.is_over:
        raise ForeshardError(f"nothing changed for {wait:g} s: {done.decision.sentence}")


def _on(settings: Path | None, plan_id: str) -> tuple[Settings, str, PlanKey]:
    """The settings, the database and the plan, in the name of whoever calls."""
    from foreshard.local.postgres import resolve_url
    from foreshard.transition.progress import PlanKey

    chosen = configuration.load(settings)
    url = resolve_url(chosen)
    return chosen, url, PlanKey(chosen.pool_id, _chosen(chosen, url, plan_id), getpass.getuser())


def _chosen(settings: Settings, url: str, plan_id: str) -> str:
    from foreshard.transition import store

    if plan_id:
        return store.read_plan(url, settings.pool_id, plan_id).plan_id
    record = store.running_plan(url, settings.pool_id) or store.latest_plan(url, settings.pool_id)
    if record is None:
        raise ForeshardError(f"pool {settings.pool_id} has no plan yet; the reshard DAG makes one after each forecast")
    return record.plan_id


def _bytes(text: str) -> float:
    try:
        return float(text[:-1]) * _UNITS[text[-1]] if text[-1] in _UNITS else float(text)
    except ValueError:
        raise ForeshardError(f"{text!r} is no rate; write bytes per second, such as 500k, 20M or 1G, or `off`") from None

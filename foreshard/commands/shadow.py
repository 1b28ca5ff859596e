"""`foreshard shadow begin|end|status`."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foreshard import settings as configuration
from foreshard.commands.options import AsJson, SettingsFile, print_json, print_table

if TYPE_CHECKING:
    from foreshard.routing.pool import Pool
    from foreshard.transition.shadow_worth import PlanWorth

app = typer.Typer(no_args_is_help=True)
_COLUMNS = ["plan", "made (UTC)", "moves", "GB", "hours", "above\ncapacity", "with\nplan", "peak", "with\nplan"]


@app.command()
def begin(settings: SettingsFile = None) -> None:
    """Only record plans from now on: nothing is moved, repaired or corrected. A plan that is running goes on to its end."""
    typer.echo(_set(settings, getpass.getuser()))


@app.command()
def end(settings: SettingsFile = None) -> None:
    """Carry plans out again, from the next forecast on. What was recorded meanwhile stays rejected."""
    typer.echo(_set(settings, None))


@app.command()
def status(
    plans: Annotated[int, typer.Option(min=1, help="How many of the newest recorded plans.")] = 20,
    settings: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Show since when the pool is in shadow mode, and what each recorded plan would have been worth."""
    from foreshard.local.postgres import resolve_url
    from foreshard.routing.pool import read_pool
    from foreshard.transition.shadow_worth import shadow_worth

    chosen = configuration.load(settings)
    url = resolve_url(chosen)
    pool = read_pool(url, chosen.pool_id)
    found = shadow_worth(chosen, url, plans)
    if as_json:
        since = pool.shadow_since.astimezone(UTC).isoformat() if pool.shadow_since else None
        listed = [asdict(worth) for worth in found]
        print_json({"pool_id": pool.pool_id, "shadow_since": since, "shadow_by": pool.shadow_by, "plans": listed})
        return
    typer.echo(_mode(pool))
    if found:
        print_table("Recorded plans, over the hours that came", _COLUMNS, [_row(worth) for worth in found])
    typer.echo(closing(found))


def _set(settings: Path | None, by: str | None) -> str:
    from foreshard.local.postgres import resolve_url
    from foreshard.routing.pool import set_shadow

    chosen = configuration.load(settings)
    return _mode(set_shadow(resolve_url(chosen), chosen.pool_id, by))


def _mode(pool: Pool) -> str:
    if not pool.shadow_mode:
        return f"Pool {pool.pool_id} is not in shadow mode: its plans are carried out."
    return f"P{pool.shadow_mode[1:]}, begun by {pool.shadow_by}: plans are recorded and not carried out."


def _row(worth: PlanWorth) -> list[str]:
    head = [worth.plan_id, f"{worth.made_at.astimezone(UTC):%F %H:%M}", f"{worth.moves}", f"{worth.bytes / 1e9:.2f}"]
    if worth.state != "measured":
        return [*head, worth.state, "", "", "", ""]
    shares = [_share(above, worth.load) for above in (worth.above_at_hand, worth.above_planned)]
    peaks = [f"{peak:.0%}" for peak in (worth.peak_at_hand, worth.peak_planned)]
    return [*head, f"{worth.hours:g}", *shares, *peaks]


def _share(part: float, whole: float) -> str:
    return f"{part / whole if whole > 0 else 0.0:.2%}"


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def closing(found: Sequence[PlanWorth]) -> str:
    """One sentence about all of them: copies one plan after the other, and loads above capacity as a share of what came."""
    if not found:
        return "No plan has been kept back; in shadow mode the next forecast makes one."
    volume = sum(w.copied_bytes for w in found) / 1e9
    would = (
        f"{_counted(len(found), 'plan')} would have been carried out and "
        f"{_counted(sum(w.copies for w in found), 'replica')} copied ({volume:.2f} GB)"
    )
    hours, load = sum(w.hours for w in found), sum(w.load for w in found)
    if not hours:
        return f"{would}; none of the hours that they were made for has come yet."
    at_hand = _share(sum(w.above_at_hand for w in found), load)
    planned = _share(sum(w.above_planned for w in found), load)
    return (
        f"{would}; in {hours:g} hours that came {at_hand} of the load was above nodes' capacity under the layout at hand, "
        f"and {planned} would have been under the plans'."
    )

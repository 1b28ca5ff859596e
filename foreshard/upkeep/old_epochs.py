"""Retention of routing epochs: the content of those that nobody can need goes, their lines in the history stay."""

from __future__ import annotations

from foreshard.routing import database
from foreshard.settings import Settings


def remove_old_epochs(settings: Settings, url: str) -> str:
    """Removes what is past `[retention]`, and gateways that gave up as long ago; one sentence about it. Safe to repeat.

    Kept in any case: the current epoch and the one before, what a gateway with a lease has not passed, and the epochs that
    open plans go back to.
    """
    kept = settings.retention
    if not kept.epoch_days:
        return "all epochs are kept"
    because = f"retention keeps the newest {kept.epochs} epochs and those of {kept.epoch_days} days"
    names = {"pool_id": settings.pool_id, "newest": kept.epochs, "days": kept.epoch_days, "because": because}
    with database.transaction(url) as cursor:
        database.run(cursor, "lock_pool", names)
        removed = database.run(cursor, "remove_old_epochs", names)[0]
        gateways = database.run(cursor, "remove_old_gateways", names)[0]["gateways"]
    forgotten = f"; {gateways} gateways forgotten that are long gone" if gateways else ""
    if not removed["epochs"]:
        return f"no epoch is past its time{forgotten}"
    which = f"{removed['first_epoch']} to {removed['last_epoch']}"
    return f"content of {removed['epochs']} epochs removed, {which}: {because}{forgotten}"

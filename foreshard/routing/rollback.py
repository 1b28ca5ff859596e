"""Going back to an older epoch in one command: checked like any publication, and refused if its replicas cannot serve."""

from __future__ import annotations

from foreshard.checks.epochs import require_epoch
from foreshard.lake import log
from foreshard.routing import store
from foreshard.routing.pool import Pool
from foreshard.routing.snapshot import Snapshot
from foreshard.settings import Settings


def roll_back(settings: Settings, url: str, to_epoch: int, actor: str) -> int:
    """Publishes the content of an older epoch as a new one and returns its number.

    Refused, naming the replicas, unless every one in it is verified, on a node that lives, and at most
    `transition.catch_up_versions` behind the source, as for a transition. Raises QualityError if the suite `routing_epoch`
    finds the layout wrong for the nodes of now; an overload is a warning, as whoever goes back has a reason.
    """
    newest = log.latest_version(settings.table("usage_hourly"))

    def check(epoch: Snapshot, pool: Pool) -> None:
        require_epoch(settings, epoch, pool.policy)

    at_least = newest - settings.transition.catch_up_versions
    return store.rollback(url, settings.pool_id, to_epoch, actor, at_least=at_least, check=check)

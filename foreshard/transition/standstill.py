"""A moment between two epochs, in which copies that nothing routes to are marked as going: no later epoch may route to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from psycopg2.extras import RealDictCursor

from foreshard.errors import Refused
from foreshard.routing import database
from foreshard.transition import lease as leases
from foreshard.transition.lease import Lease
from foreshard.transition.store import of_replicas


@dataclass(frozen=True)
class Standstill:
    """One node's replicas in a transaction in which no epoch is published; `epoch` is the current one."""

    cursor: RealDictCursor
    pool_id: str
    node_id: str
    epoch: int

    def routed(self, shards: Sequence[int]) -> list[int]:
        """Those of the shards that the current epoch routes to the node, in their order."""
        rows = database.run(self.cursor, "find_routed_replicas", self._named(shards))
        return [row["shard_id"] for row in rows]

    def refuse_unfollowed(self) -> None:
        """Refused while a live gateway may still route by an older epoch."""
        waiting = database.run(self.cursor, "list_unacknowledged", {"pool_id": self.pool_id, "epoch": self.epoch})
        if waiting:
            raise Refused(f"gateway {waiting[0]['gateway_id']} does not follow epoch {self.epoch} yet; nothing was removed")

    def mark_retiring(self, shards: Sequence[int]) -> None:
        database.run(self.cursor, "mark_replicas_retiring", self._named(shards))

    def forget(self, shards: Sequence[int]) -> None:
        database.run(self.cursor, "delete_replicas", self._named(shards))

    def _named(self, shards: Sequence[int]) -> dict[str, object]:
        return of_replicas(self.pool_id, [(shard, self.node_id) for shard in shards])


@contextmanager
def standstill(url: str, pool_id: str, node_id: str, lease: Lease | None = None) -> Iterator[Standstill]:
    """Holds the lock that every publication takes for the block, under the lease's fence if one is given; then commits."""
    with database.transaction(url) as cursor:
        if lease is not None:
            leases.check(cursor, lease)
        epoch = database.run(cursor, "lock_pool", {"pool_id": pool_id})[0]["current_epoch"]
        yield Standstill(cursor, pool_id, node_id, epoch)

"""What a serving table holds at the version that was loaded (docs/architecture.md, Holdings)."""

from __future__ import annotations

from deltalake import DeltaTable

from foreshard.lake import log
from foreshard.transition.holdings import KEY, Holding, from_metadata


def read(table: DeltaTable) -> dict[int, Holding]:
    """The holdings at the table's loaded version: those of the newest commit up to it that names them; none if none does."""
    return from_metadata(log.newest_commit(table, KEY))

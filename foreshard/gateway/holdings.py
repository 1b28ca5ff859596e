"""What a serving table holds at the version that was loaded (docs/architecture.md, Holdings)."""

from __future__ import annotations

from deltalake import DeltaTable

from foreshard.lake.metadata import parse_metadata
from foreshard.transition.holdings import KEY, Holding, from_metadata


def read(table: DeltaTable) -> dict[int, Holding]:
    """The holdings at the table's loaded version: those of the newest commit up to it that names them; none if none does.

    Commits by others, such as OPTIMIZE, carry none and change none. Spark's `userMetadata` and delta-rs's custom metadata
    of that name appear alike in the history.
    """
    for limit in (10, 100, None):
        for commit in table.history(limit):
            said = parse_metadata(commit.get("userMetadata")) if commit.get("version", 0) <= table.version() else {}
            if KEY in said:
                return from_metadata(said)
    return {}

"""What was learnt of nodes, in Postgres: where gateways, publications and people read it."""

from __future__ import annotations

from collections.abc import Mapping

from foreshard.learning.correction import Correction
from foreshard.routing import database
from foreshard.routing.database import KeptConnection, Row

# A factor this near to 1 is left out of snapshots.
_AS_GOOD_AS_ONE = 1e-3


def read_corrections(url: str | KeptConnection, pool_id: str) -> dict[str, Correction]:
    """Node → what is stored of it; nodes of which nothing was learnt are missing."""
    found = ((row["node_id"], correction_of(row)) for row in database.query(url, "read_corrections", {"pool_id": pool_id}))
    return {node_id: correction for node_id, correction in found if correction is not None}


def correction_of(row: Row) -> Correction | None:
    """From a row with the columns of node_correction and their ages; None if there is none."""
    if row["factor"] is None:
        return None
    return Correction(row["factor"], row["age_seconds"], row["learnt"], row["learnt_age_seconds"])


def factors_now(url: str | KeptConnection, pool_id: str) -> tuple[tuple[str, float], ...]:
    """(node, factor to go by), as a snapshot carries them; without those that are as good as 1."""
    found = {node_id: round(c.now(), 4) for node_id, c in read_corrections(url, pool_id).items()}
    return tuple((node_id, factor) for node_id, factor in sorted(found.items()) if abs(factor - 1.0) >= _AS_GOOD_AS_ONE)


def write_corrections(url: str, pool_id: str, factors: Mapping[str, float], least_seconds: float) -> list[str]:
    """One step's factors, in one statement; returns the nodes that it corrected.

    A node corrected within the last `least_seconds` stays as it is: of two looks at once one counts. So does every node in
    shadow mode, as gateways route by these.
    """
    parameters = {"node_ids": list(factors), "factors": list(factors.values()), "least_seconds": least_seconds}
    return [row["node_id"] for row in database.query(url, "upsert_corrections", {"pool_id": pool_id, **parameters})]


def write_learnt(url: str, pool_id: str, factors: Mapping[str, float]) -> list[str]:
    """What the learn job found, safe to repeat; returns the nodes, without those no longer registered; none in shadow mode."""
    parameters = {"pool_id": pool_id, "node_ids": list(factors), "learnt": list(factors.values())}
    return [row["node_id"] for row in database.query(url, "upsert_learnt_corrections", parameters)]

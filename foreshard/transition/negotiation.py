"""The two ends of a move agree to it first: nodes find the moves that concern them and answer; the controller reads that."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from foreshard.errors import Refused
from foreshard.routing import database
from foreshard.routing.database import KeptConnection
from foreshard.transition.picture import Answer


@dataclass(frozen=True, slots=True)
class Transfer:
    """A move as one of its ends sees it: as `source` the node gives the shard up, as `target` it takes `bytes` of it in.

    `other` is the node at the other end, empty where there is none.
    """

    plan_id: str
    position: int
    role: str
    node_id: str
    shard_id: int
    covers_from: date | None
    bytes: int
    other: str


def open_transfers(url: str, pool_id: str, node_id: str) -> list[Transfer]:
    """The moves of the running plan, up to their cut-over, on which the node has not answered yet, in the plan's order."""
    rows = database.query(url, "list_open_transfers", {"pool_id": pool_id, "node_id": node_id})
    return [Transfer(node_id=node_id, **row) for row in rows]


def answer(url: str, pool_id: str, transfer: Transfer, accepted: bool, detail: str = "") -> None:
    """Records the node's answer; safe to repeat, and another answer replaces the one before.

    Refused if the node is not at that end of the move.
    """
    said = {"accepted": accepted, "detail": detail[:1000]}
    place = {"plan_id": transfer.plan_id, "position": transfer.position, "role": transfer.role, "node_id": transfer.node_id}
    if not database.query(url, "answer_transfer", {"pool_id": pool_id, **place, **said}):
        raise Refused(
            f"node {transfer.node_id} is not the {transfer.role} of move {transfer.position} of plan {transfer.plan_id} "
            f"in pool {pool_id}; only the two ends of a move answer it"
        )


def answers(url: str | KeptConnection, pool_id: str, plan_id: str) -> dict[tuple[int, str], Answer]:
    """(position, "source" or "target") → what the node at that end said; ends that said nothing are missing."""
    rows = database.query(url, "read_transfer_answers", {"pool_id": pool_id, "plan_id": plan_id})
    return {(row["position"], row["role"]): Answer(row["accepted"], row["detail"]) for row in rows}

"""A routing decision: where a query goes, who was considered, and the reason in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    ROUTED = "routed"
    BEHIND = "behind"  # a replica is there, but none is known to hold the write that the token names
    NO_REPLICA = "no_replica"


@dataclass(frozen=True, slots=True)
class Score:
    """A considered node; the score is the expected seconds until it would be done, lower is better."""

    node_id: str
    score: float


@dataclass(frozen=True, slots=True)
class Decision:
    """Where a query goes and why.

    `behind` names the node most likely to have caught up: it may be asked, since it refuses if it has not.
    `no_replica` has no node; `retry_after` says in how many seconds that may change.
    """

    verdict: Verdict
    shard_id: int
    epoch: int
    node_id: str = ""
    url: str = ""
    predicted_load: float = 0.0
    candidates: tuple[Score, ...] = ()
    reason: str = ""
    retry_after: float = 1.0
    cost: float = 1.0


def why(shard_id: int, scores: tuple[Score, ...], able: int, left_out: Mapping[str, str]) -> str:
    """The reason of a choice among `able` replicas; `left_out` says for each other node why it could not answer."""
    if able == 1:
        words = f"the only replica of shard {shard_id} that can answer"
    else:
        words = f"the lower score of {len(scores)} sampled from {able} replicas of shard {shard_id}"
    return words + _listed("; left out: ", left_out)


def none_left(shard_id: int, left_out: Mapping[str, str]) -> str:
    """The reason why nobody was chosen."""
    return f"no replica of shard {shard_id} can answer" + _listed(": ", left_out)


def _listed(before: str, left_out: Mapping[str, str]) -> str:
    return before + ", ".join(f"{node} {why}" for node, why in left_out.items()) if left_out else ""

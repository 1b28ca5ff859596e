"""A routing decision: where a query goes, who was considered, and the reason in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Verdict(StrEnum):
    ROUTED = "routed"
    BEHIND = "behind"  # a replica is there, but none is known to hold the write that the token names
    NO_REPLICA = "no_replica"


@dataclass(frozen=True, slots=True)
class Score:
    """A considered node; the lower score gets the query."""

    node_id: str
    score: float


@dataclass(frozen=True, slots=True)
class Setting:
    """Among whom a choice was made: `able` replicas of the shard; `left_out` says why each other node could not answer."""

    shard_id: int
    able: int
    left_out: Mapping[str, str]


# Not frozen, which would make it five times slower to build: one is built per query. Nothing changes it afterwards.
@dataclass(slots=True)
class Decision:
    """Where a query goes and why; to be read only.

    `behind` names the node most likely to have caught up: it may be asked, since it refuses if it has not.
    `no_replica` has no node; `retry_after` says in how many seconds that may change. `candidates` and `reason` are put
    together when asked for, from `scores` (node, score, node, score, …) and `basis`.
    """

    verdict: Verdict
    shard_id: int
    epoch: int
    node_id: str = ""
    url: str = ""
    predicted_load: float = 0.0
    cost: float = 1.0
    scores: tuple[str | float, ...] = ()
    basis: Setting | str = field(default="", compare=False)
    retry_after: float = 1.0

    @property
    def candidates(self) -> tuple[Score, ...]:
        """The nodes that were compared."""
        return tuple(
            Score(str(node_id), float(score)) for node_id, score in zip(self.scores[::2], self.scores[1::2], strict=True)
        )

    @property
    def reason(self) -> str:
        """Why this node, or nobody, in words."""
        return self.basis if isinstance(self.basis, str) else why(self.basis, len(self.scores) // 2)


def why(setting: Setting, compared: int) -> str:
    """The reason of a choice."""
    if setting.able == 1:
        words = f"the only replica of shard {setting.shard_id} that can answer"
    else:
        words = f"the lower score of {compared} sampled from {setting.able} replicas of shard {setting.shard_id}"
    return words + _listed("; left out: ", setting.left_out)


def none_left(setting: Setting) -> str:
    """The reason why nobody was chosen."""
    return f"no replica of shard {setting.shard_id} can answer" + _listed(": ", setting.left_out)


def _listed(before: str, left_out: Mapping[str, str]) -> str:
    return before + ", ".join(f"{node} {why}" for node, why in left_out.items()) if left_out else ""

"""How plans are carried out: what the settings say of shadowing, cutting over, taking back and waiting."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from pydantic import ConfigDict

from foreshard.errors import ForeshardError


@dataclass(frozen=True)
class TransitionSettings:
    """How plans are carried out.

    `shadow_share` of the queries of a shard also go to its new replica, until `shadow_queries` were compared or
    `shadow_seconds` are over; with a share of 0 there is no shadowing. `cut_over`: the parts of the new weights published one
    after another, each held for `step_seconds` and until the gateways follow it. A verification expires after `verified_hours`,
    or when the copy is more than `catch_up_versions` behind. A node that does not answer for `silent_seconds` is waited for,
    and after `give_up_seconds` its moves are rolled back; so they are when a copy failed `attempts` times. A plan whose
    forecast has changed by more than `forecast_drift` (part of the load) before it began is refused.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    shadow_share: float = 0.1
    shadow_queries: int = 100
    shadow_seconds: float = 300.0
    shadow_failed_share: float = 0.01
    shadow_latency_factor: float = 3.0
    shadow_latency_ms: float = 50.0  # a slower answer than the old replica's is borne up to this in any case
    cut_over: tuple[float, ...] = (0.1, 0.5, 1.0)
    step_seconds: float = 10.0
    reverse_seconds: float = 300.0
    verified_hours: float = 24.0
    catch_up_versions: int = 2
    silent_seconds: float = 15.0
    give_up_seconds: float = 900.0
    attempts: int = 3
    forecast_drift: float = 0.2


def check_transition(chosen: TransitionSettings, origin: str) -> None:
    """Raises ForeshardError naming the field that makes no sense; `origin` is the file it stands in."""
    if not 0 <= chosen.shadow_share <= 1 or not 0 <= chosen.shadow_failed_share <= 1:
        raise ForeshardError(f"{origin}: transition: shares must be between 0 and 1")
    rising = all(a < b for a, b in itertools.pairwise((0.0, *chosen.cut_over)))
    if not chosen.cut_over or not rising or chosen.cut_over[-1] != 1:
        raise ForeshardError(f"{origin}: transition.cut_over: must rise from above 0 to 1, not {list(chosen.cut_over)}")

"""What one policy is worth against another, in figures and in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from foreshard.replay.outcome import Outcome

# A saving is worth its name only while at most this part of the requests is above its node's capacity.
MOST_OVERLOAD = 0.001


@dataclass(frozen=True)
class Against:
    """One policy against another. A part of something of which the other has none is None."""

    overload_avoided: float | None  # of the steps in which the other was overloaded, the part that is avoided
    node_hours: float  # as a multiple of the other's
    bytes_moved: float | None  # as a multiple of the other's

    @property
    def saved(self) -> float:
        """The part of the other's node-hours that is not needed."""
        return 1.0 - self.node_hours


def against(one: Outcome, other: Outcome) -> Against:
    """What `one` is worth against `other`, on the same trace."""
    share, bytes_moved = other.overload_interval_share, other.bytes_moved
    return Against(
        1.0 - one.overload_interval_share / share if share > 0 else None,
        one.node_hours / other.node_hours,
        one.bytes_moved / bytes_moved if bytes_moved > 0 else None,
    )


def worth(outcomes: Mapping[str, Outcome], policy: str = "foreshard") -> str:
    """One sentence about a policy: against following the load, and against a pool for the peak, as far as they were played."""
    if policy not in outcomes:
        return ""
    one, parts = outcomes[policy], []
    if "reactive" in outcomes:
        found = against(one, outcomes["reactive"])
        parts.append(f"{_avoided(found, one)} reactive at {found.node_hours:.2f} × its node-hours")
    if "static_peak" in outcomes:
        saved = against(one, outcomes["static_peak"]).saved
        best = (
            f" (an oracle: {_change(against(outcomes['oracle'], outcomes['static_peak']).saved)})"
            if "oracle" in outcomes
            else ""
        )
        parts.append(f"{_change(saved)} node-hours than a pool for the peak{best}")
    parts.append(f"{part(one.overload_request_share)} of requests above capacity")
    return f"{policy}: {', '.join(parts)}."


def _avoided(found: Against, one: Outcome) -> str:
    if found.overload_avoided is None:
        return "no overload, as" if one.overload_interval_share == 0 else "more overload than the none of"
    return (
        f"{abs(100 * found.overload_avoided):.3g} % {'less' if found.overload_avoided >= 0 else 'more'} time in overload than"
    )


def _change(saved: float) -> str:
    return f"{abs(100 * saved):.3g} % {'fewer' if saved >= 0 else 'more'}"


def part(share: float) -> str:
    """A share of 1 as a percentage of three digits: 0.0123 %."""
    return f"{100 * share:.3g} %"

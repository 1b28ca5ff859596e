"""Whether what gateways saw of new replicas is enough, and good enough, to send queries there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from foreshard.transition.picture import MoveView, Picture, ShadowFigures

_FEW = 20  # answers: a quantile of fewer says little


@dataclass(frozen=True, slots=True)
class Verdict:
    """`fault`: why the move is to be rolled back. `waits`: what is still waited for. Both empty: it may go on."""

    fault: str = ""
    waits: str = ""


def shadow_verdict(picture: Picture, moves: Sequence[MoveView]) -> Verdict:
    """Judges these moves together; a difference in one answer is a fault, and time that is over ends the waiting."""
    settings = picture.settings
    short = []
    for move in moves:
        seen = picture.shadows.get((move.shard_id, move.target), ShadowFigures())
        fault = _fault(picture, move, seen)
        if fault:
            return Verdict(fault=fault)
        if seen.compared < settings.shadow_queries:
            short.append(f"shard {move.shard_id} on {move.target} ({seen.compared} of {settings.shadow_queries})")
    waited = (picture.now - max(m.since for m in moves)).total_seconds()
    if short and waited < settings.shadow_seconds:
        return Verdict(waits=f"compared answers of {short[0]}, {settings.shadow_seconds - waited:.0f} s at most")
    return Verdict()


def _fault(picture: Picture, move: MoveView, seen: ShadowFigures) -> str:
    settings, where = picture.settings, f"shard {move.shard_id} on {move.target}"
    example = f", for example {seen.example}" if seen.example else ""
    if seen.mismatched:
        return f"{where} answered {seen.mismatched} of {seen.compared} queries otherwise than the old replicas{example}"
    asked = seen.compared + seen.failed + seen.skipped
    if seen.failed > max(1.0, settings.shadow_failed_share * asked):
        return f"{where} failed to answer {seen.failed} of {asked} queries{example}"
    bound = max(settings.shadow_latency_ms, settings.shadow_latency_factor * seen.old_p95_ms)
    if seen.compared >= _FEW and seen.new_p95_ms > bound:
        return f"{where} took {seen.new_p95_ms:.0f} ms at p95, the old replicas {seen.old_p95_ms:.0f} ms"
    return ""

"""What forecasts would have been worth on the demo's own weeks: the same replay that a user plays on a pool of theirs."""

from __future__ import annotations

from pathlib import Path

from foreshard.replay.own_data import read_own_or_trace
from foreshard.replay.pictures import load_and_capacity
from foreshard.replay.playing import Replay, replay
from foreshard.replay.report import write_report
from foreshard.settings import Settings

# What one has, what one would have at best, and the two ends of what can be done.
_POLICIES = ("static_peak", "reactive", "foreshard", "oracle")


def replayed_weeks(settings: Settings) -> Replay:
    """The pool's history so far, its second half played under four policies."""
    return replay(read_own_or_trace(Path(settings.lake) / settings.pool_id, settings.slot_bits), _POLICIES)


def draw_weeks(replayed: Replay, pictures: Path, page: Path) -> dict[str, Path]:
    """A picture into the folder `pictures`, and a page into the folder `page`; what is seen → file."""
    page.mkdir(exist_ok=True)
    return {
        "these weeks replayed: load and capacity under four policies": load_and_capacity(pictures / "replay.png", replayed),
        "the replay's own page": write_report(replayed, page),
    }

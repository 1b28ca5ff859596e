"""Whole transitions on real processes that are killed on the way; crash_drill.py tells what must hold afterwards.

FORESHARD_DRILLS is how many (10, which cover every state of a move), FORESHARD_FIRST_DRILL the first one's seed (0).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from crash_blows import COVERED, drill_of
from crash_drill import run
from crash_platform import Platform

pytestmark = pytest.mark.live

FIRST, DRILLS = int(os.environ.get("FORESHARD_FIRST_DRILL", "0")), int(os.environ.get("FORESHARD_DRILLS", "10"))


class Platforms:
    """One platform for all drills, and another one after a drill that failed: nothing can be said of the old one then."""

    def __init__(self) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._platform: Platform | None = None

    def given(self) -> Platform:
        if self._platform is None:
            # Not below pytest's folder, which is closed to the account that Postgres runs under.
            self._folder = tempfile.TemporaryDirectory()
            self._platform = Platform(Path(self._folder.name))
            self._platform.start()
        return self._platform

    def drop(self) -> None:
        if self._platform is not None and self._folder is not None:
            self._platform.stop()
            self._folder.cleanup()
        self._platform = None


@pytest.fixture(scope="module")
def platforms() -> Iterator[Platforms]:
    kept = Platforms()
    try:
        yield kept
    finally:
        kept.drop()


@pytest.mark.parametrize("seed", range(FIRST, FIRST + DRILLS))
def test_a_transition_survives_being_killed(platforms: Platforms, seed: int) -> None:
    drill = drill_of(seed)
    try:
        outcome = run(platforms.given(), drill)
    except BaseException:
        platforms.drop()
        raise
    print(outcome)
    assert outcome.queries > 0
    # A blow at an instant may come after the end; one at a state that every plan goes through may not.
    assert seed >= COVERED or drill.blows[0] in outcome.struck, f"nobody was hit: {outcome}"

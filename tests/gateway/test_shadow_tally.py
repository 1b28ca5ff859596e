"""A gateway's totals of shadows against a real Postgres: written when they changed, kept until then, forgotten when over."""

from __future__ import annotations

import pytest

from foreshard.errors import ForeshardError
from foreshard.gateway.shadow_tally import ShadowTally
from foreshard.routing import database as control_plane
from foreshard.transition.picture import ShadowFigures
from foreshard.transition.shadowing import read_shadows

KEY = (5, 3, "n")


def rows(url: str) -> int:
    with control_plane.transaction(url) as cursor:
        cursor.execute("SELECT count(*) AS n FROM shadow_report")
        return int(cursor.fetchall()[0]["n"])


def test_totals_grow_and_a_process_that_starts_anew_adds_its_own(published: str) -> None:
    for expected in (2, 4):
        tally = ShadowTally("usage", "g1", lambda key: True)
        for _ in range(2):
            tally.answered(KEY, 1.0, 2.0, False, "other rows")
            tally.write(published)
        assert read_shadows(published, "usage", 5)[3, "n"].mismatched == expected
    assert rows(published) == 2


def test_other_rows_are_the_example_though_a_failure_came_first(published: str) -> None:
    tally = ShadowTally("usage", "g1", lambda key: True)
    tally.failed(KEY, "a failure")
    tally.write(published)
    assert read_shadows(published, "usage", 5)[3, "n"].example == "a failure"
    tally.answered(KEY, 1.0, 1.0, True, "")
    for example in ("the first that differs", "the second"):
        tally.answered(KEY, 1.0, 1.0, False, example)
    tally.failed(KEY, "another failure")
    tally.write(published)
    assert read_shadows(published, "usage", 5)[3, "n"].example == "the first that differs"


def test_what_could_not_be_written_is_written_later(published: str) -> None:
    tally = ShadowTally("usage", "g1", lambda key: True)
    tally.answered(KEY, 1.0, 1.0, None, "")
    with pytest.raises(ForeshardError):
        tally.write("postgresql://postgres@127.0.0.1:1/nowhere")
    assert read_shadows(published, "usage", 5) == {}
    tally.write(published)
    seen = read_shadows(published, "usage", 5)[3, "n"]
    assert seen == ShadowFigures(skipped=1, old_p95_ms=seen.old_p95_ms, new_p95_ms=seen.new_p95_ms)


def test_nothing_is_written_when_nothing_changed(published: str) -> None:
    tally = ShadowTally("usage", "g1", lambda key: True)
    tally.failed(KEY, "x")
    tally.write(published)
    with control_plane.transaction(published) as cursor:
        cursor.execute("DELETE FROM shadow_report")
    tally.write(published)
    assert rows(published) == 0


def test_a_shadow_that_is_over_is_forgotten_once_written_and_no_answer_can_come_any_more(published: str) -> None:
    clock, current = [0.0], [True]
    tally = ShadowTally("usage", "g1", lambda key: current[0], monotonic=lambda: clock[0])
    tally.failed(KEY, "x")
    tally.write(published)
    clock[0] = 1000.0
    tally.write(published)
    tally.failed(KEY, "y")  # still listed: it goes on counting
    tally.write(published)
    assert read_shadows(published, "usage", 5)[3, "n"].failed == 2
    current[0] = False
    tally.write(published)
    tally.failed(KEY, "a late one")
    tally.write(published)
    assert read_shadows(published, "usage", 5)[3, "n"].failed == 3
    clock[0] = 2000.0
    tally.write(published)
    assert tally.outcomes["failed"] == 3
    assert not tally._totals

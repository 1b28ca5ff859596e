"""What entities bring of their slots' forecast, and the shards' loads when others are isolated than in the forecast."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.model import HeavyEntity, Isolation, Node, NodeState, Policy, ShardLoad
from foreshard.placement.isolation import isolated_after
from foreshard.transition.entity_loads import (
    MOST,
    EntityShare,
    as_isolated,
    forecast_apart,
    least_peak,
    part_of,
    shares,
    weighed_up,
)

START = datetime(2013, 11, 28, 22, tzinfo=UTC)
STEPS = tuple(START + timedelta(hours=h) for h in range(4))  # 22:00 to 01:00
FLAT = (0.5,) * 24


def slot(shard_id: int = 0, *mean: float) -> ShardLoad:
    loads = mean or (8.0, 8.0, 4.0, 4.0)
    return ShardLoad(shard_id, loads, tuple(x / 4 for x in loads), tuple((x / 8,) for x in loads), recent_share=0.7)


def entity(name: str, *mean: float, slot: int = 0) -> HeavyEntity:
    return HeavyEntity(name, slot, mean, (0.0,) * len(mean))


def test_a_share_is_of_its_hour_of_the_day_and_of_all_hours_where_the_slot_had_no_load() -> None:
    rows = [(0, "e", 22, 30.0), (0, "", 22, 10.0), (0, "e", 0, 10.0), (0, "f", 0, 30.0), (1, "", 0, 5.0)]
    found = {share.entity_id: share for share in shares(rows, ())}
    assert set(found) == {"e", "f"}
    assert (found["e"].by_hour[22], found["e"].by_hour[0], found["e"].by_hour[5]) == (0.75, 0.25, 0.5)
    assert (found["f"].by_hour[22], found["f"].slot) == (0.0, 0)


def test_an_entity_with_a_forecast_of_its_own_is_no_part_of_its_slot() -> None:
    rows = [(0, "e", 22, 30.0), (0, "f", 22, 10.0), (0, "", 22, 10.0)]
    (found,) = shares(rows, ["e"])
    assert (found.entity_id, found.by_hour[22]) == ("f", 0.5)


def test_an_entity_that_was_never_asked_for_has_no_share() -> None:
    assert shares([(0, "e", 3, 0.0), (0, "", 3, 0.0)], ()) == []


def test_the_part_of_a_slot_s_forecast_follows_the_hour_of_each_step_and_its_spreads_likewise() -> None:
    by_hour = tuple(1.0 if hour >= 12 else 0.25 for hour in range(24))
    part = part_of(slot(), EntityShare("e", 0, by_hour), STEPS)
    assert part.mean == (8.0, 8.0, 1.0, 1.0)
    assert part.spread_own == (2.0, 2.0, 0.25, 0.25)
    assert part.spread_common == ((1.0,), (1.0,), (0.125,), (0.125,))
    assert (part.recent_share, part.shard_id, part.reserved) == (0.7, None, None)


def test_an_entity_isolated_since_the_forecast_takes_its_part_off_its_slot() -> None:
    part = part_of(slot(), EntityShare("e", 0, FLAT), STEPS)
    rest, own = as_isolated([slot()], {"e": part}, {}, {"e": 8})
    assert (own.shard_id, own.parent, own.mean) == (8, 0, (4.0, 4.0, 2.0, 2.0))
    assert (rest.shard_id, rest.parent, rest.mean) == (0, None, (4.0, 4.0, 2.0, 2.0))
    # Independent errors: what is left and what was taken have the slot's variance together.
    assert [a * a + b * b for a, b in zip(rest.spread_own, own.spread_own, strict=True)] == pytest.approx([4, 4, 1, 1])


def test_an_entity_isolated_when_the_forecast_was_made_and_no_longer_gives_its_load_back() -> None:
    own = slot(8, 3.0, 3.0, 1.0, 1.0)
    (whole,) = as_isolated([slot(), own], {"e": forecast_apart("e", 0, own)}, {"e": 8}, {})
    assert (whole.shard_id, whole.mean) == (0, (11.0, 11.0, 5.0, 5.0))


def test_an_isolated_entity_s_shard_names_its_slot_as_its_parent() -> None:
    own = slot(8, 3.0, 3.0, 1.0, 1.0)
    now = as_isolated([slot(), own], {"e": forecast_apart("e", 0, own)}, {"e": 8}, {"e": 8})
    assert now == (slot(), replace(own, parent=0))


@given(
    means=st.lists(st.floats(0.01, 1e6), min_size=3, max_size=3),
    part=st.lists(st.floats(0, 1), min_size=24, max_size=24),
    then=st.sets(st.sampled_from("abc")),
    now=st.sets(st.sampled_from("abc")),
)
def test_no_load_comes_or_goes_whatever_is_isolated(
    means: list[float], part: list[float], then: set[str], now: set[str]
) -> None:
    """Entities a, b and c are of slots 0, 1 and 2."""
    slots = [slot(i, *([mean] * 4)) for i, mean in enumerate(means)]
    parts = {e: part_of(slots[i], EntityShare(e, i, tuple(part)), STEPS) for i, e in enumerate("abc")}
    numbers = {"a": 8, "b": 9, "c": 10}
    forecast = as_isolated(slots, parts, {}, {e: numbers[e] for e in then})
    by_id = {s.shard_id: s for s in forecast}
    seen = {e: forecast_apart(e, p.slot, by_id[numbers[e]]) if e in then else p for e, p in parts.items()}
    shards = as_isolated(forecast, seen, {e: numbers[e] for e in then}, {e: numbers[e] for e in now})
    assert {s.shard_id for s in shards} == {0, 1, 2, *(numbers[e] for e in now)}
    assert {s.shard_id: s.parent for s in shards if s.parent is not None} == {numbers[e]: parts[e].slot for e in now}
    for step in range(4):
        assert sum(s.mean[step] for s in shards) == pytest.approx(sum(means))


def test_what_is_weighed_up_is_hot_enough_and_most_of_its_slot_at_its_peak() -> None:
    pool = [Node("a", 10.0), Node("b", 30.0), Node("c", 1000.0, NodeState.DEAD)]
    least = least_peak(Policy(isolate_share=0.3, cold_factor=0.5), pool)
    assert least == pytest.approx(0.3 * 0.5 * 20.0)
    shards = [slot(0, 8.0, 2.0), slot(1, 8.0, 8.0)]
    entities = [entity("hot", 3.0, 0.1), entity("hotter", 4.0, 2.0, slot=1), entity("small", 2.9, 1.9)]
    found = weighed_up(entities, shards, least, 0.4)
    assert [e.entity_id for e in found] == ["hotter"]
    assert [e.entity_id for e in weighed_up(entities, shards, least, 0.375)] == ["hotter", "hot"]
    assert weighed_up(entities, shards, least_peak(Policy(), pool[2:]), 0.1) == ()
    assert weighed_up([entity("none", 0.0, 0.0)], shards, 0.0, 0.0) == (), "nobody asks for it"


def test_only_the_hottest_are_weighed_up_at_once() -> None:
    entities = [entity(f"e{n:02}", 4.0 + n / 100) for n in range(MOST + 5)]
    found = weighed_up(entities, [slot()], 1.0, 0.5)
    assert [e.entity_id for e in found] == [f"e{n:02}" for n in reversed(range(5, MOST + 5))]


def test_a_plan_s_isolations_change_the_map() -> None:
    changes = (Isolation("old", 0, 8, "", ends=True), Isolation("new", 1, 10, ""))
    assert isolated_after({"old": 8, "kept": 9}, changes) == {"kept": 9, "new": 10}
    assert isolated_after({"kept": 9}, ()) == {"kept": 9}

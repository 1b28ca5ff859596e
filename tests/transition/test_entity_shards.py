"""The numbers of entities' own shards: given once, kept for good."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

from foreshard.routing import store as epochs
from foreshard.routing.snapshot import Snapshot
from foreshard.transition import entity_shards
from foreshard.transition.store import ReplicaRecord, upsert_replicas


def test_an_entity_keeps_its_number_and_nobody_else_gets_it(published: str) -> None:
    assert entity_shards.reserve(published, "usage", {}, []) == {}
    assert entity_shards.reserve(published, "usage", {}, ["b", "a"]) == {"b": 4, "a": 5}
    assert entity_shards.reserve(published, "usage", {}, ["c", "a"]) == {"c": 6, "a": 5}
    assert entity_shards.known(published, "usage") == {"a": 5, "b": 4, "c": 6}


def test_a_number_that_a_copy_has_is_not_given(published: str) -> None:
    upsert_replicas(published, "usage", [ReplicaRecord(9, "a", "verified")])
    assert entity_shards.reserve(published, "usage", {}, ["a"]) == {"a": 10}


def test_entities_that_are_isolated_already_keep_theirs(published: str, snapshot: Snapshot) -> None:
    entity_shards.reserve(published, "usage", {}, ["x"])
    isolated = (("y", 4), ("z", 7))
    epochs.publish(
        published,
        replace(snapshot, epoch=2, parent=1, isolated=isolated),
        expected_epoch=1,
        published_by="test",
        reason="published by hand, past the reservation",
    )
    assert entity_shards.known(published, "usage") == {"y": 4, "z": 7}, "the epoch's word is above the reservation's"
    assert entity_shards.reserve(published, "usage", dict(isolated), ["y", "z", "w", "x"]) == {"y": 4, "z": 7, "w": 8, "x": 9}
    assert entity_shards.known(published, "usage") == {"y": 4, "z": 7, "w": 8, "x": 9}


def test_two_planners_at_once_give_each_number_once(published: str) -> None:
    barrier = Barrier(2)

    def reserve(names: list[str]) -> dict[str, int]:
        barrier.wait()
        return entity_shards.reserve(published, "usage", {}, names)

    with ThreadPoolExecutor(2) as executor:
        one, other = executor.map(reserve, [["a", "b", "c"], ["c", "d", "a"]])
    assert (one["a"], one["c"]) == (other["a"], other["c"])
    assert sorted((one | other).values()) == [4, 5, 6, 7]

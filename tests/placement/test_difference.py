"""What differs between two layouts."""

from __future__ import annotations

from datetime import date

import pytest
from clusters import random_problem

from foreshard.model import Layout, Replica
from foreshard.placement.explanation.difference import difference

DAY, LATER = date(2013, 11, 20), date(2013, 11, 21)


def test_each_kind_of_change_is_named() -> None:
    before = Layout(
        1,
        (
            Replica(0, "a"),
            Replica(0, "b"),
            Replica(1, "a", 0.5, DAY),
            Replica(2, "a", covers_from=LATER),
            Replica(3, "b"),
            Replica(4, "b", 0.25),
        ),
    )
    after = Layout(
        2,
        (
            Replica(0, "a"),
            Replica(0, "c"),
            Replica(1, "a", 0.5),
            Replica(2, "a", covers_from=DAY),
            Replica(3, "b", covers_from=DAY),
            Replica(4, "b", 0.75),
        ),
    )
    found = difference(before, after)
    assert [(c.shard_id, c.node_id, c.what) for c in found.changes] == [
        (0, "b", "removed"),
        (0, "c", "added"),
        (1, "a", "widened"),
        (2, "a", "widened"),
        (3, "b", "narrowed"),
        (4, "b", "weighed"),
    ]
    assert [found.count(what) for what in ("added", "removed", "widened", "narrowed", "weighed")] == [1, 1, 2, 1, 1]
    assert [(n.node_id, n.replicas_before, n.replicas_after, n.added, n.removed) for n in found.nodes] == [
        ("a", 3, 3, 0, 0),
        ("b", 3, 2, 0, 1),
        ("c", 0, 1, 1, 0),
    ]
    assert (found.changes[0].weight_after, found.changes[1].weight_before) == (None, None)


@pytest.mark.parametrize("seed", range(20))
def test_a_layout_does_not_differ_from_itself_and_differences_turn_round(seed: int) -> None:
    one, two = random_problem(seed).layout, random_problem(seed + 1_000).layout
    assert difference(one, one).changes == ()
    there, back = difference(one, two), difference(two, one)
    turned = {"added": "removed", "removed": "added", "widened": "narrowed", "narrowed": "widened", "weighed": "weighed"}
    assert [(c.shard_id, c.node_id, turned[c.what]) for c in there.changes] == [
        (c.shard_id, c.node_id, c.what) for c in back.changes
    ]
    for node in there.nodes:
        assert node.replicas_before + node.added - node.removed == node.replicas_after

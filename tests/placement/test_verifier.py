"""The verifier finds each way in which a plan can be wrong: a sound plan is spoilt, one way at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta

import pytest
from clusters import START
from hand_made import everything, move, plan_of, settled, shard, three_nodes

from foreshard.model import Conflict, Goal, Isolation, Move, MoveKind, NodeState, PlacementProblem, Plan, Replica
from foreshard.placement.verifier import violations

MOVE, REPLICATE, WIDEN, DROP = MoveKind.MOVE, MoveKind.REPLICATE, MoveKind.WIDEN, MoveKind.DROP


def with_moves(problem: PlacementProblem, plan: Plan, *moves: Move) -> Plan:
    """The plan with these moves as well, its layout and counts in step with them."""
    fresh = plan_of(problem, (*plan.moves, *moves))
    metrics = fresh.metrics
    kept = replace(plan.metrics, moves=metrics.moves, bytes_moved=metrics.bytes_moved, waves=metrics.waves)
    return replace(
        plan,
        plan_id=fresh.plan_id,
        moves=fresh.moves,
        layout=fresh.layout,
        metrics=replace(kept, bytes_lower_bound=0, bytes_gap=0.0),
    )


def without(plan: Plan, problem: PlacementProblem, *positions: int) -> Plan:
    kept = tuple(m for i, m in enumerate(plan.moves) if i not in positions)
    return with_moves(problem, replace(plan, moves=kept))


def with_move(plan: Plan, at: int, **change: object) -> Plan:
    moves = list(plan.moves)
    moves[at] = replace(moves[at], **change)  # type: ignore[arg-type]
    return replace(plan, moves=tuple(moves))


def with_replica(plan: Plan, at: int, **change: object) -> Plan:
    replicas = list(plan.layout.replicas)
    replicas[at] = replace(replicas[at], **change)  # type: ignore[arg-type]
    return replace(plan, layout=replace(plan.layout, replicas=tuple(replicas)))


def with_metrics(plan: Plan, **change: object) -> Plan:
    return replace(plan, metrics=replace(plan.metrics, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize("made", [everything, three_nodes, settled])
def test_a_sound_plan_passes(made: Callable[[], tuple[PlacementProblem, Plan]]) -> None:
    assert violations(*made()) == []


SPOILT_PLANS: dict[str, tuple[Callable[[PlacementProblem, Plan], Plan], str]] = {
    "another pool": (lambda p, q: replace(q, pool_id="other"), "the plan is for pool other"),
    "epoch": (lambda p, q: replace(q, layout=replace(q.layout, epoch=3)), "the plan leads from epoch 7 to 3"),
    "other inputs": (lambda p, q: replace(q, input_digest="0"), "made from other inputs"),
    "another id": (lambda p, q: replace(q, plan_id="0" * 16), "is not the id of these inputs and moves"),
    "replica twice": (
        lambda p, q: replace(q, layout=replace(q.layout, replicas=q.layout.replicas[:1] * 2)),
        "twice on one node",
    ),
    "weights": (lambda p, q: with_replica(q, 0, weight=0.9), "sum to 1.4"),
    "no weight": (lambda p, q: with_replica(q, 0, weight=0.0), "has weight 0.0"),
    "a move forgotten": (lambda p, q: replace(q, moves=q.moves[1:]), "the moves do not lead to the plan's layout"),
    "source without it": (lambda p, q: with_moves(p, q, move(DROP, 3, "n2", "", Goal.BALANCE, 0, 1)), "which does not hold it"),
    "target with it": (lambda p, q: with_moves(p, q, move(REPLICATE, 3, "", "n0", Goal.REPLICATE, 1000, 1)), "which holds it"),
    "nothing to widen": (
        lambda p, q: with_moves(p, q, move(WIDEN, 3, "", "n0", Goal.REPAIR, 900, 1)),
        "has no hot replica of it",
    ),
    "there and back": (
        lambda p, q: with_moves(
            p, q, move(REPLICATE, 3, "", "n2", Goal.REPLICATE, 1000, 1), move(DROP, 3, "n2", "", Goal.BALANCE, 0, 1)
        ),
        "shard 3 comes to n2 and leaves it",
    ),
    "too few replicas": (
        lambda p, q: with_moves(p, q, move(DROP, 5, "n0", "", Goal.CONSOLIDATE, 0, 1)),
        "after wave 1 shard 5 has 1 full replicas on live nodes of 2",
    ),
    "too few in between": (
        lambda p, q: with_moves(
            p,
            q,
            move(DROP, 5, "n0", "", Goal.BALANCE, 0, 1),
            move(REPLICATE, 5, "", "n2", Goal.BALANCE, 1000, 2),
        ),
        "after wave 1 shard 5 has 1 full replicas on live nodes of 2",
    ),
    "entity without a replica": (
        lambda p, q: with_moves(p, q, move(DROP, 100, "n1", "", Goal.CONSOLIDATE, 0, 1)),
        "shard 100 has no replica of its own",
    ),
    "too many replicas": (
        lambda p, q: with_moves(
            p,
            q,
            *(move(REPLICATE, 1, "", n, Goal.REPLICATE, 1000, 1) for n in ("n1", "n3")),
            move(REPLICATE, 1, "", "n4", Goal.REPLICATE, 1000, 1),
        ),
        "shard 1 has 5 replicas of at most 4",
    ),
    "pin": (lambda p, q: with_moves(p, q, move(MOVE, 0, "n0", "n3", Goal.FILL, 1000, 1)), "which it is pinned to"),
    "avoided": (lambda p, q: with_moves(p, q, move(REPLICATE, 0, "", "n2", Goal.REPLICATE, 1000, 1)), "on n2, which it avoids"),
    "apart": (
        lambda p, q: with_moves(p, q, move(MOVE, 5, "n0", "n3", Goal.FILL, 1000, 1)),
        "of label t do not share their nodes",
    ),
    "not distinct": (lambda p, q: with_moves(p, q, move(MOVE, 3, "n0", "n3", Goal.FILL, 1000, 1)), "group g has 1 replicas on"),
    "few zones": (lambda p, q: with_moves(p, q, move(MOVE, 3, "n1", "n3", Goal.FILL, 1000, 1)), "group g is in 2 zones of 3"),
    "not near": (
        lambda p, q: with_moves(
            p,
            q,
            move(MOVE, 3, "n0", "n5", Goal.BALANCE, 1000, 1),
            move(MOVE, 3, "n1", "n4", Goal.BALANCE, 1000, 1),
            move(MOVE, 7, "n2", "n0", Goal.BALANCE, 1000, 1),
        ),
        "group h is in 1 neighbourhoods without group g",
    ),
    "lost replica left": (lambda p, q: without(q, p, 0), "in the end shard 2 has 1 full replicas on live nodes of 2"),
    "dead node holds": (lambda p, q: without(q, p, 1), "shard 2 ends on n5, which is dead"),
    "draining node holds": (lambda p, q: without(q, p, 2), "shard 1 ends on n4, which is draining, with budget left"),
    "draining node takes": (lambda p, q: with_move(q, 4, target="n4"), "copies shard 7 to n4, which takes no shards"),
    "no such shard": (lambda p, q: with_move(q, 4, shard_id=77), "there is no such shard"),
    "ends of a kind": (lambda p, q: with_move(q, 0, source="n1"), "a replicate from n1 to n2"),
    "to itself": (lambda p, q: with_move(q, 4, target="n1"), "a move from n1 to n1"),
    "no reason": (lambda p, q: with_move(q, 0, reason=" "), "move 0 (shard 2): it has no reason"),
    "negative gain": (lambda p, q: with_move(q, 0, gain=-1.0), "it gains -1.0"),
    "wrong bytes": (lambda p, q: with_move(q, 2, bytes=10), "it copies 10 bytes instead of 1000"),
    "another day": (lambda p, q: with_move(q, 2, covers_from=date(2010, 1, 1)), "hot replicas begin on"),
    "drains what does not": (lambda p, q: with_move(q, 4, goal=Goal.DRAIN), "it is to drain n1, which is not draining"),
    "fills what is full": (lambda p, q: with_move(q, 2, goal=Goal.FILL), "it is to fill n2, which is not new"),
    "consolidates by copies": (lambda p, q: with_move(q, 0, goal=Goal.CONSOLIDATE), "in order to have fewer"),
    "late": (lambda p, q: with_move(q, 4, start_by=START + timedelta(hours=2, minutes=55)), "too late for every step"),
    "no zone of time": (lambda p, q: with_move(q, 4, start_by=START.replace(tzinfo=None)), "has no time zone"),
    "waves out of order": (lambda p, q: with_move(q, 0, wave=1), "wave 0 comes after wave 1"),
    "waves with a gap": (lambda p, q: with_move(q, 6, wave=4), "wave 4 comes after wave 1"),
    "isolation unknown": (
        lambda p, q: replace(q, isolations=(Isolation("e9", 1, 101, "x"),)),
        "no such heavy entity in slot 1",
    ),
    "isolation again": (lambda p, q: replace(q, isolations=(Isolation("e0", 0, 101, "x"),)), "is there already"),
    "isolation of another's": (
        lambda p, q: replace(q, isolations=(Isolation("e1", 1, 5, "x", True),)),
        "shard 5 is not its own",
    ),
    "isolation not held": (lambda p, q: without(q, p, 5), "shard 101 ends without a replica"),
    "isolation held on": (
        lambda p, q: replace(q, isolations=(*q.isolations, Isolation("e0", 0, 100, "x", True))),
        "shard 100 ends held",
    ),
    "isolation without reason": (lambda p, q: replace(q, isolations=(Isolation("e1", 1, 101, ""),)), "of e1 has no reason"),
    "isolation twice": (lambda p, q: replace(q, isolations=q.isolations * 2), "an entity is isolated twice"),
    "shard unknown": (lambda p, q: replace(q, isolations=()), "the layout has shard 101, which nothing knows"),
    "nodes beyond": (
        lambda p, q: replace(q, node_counts=(replace(q.node_counts[0], nodes=11),)),
        "11 nodes from",
    ),
    "nodes late": (
        lambda p, q: replace(q, node_counts=(replace(q.node_counts[0], start_by=START + timedelta(hours=2)),)),
        "after its step",
    ),
    "nodes off the horizon": (
        lambda p, q: replace(q, node_counts=(replace(q.node_counts[0], step=START + timedelta(days=9)),)),
        "not of ascending steps",
    ),
    "nodes without reason": (lambda p, q: replace(q, node_counts=(replace(q.node_counts[0], reason=""),)), "has no reason"),
    "conflict without remedy": (lambda p, q: replace(q, conflicts=(Conflict(("x",), ""),)), "names no demand or no remedy"),
    "moves miscounted": (lambda p, q: with_metrics(q, moves=0), "do not count the plan's moves"),
    "waves miscounted": (lambda p, q: with_metrics(q, waves=1), "the metrics count 1 waves of 2"),
    "peak below bound": (lambda p, q: with_metrics(q, peak_lower_bound=9.0), "below its lower bound 9.0"),
    "bytes below bound": (lambda p, q: with_metrics(q, bytes_lower_bound=1 << 50), "bytes moved are below their lower bound"),
    "gap": (lambda p, q: with_metrics(q, bytes_gap=0.5), "the bytes gap is 0.5"),
    "no end": (lambda p, q: with_metrics(q, ended_by=""), "a metric is missing"),
    "infinite": (lambda p, q: with_metrics(q, cost=float("nan")), "a metric is missing, negative or not finite"),
}


@pytest.mark.parametrize("name", SPOILT_PLANS)
def test_a_spoilt_plan_is_found(name: str) -> None:
    problem, plan = everything()
    spoil, complaint = SPOILT_PLANS[name]
    assert any(complaint in sentence for sentence in violations(problem, spoil(problem, plan)))


def policy(problem: PlacementProblem, **change: object) -> PlacementProblem:
    return replace(problem, policy=replace(problem.policy, **change))  # type: ignore[arg-type]


def limited(problem: PlacementProblem, node: str, limit: float, transient: bool = True) -> PlacementProblem:
    nodes = tuple(replace(n, limits={"storage": limit}) if n.node_id == node else n for n in problem.nodes)
    return replace(problem, nodes=nodes, resources=tuple(replace(r, transient=transient) for r in problem.resources))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda p: policy(p, max_moves=6), "7 moves are more than the budget of 6"),
        (lambda p: policy(p, max_move_bytes=3_999), "4000 bytes are more than the budget of 3999"),
        (lambda p: policy(p, max_moves_in_flight=1), "wave 0: n2 has 2 copies in flight, 1 are allowed"),
        (lambda p: policy(p, max_bytes_in_flight=1_500), "wave 0: n2 has 2000 bytes in flight, 1500 are allowed"),
        (lambda p: limited(p, "n2", 7.0), "while wave 0 copies n2 has 8 of storage, its limit is 7"),
        (lambda p: limited(p, "n2", 7.0, transient=False), "after wave 0 n2 has 8 of storage, its limit is 7"),
        (lambda p: limited(p, "n0", 4.0), "in the end n0 has 5 of storage, its limit is 4, and no conflict says why"),
        (lambda p: policy(p, min_nodes=5), "4 nodes from"),
    ],
)
def test_a_plan_for_a_stricter_problem_is_found(change: Callable[[PlacementProblem], PlacementProblem], complaint: str) -> None:
    problem, plan = everything()
    assert any(sentence.startswith(complaint) for sentence in violations(change(problem), plan))


def test_repair_may_exceed_the_budget() -> None:
    problem, plan = everything()
    problem = policy(problem, max_moves=0, max_move_bytes=0)
    moves = plan.moves[:2]  # making shard 2 anew and dropping it on the dead node
    assert violations(problem, plan_of(problem, moves)) == []
    more = plan_of(problem, plan.moves[:3])
    assert [s for s in violations(problem, more) if "budget" in s] == [
        "3 moves are more than the budget of 0",
        "2000 bytes are more than the budget of 0",
    ]


@pytest.mark.parametrize("demand", ["node n4 drains", "shards 0, 1 and 3 need 2 full replicas", "label t, shard 1 and no more"])
def test_a_conflict_excuses_what_it_names(demand: str) -> None:
    problem, plan = everything()
    left = without(plan, problem, 2)
    assert violations(problem, replace(left, conflicts=(Conflict((demand,), "add a node"),))) == []


@pytest.mark.parametrize("demand", ["node n40 drains", "shards 10 and 11 need 2 replicas", "1 shard of group g"])
def test_a_conflict_excuses_nothing_else(demand: str) -> None:
    problem, plan = everything()
    left = without(plan, problem, 2)
    sentences = violations(problem, replace(left, conflicts=(Conflict((demand,), "add a node"),)))
    assert sentences == ["shard 1 ends on n4, which is draining, with budget left to move it"]


def test_a_draining_node_may_keep_what_the_budget_does_not_cover_or_nobody_accepts() -> None:
    problem, plan = everything()
    short = policy(problem, max_moves=6)
    kept = without(plan, problem, 2)
    fresh = plan_of(short, kept.moves)
    assert violations(short, replace(kept, input_digest=fresh.input_digest, plan_id=fresh.plan_id)) == []
    problem, plan = settled()
    problem = replace(problem, nodes=tuple(replace(n, state=NodeState.DRAINING) for n in problem.nodes))
    assert violations(problem, plan_of(problem, (), metrics=plan.metrics)) == []


def test_an_exchange_may_share_a_wave_unless_the_resource_is_transient() -> None:
    problem, plan = everything()
    problem = replace(
        limited(limited(problem, "n0", 5.0, False), "n2", 8.0, False),
        layout=plan.layout,
        nodes=tuple(replace(n, limits={"storage": {"n0": 5.0, "n2": 8.0}.get(n.node_id, 99.0)}) for n in problem.nodes[:4]),
        heavy=(),
        shards=(*problem.shards, replace(problem.shards[-1], shard_id=101, parent=1)),
    )
    swap = (
        move(MOVE, 1, "n0", "n1", Goal.COST, 1000),
        move(MOVE, 2, "n1", "n0", Goal.COST, 1000),
    )
    found = {}
    for transient in (False, True):
        given = limited(problem, "n0", 5.0, transient)
        found[transient] = violations(given, plan_of(given, swap))
    assert not any("storage" in s for s in found[False])
    assert "while wave 0 copies n0 has 9 of storage, its limit is 5, which is worse than before" in found[True]


@pytest.mark.parametrize(
    ("moves", "complaint"),
    [
        ((move(MOVE, 2, "a", "b", Goal.BALANCE, 1000),), "from a to b, both within their ceilings"),
        ((move(MOVE, 2, "a", "b", Goal.BALANCE, 1000),), "load above the nodes' ceilings goes from 0 to 4"),
        ((move(MOVE, 2, "a", "b", Goal.COST, 1000),), "the peak goes from 0.4 to 0.5"),
        ((move(MOVE, 2, "a", "b", Goal.COST, 1000),), "the imbalance goes from 0 to 0.25"),
        ((move(MOVE, 2, "a", "b", Goal.COST, 1000),), "soft costs with those of the moves go from 0 to 1.5"),
        ((move(MOVE, 2, "a", "b", Goal.BALANCE, 1000),), "moves are to relieve nodes, but"),
    ],
)
def test_a_goal_that_ends_worse_is_found(moves: tuple[Move, ...], complaint: str) -> None:
    problem, _ = settled()
    assert any(complaint in sentence for sentence in violations(problem, plan_of(problem, moves)))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"peak_before": 0.6}, "the peak before is stated as 0.6, it is 0.7"),
        ({"peak_after": 0.45}, "the peak after is stated as 0.45, it is 0.5"),
        ({"overloaded_nodes": ("a",)}, "a is named as overloaded at 40 of 80"),
        ({"peak_gap": 0.1}, "the peak gap is 0.1, from its bound it is 0.25"),
        ({"imbalance_after": -1.0}, "a metric is missing, negative"),
    ],
)
def test_a_metric_that_is_not_true_is_found(change: dict[str, object], complaint: str) -> None:
    problem, plan = three_nodes()
    assert any(complaint in sentence for sentence in violations(problem, with_metrics(plan, **change)))


def test_an_overload_that_is_not_named_is_found() -> None:
    problem, plan = three_nodes()
    problem = policy(problem, target_utilisation=0.45)
    assert "b is at 50 of 45 and not named as overloaded" in violations(problem, plan)


def test_new_nodes_take_shards_from_each_other_only_if_one_has_its_share() -> None:
    for load, found in ((1.0, True), (30.0, False)):
        problem, plan = three_nodes()
        joining = tuple(replace(n, state=NodeState.JOINING) if n.node_id == "a" else n for n in problem.nodes)
        shards = (shard(0, load, horizon=1), shard(1, load, horizon=1), *problem.shards[2:])
        problem = replace(problem, nodes=joining, shards=shards)
        told = "move 0 takes shard 2 from a to c, which are both new and below their share"
        moves = (replace(plan.moves[0], shard_id=2),)
        assert any(told in s for s in violations(problem, plan_of(problem, moves))) is found


def test_the_weight_of_a_hot_replica_counts_for_recent_queries_only() -> None:
    """With half of shard 3's queries recent, a hot replica of equal weight takes a quarter of its load off b."""
    problem, plan = three_nodes()
    shards = (*problem.shards[:3], replace(problem.shards[3], recent_share=0.5))
    problem = replace(problem, shards=shards)
    hot = move(REPLICATE, 3, "", "c", Goal.REPLICATE, 100, covers_from=problem.covers_from)
    layout = replace(
        plan.layout, replicas=(*problem.layout.replicas[:3], Replica(3, "b", 0.5), Replica(3, "c", 0.5, hot.covers_from))
    )
    metrics = replace(plan.metrics, bytes_moved=100, bytes_lower_bound=0, bytes_gap=0.0, peak_after=0.7, peak_gap=0.75)
    assert violations(problem, plan_of(problem, (hot,), layout=layout, metrics=metrics)) == []

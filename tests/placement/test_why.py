"""Why a shard is where it is and not elsewhere; each counterfactual is made real and must hold."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from clusters import HOT_FROM, nodes, problem, random_problem, shard, steps
from plans import plan_of

from foreshard.errors import ForeshardError
from foreshard.hashing import rendezvous_scores
from foreshard.model import (
    Goal,
    Layout,
    Move,
    MoveKind,
    Node,
    NodeState,
    PlacementProblem,
    Plan,
    Policy,
    Replica,
    Resource,
    ShardGroup,
    ShardLoad,
)
from foreshard.placement import solve
from foreshard.placement.explanation.deviations import deviations
from foreshard.placement.explanation.nothing import next_move
from foreshard.placement.explanation.obstacles import Try, obstacles
from foreshard.placement.explanation.remedy import remedied
from foreshard.placement.explanation.report import report
from foreshard.placement.explanation.scene import Scene, scene
from foreshard.placement.explanation.why import why, why_of
from foreshard.placement.explanation.why_not import WhyNot, why_not, why_not_of


def flat(
    loads: list[float], pool: tuple[Node, ...], where: list[str], policy: Policy | None = None, **more: object
) -> PlacementProblem:
    """One step, no spread; shard i has its only replica on where[i]."""
    shards = tuple(ShardLoad(i, (load,), (0.0,), (), 1_000, 100) for i, load in enumerate(loads))
    held = Layout(1, tuple(Replica(i, name) for i, name in enumerate(where)))
    found = PlacementProblem("p", held, pool, shards, policy or Policy(min_full_replicas=1), steps(1), HOT_FROM)
    return replace(found, **more)  # type: ignore[arg-type]


def answer(problem: PlacementProblem, shard_id: int, node_id: str, plan: Plan | None = None) -> WhyNot:
    return why_not_of(scene(problem, plan or plan_of(problem)), shard_id, node_id)


def with_all(problem: PlacementProblem, found: WhyNot) -> PlacementProblem:
    for obstacle in found.obstacles:
        for remedy in obstacle.remedies:
            problem = remedied(problem, remedy)
    return problem


def binding(problem: PlacementProblem, plan: Plan, found: WhyNot) -> set[str]:
    """What stands against the very replica that the answer is about."""
    shown = scene(problem, plan)
    after = shown.whole
    row, target = shown.whole_row(found.shard_id), after.node(found.node_id)
    source = after.node(found.source) if found.source else -1
    place = next((k for k in after.places(row) if int(after.held.node[row, k]) == source), -1)
    return {o.constraint for o in obstacles(Try(after, row, place, target))}


@pytest.mark.parametrize("start", range(0, 120, 20))
def test_what_is_said_to_be_enough_lifts_every_obstacle(start: int) -> None:
    """Every shard and node of random problems with everything switched on."""
    seen: set[str] = set()
    for seed in range(start, start + 20):
        given = random_problem(seed)
        plan = plan_of(given)
        shown = scene(given, plan)
        for load in given.shards:
            for node in given.nodes:
                found = why_not_of(shown, load.shard_id, node.node_id)
                assert str(found).startswith(f"Shard {load.shard_id} is "), f"seed {seed}"
                assert all(o.remedies for o in found.obstacles), f"seed {seed}: {found}"
                changed = with_all(given, found)
                left = binding(changed, plan, found) if found.obstacles else set()
                assert not left, f"seed {seed}: {found}; still {left}"
                seen |= {o.constraint for o in found.obstacles}
    assert {"state", "ceiling", "limit"} <= seen


ROOMY = Policy(min_full_replicas=1, bounded_load=9.0)
TIGHT = (Node("a", 100.0, limits={"storage": 100.0}), Node("b", 100.0, limits={"storage": 50.0}), Node("c", 100.0))


def test_a_limit_is_named_with_what_is_missing() -> None:
    loads = [ShardLoad(i, (10.0,), (0.0,), (), 1_000, 100, 0.0, {"storage": 30.0}) for i in range(2)]
    given = flat([10.0, 10.0], TIGHT, ["a", "b"], ROOMY, shards=tuple(loads), resources=(Resource("storage"),))
    found = answer(given, 0, "b")
    assert [o.constraint for o in found.obstacles] == ["limit"]
    assert "30 of 50 is in use and the shard needs 30, 10 more than there is" in str(found)
    assert "if storage of b rose by 10 to 60" in str(found)
    assert not binding(with_all(given, found), plan_of(given), found)
    less = replace(found.obstacles[0].remedies[0], value=59.9)
    assert binding(remedied(given, less), plan_of(given), found) == {"limit"}


def test_a_ceiling_is_named_with_the_step_and_the_rise_that_is_enough() -> None:
    given = flat([70.0, 60.0, 5.0, 5.0], nodes(3), ["pipeline-00", "pipeline-01", "pipeline-02", "pipeline-02"])
    given = replace(given, policy=replace(given.policy, bounded_load=3.0))
    found = answer(given, 2, "pipeline-01")
    assert not found.obstacles, "65 of 100 is below the target of 0.8"
    found = answer(given, 0, "pipeline-01")
    assert [o.constraint for o in found.obstacles] == ["ceiling"]
    assert "pipeline-01 would carry 130/s at 2013-11-27 00:00 with the 70/s of it, 63 % above its bound of 80/s" in str(found)
    assert "if the cap of pipeline-01 rose by 63 % (its target from 0.8 to 1.3)" in str(found)
    assert not binding(with_all(given, found), plan_of(given), found)
    less = replace(found.obstacles[0].remedies[0], value=1.29)
    assert binding(remedied(given, less), plan_of(given), found) == {"ceiling"}


def test_a_ceiling_by_the_fair_share_is_lifted_by_bounded_load() -> None:
    given = flat([20.0, 20.0, 20.0], nodes(3), ["pipeline-00", "pipeline-01", "pipeline-02"])
    found = answer(given, 0, "pipeline-01")
    assert "bounded_load rose from 1.15 to 2" in str(found)
    assert not binding(with_all(given, found), plan_of(given), found)


@pytest.mark.parametrize(
    ("change", "constraint", "words"),
    [
        ({"avoids": ("b",)}, "avoids", "shard 0 avoids b"),
        ({"pins": ("a",)}, "pins", "its replica on a is pinned there"),
    ],
)
def test_constraints_of_a_shard_are_named(change: dict[str, tuple[str, ...]], constraint: str, words: str) -> None:
    given = flat([1.0, 1.0], (Node("a", 100.0), Node("b", 100.0)), ["a", "b"], ROOMY)
    given = replace(given, shards=(replace(given.shards[0], **change), given.shards[1]))  # type: ignore[arg-type]
    found = answer(given, 0, "b")
    assert [o.constraint for o in found.obstacles] == [constraint]
    assert words in str(found)
    assert not binding(with_all(given, found), plan_of(given), found)


ZONED = (
    Node("a", 100.0, zone="x", neighbourhood="n"),
    Node("b", 100.0, zone="y", neighbourhood="n"),
    Node("c", 100.0, zone="y"),
)


@pytest.mark.parametrize(
    ("group", "node", "constraint", "words"),
    [
        (ShardGroup("g", distinct_nodes=True), "b", "distinct", "group g is on distinct nodes, and b has shard 1 of it"),
        (
            ShardGroup("g", min_zones=2),
            "c",
            "zones",
            "group g must be in 2 zones, and without the replica in x it would be in 1",
        ),
        (ShardGroup("g", near=("h",)), "c", "near", "group g must be near group h, and none of that would be in the neighb"),
    ],
)
def test_constraints_of_a_group_are_named(group: ShardGroup, node: str, constraint: str, words: str) -> None:
    given = flat([1.0, 1.0, 1.0], ZONED, ["a", "b", "a"], ROOMY, groups=(group, ShardGroup("h")))
    named = tuple(replace(s, group=g) for s, g in zip(given.shards, ("g", "g", "h"), strict=True))
    given = replace(given, shards=named)
    found = answer(given, 0, node)
    assert [o.constraint for o in found.obstacles] == [constraint]
    assert words in str(found)
    assert not binding(with_all(given, found), plan_of(given), found)


def test_a_group_that_others_must_be_near_may_not_leave_them() -> None:
    given = flat([1.0, 1.0], ZONED, ["a", "b"], ROOMY, groups=(ShardGroup("g"), ShardGroup("k", near=("g",))))
    given = replace(given, shards=(replace(given.shards[0], group="g"), replace(given.shards[1], group="k")))
    found = answer(given, 0, "c")
    assert [o.constraint for o in found.obstacles] == ["near"]
    assert "group k must be near group g, and none of that would be in the neighbourhood of a" in str(found)


@pytest.mark.parametrize(("state", "words"), [(NodeState.DRAINING, "b is draining"), (NodeState.DEAD, "b is dead")])
def test_a_node_that_takes_nothing_is_said_to(state: NodeState, words: str) -> None:
    given = flat([1.0, 1.0], (Node("a", 100.0), Node("b", 100.0, state), Node("c", 100.0)), ["a", "c"])
    found = answer(given, 0, "b")
    assert words in str(found)
    assert "could move there if b were active" in str(found)
    assert found.rank == 0


def test_a_budget_that_is_used_up_is_named() -> None:
    given = flat([1.0, 1.0], nodes(3), ["pipeline-00", "pipeline-01"], ROOMY)
    moves = (Move(MoveKind.MOVE, 1, "pipeline-01", "pipeline-02", None, 1_000, "by hand"),)
    plan = plan_of(given, (Replica(0, "pipeline-00"), Replica(1, "pipeline-02")), moves)
    assert not answer(given, 0, "pipeline-01", plan).obstacles
    tight = replace(given, policy=replace(given.policy, max_moves=1, max_move_bytes=1_500))
    found = answer(tight, 0, "pipeline-01", plan)
    assert [o.constraint for o in found.obstacles] == ["budget", "budget"]
    assert "the movement budget were 2 moves and the movement budget were 2,000 bytes" in str(found)
    assert not answer(with_all(tight, found), 0, "pipeline-01", plan).obstacles
    assert not answer(tight, 1, "pipeline-01", plan).obstacles, "the plan copies shard 1 anyway"


def test_where_nothing_forbids_it_what_would_call_for_it_is_said_and_holds() -> None:
    given = flat([30.0, 20.0, 20.0], nodes(3), ["pipeline-00", "pipeline-01", "pipeline-01"], Policy(1, bounded_load=3.0))
    found = answer(given, 2, "pipeline-02")
    assert not found.obstacles
    assert "nothing forbids it, but it would not lower any load above a bound" in str(found)
    assert "would copy 1.0 kB" in str(found)
    assert found.needed_if is not None
    assert "pipeline-01 needs relief if bounded_load falls from 3 to 1.714" in str(found)
    changed = scene(remedied(given, found.needed_if), plan_of(given)).after
    at = changed.node("pipeline-01")
    assert (changed.load[at] > changed.ceiling[at]).any()
    overloaded = flat([30.0, 20.0, 20.0], nodes(3), ["pipeline-00", "pipeline-01", "pipeline-01"])
    told = str(answer(overloaded, 2, "pipeline-02"))
    assert "it would take 20/s off pipeline-01, which stays above its bound" in told


def test_unknown_shards_and_nodes_are_refused() -> None:
    given = flat([1.0], nodes(2), ["pipeline-00"])
    with pytest.raises(ForeshardError, match="no shard 9"):
        why_not(given, plan_of(given), 9, "pipeline-00")
    with pytest.raises(ForeshardError, match="no node x; it has pipeline-00"):
        why_not(given, plan_of(given), 0, "x")
    with pytest.raises(ForeshardError, match="no shard 9"):
        why(given, plan_of(given), 9)


def test_why_names_the_ranking_the_load_and_the_moves() -> None:
    given = problem((shard(0, 5.0, 9.0), shard(1, 1.0, 2.0)), nodes(4))
    before = [r.node_id for r in given.layout.of_shard(0)]
    spare = next(n.node_id for n in given.nodes if n.node_id not in before)
    move = Move(MoveKind.MOVE, 0, before[1], spare, None, 1_000, "as an exercise", Goal.FILL, 4.5, 1, START_BY)
    moved = tuple(replace(r, node_id=spare) if (r.shard_id, r.node_id) == (0, before[1]) else r for r in given.layout.replicas)
    told = why(given, plan_of(given, moved, (move,)), 0)
    assert "predicted at 10.48/s at 2013-11-27 01:00, 1.0 kB; 2 replicas after the plan" in told
    assert f"Move 1 (fill, wave 2, to begin by 2013-11-27 00:30): move {before[1]} -> {spare}, 1.0 kB: as an exercise" in told
    found = why_of(scene(given, plan_of(given, moved, (move,))), 0)
    assert found.replicas[0].reason.endswith("preferred by the hash")
    assert found.replicas[0].rank < found.replicas[1].rank
    assert sum(r.load for r in found.replicas) == pytest.approx(9.0)
    still = why(given, plan_of(given), 1)
    assert "No move touches it: its nodes stay within their bounds" in still or "above it" in still


START_BY = datetime(2013, 11, 27, 0, 30, tzinfo=UTC)


def test_shards_that_share_their_nodes_are_told_together() -> None:
    given = flat([1.0, 1.0], nodes(2), ["pipeline-00", "pipeline-00"], ROOMY)
    given = replace(given, shards=tuple(replace(s, together="t", avoids=("pipeline-01",)) for s in given.shards))
    assert "It shares its nodes with shard 0." in why(given, plan_of(given), 1)
    found = answer(given, 1, "pipeline-01")
    assert [r.subject for r in found.obstacles[0].remedies] == ["0", "1"]
    assert not binding(with_all(given, found), plan_of(given), found)


@pytest.mark.parametrize("seed", range(40))
def test_every_shard_of_a_random_problem_can_be_explained(seed: int) -> None:
    given = random_problem(seed)
    shown = scene(given, plan_of(given))
    for load in given.shards:
        found = why_of(shown, load.shard_id)
        assert {r.node_id for r in found.replicas} == {r.node_id for r in shown.plan.layout.of_shard(load.shard_id)}
        assert found.stays
        assert str(found)


@pytest.mark.parametrize("seed", range(40))
def test_deviations_are_all_replicas_off_the_first_ranked_nodes(seed: int) -> None:
    given = random_problem(seed)
    shown = scene(given, plan_of(given)).after
    cluster = shown.cluster
    found = deviations(cluster, shown.held, most=5)
    expected = []
    for row, shard_id in enumerate(cluster.shards.ids.tolist()):
        scores = rendezvous_scores([shard_id], cluster.nodes.ids, cluster.nodes.capacity.tolist())[0]
        ranking = [n for n in np.argsort(-scores, kind="stable").tolist() if cluster.nodes.accepts[n]]
        held = [int(n) for n in shown.held.node[row] if n >= 0 and cluster.nodes.live[n]]
        expected += [(row, n) for n in held if n not in ranking[: len(held)]]
    assert sorted(zip(found.shard.tolist(), found.node.tolist(), strict=True)) == sorted(expected)
    assert found.count == len(expected)
    assert len(found.sentences) == min(5, len(expected))
    for row, node, sentence in zip(found.shard, found.node, found.sentences, strict=False):
        assert f"shard {cluster.shards.ids[row]} is on {cluster.nodes.ids[node]}" in sentence


def test_a_replica_that_the_plan_brings_is_not_said_to_stay() -> None:
    given = flat([1.0], nodes(3), ["pipeline-00"], ROOMY)
    ranking = scene(given, plan_of(given)).after.ranked(0).tolist()
    names = [f"pipeline-0{n}" for n in ranking]
    given = replace(given, layout=Layout(1, (Replica(0, names[1]),)))
    there = deviations(scene(given, plan_of(given)).after.cluster, scene(given, plan_of(given)).after.held)
    assert "it stays where it is, because moving it would copy 1.0 kB" in there.sentences[0]
    move = Move(MoveKind.MOVE, 0, names[1], names[2], None, 1_000, "by hand")
    told = why(given, plan_of(given, (Replica(0, names[2]),), (move,)), 0)
    assert f"the plan copies it here; with the whole plan done {names[0]} would have room for it too" in told


def scaled(given: PlacementProblem, factor: float) -> PlacementProblem:
    """All loads, means and spreads, times a factor."""
    return replace(
        given,
        shards=tuple(
            replace(
                s,
                mean=tuple(factor * m for m in s.mean),
                spread_own=tuple(factor * m for m in s.spread_own),
                spread_common=tuple(tuple(factor * c for c in step) for step in s.spread_common),
            )
            for s in given.shards
        ),
    )


def restless(shown: Scene) -> bool:
    """Whether a node is above its ceiling or a shard is due another replica."""
    from foreshard.placement.counting import wanted_replicas

    after = shown.after
    over = after.cluster.nodes.accepts[:, None] & (after.load > after.ceiling * (1 + 1e-9))
    held = (after.held.node >= 0).sum(axis=1)
    return bool(over.any()) or bool((wanted_replicas(after.cluster, after.held) > held).any())


@pytest.mark.parametrize("seed", range(30))
def test_no_move_is_due_until_the_load_rises_as_far_as_is_said(seed: int) -> None:
    generator = np.random.default_rng(seed)
    loads = tuple(shard(i, *generator.uniform(0.5, 3.0, 3).tolist()) for i in range(30))
    given = problem(loads, nodes(5, float(generator.uniform(40, 80))), policy=Policy(bounded_load=3.0))
    shown = scene(given, plan_of(given))
    found = next_move(shown.after)
    assert found.rise is not None
    if found.rise < 0:
        assert restless(shown)
        return
    assert not restless(scene(scaled(given, 1.0 + 0.999 * found.rise), plan_of(given)))
    assert restless(scene(scaled(given, 1.0 + 1.001 * found.rise + 1e-6), plan_of(given)))
    assert "no move until the load rises by" in str(found)
    assert "bound" in str(found)


def test_without_load_no_rise_makes_a_move() -> None:
    given = flat([0.0, 0.0], nodes(2), ["pipeline-00", "pipeline-01"])
    found = next_move(scene(given, plan_of(given)).after)
    assert found.rise is None
    assert str(found) == "Nothing to do: no node carries any load; no rise of the load alone makes a move worth while."


@pytest.mark.parametrize("seed", range(40))
def test_the_plans_of_the_planner_can_be_told_and_their_figures_agree(seed: int) -> None:
    given = random_problem(seed)
    plan = solve(given, iterations=200)
    told = report(given, plan)
    assert max((n.utilisation_after for n in told.nodes), default=0.0) == pytest.approx(plan.metrics.peak_after, abs=1e-6)
    assert max((n.utilisation_before for n in told.nodes), default=0.0) == pytest.approx(plan.metrics.peak_before, abs=1e-6)
    assert sorted(p for w in told.waves for g in w.groups for p in g.positions) == list(range(1, len(plan.moves) + 1))
    shown = scene(given, plan)
    for shard_id in {r.shard_id for r in plan.layout.replicas}:
        assert (why_of(shown, shard_id).stays == "") is any(m.shard_id == shard_id for m in plan.moves)


@pytest.mark.parametrize("seed", range(6))
def test_the_planner_moves_nothing_before_the_load_rises_as_far_as_is_said(seed: int) -> None:
    generator = np.random.default_rng(seed)
    loads = tuple(shard(i, *generator.uniform(0.5, 3.0, 3).tolist()) for i in range(30))
    given = problem(loads, nodes(5, 60.0), policy=Policy(bounded_load=3.0))
    plan = solve(given, iterations=200)
    given = replace(given, layout=plan.layout)
    rise = next_move(scene(given, plan).after).rise
    assert rise is not None
    assert rise > 0.0
    assert solve(scaled(given, 1.0 + 0.999 * rise), iterations=200).moves == ()

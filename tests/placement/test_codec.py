"""Problems and plans as documents."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from clusters import clusters, nodes, problem, random_problem, rich_clusters, shard
from hand_made import everything
from hypothesis import given, settings

from foreshard.errors import ForeshardError
from foreshard.model import PlacementProblem
from foreshard.placement import codec, solve

SCHEMA = Path(__file__).parents[2] / "docs" / "placement-problem.schema.json"


@settings(max_examples=50, deadline=None)
@given(given_problem=clusters())
def test_problems_and_plans_survive_json(given_problem: PlacementProblem) -> None:
    restored = codec.problem_from_document(json.loads(json.dumps(codec.problem_to_document(given_problem))))
    assert codec.problem_to_document(restored) == codec.problem_to_document(given_problem)
    assert codec.input_digest(restored) == codec.input_digest(given_problem)
    plan = solve(given_problem)
    assert solve(restored) == plan
    assert codec.plan_from_document(json.loads(json.dumps(codec.plan_to_document(plan)))) == plan


@settings(max_examples=200, deadline=None)
@given(given_problem=rich_clusters())
def test_problems_with_everything_switched_on_survive_json(given_problem: PlacementProblem) -> None:
    document = codec.problem_to_document(given_problem)
    restored = codec.problem_from_document(json.loads(json.dumps(document, allow_nan=False)))
    assert codec.problem_to_document(restored) == document
    assert codec.input_digest(restored) == codec.input_digest(given_problem)


def test_a_plan_with_all_its_parts_survives_json() -> None:
    _, plan = everything()
    document = codec.plan_to_document(plan)
    assert all(document[part] for part in ("moves", "isolations", "node_counts", "conflicts"))
    restored = codec.plan_from_document(json.loads(json.dumps(document, allow_nan=False)))
    assert codec.plan_to_document(restored) == document
    assert (restored.moves, restored.isolations, restored.node_counts) == (plan.moves, plan.isolations, plan.node_counts)


@pytest.mark.parametrize("seed", range(50))
def test_the_digest_does_not_depend_on_the_order_of_anything(seed: int) -> None:
    given = random_problem(seed)
    shuffle = random.Random(seed)

    def stirred(parts: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(shuffle.sample(parts, len(parts)))

    order = stirred(tuple(range(len(given.nodes))))
    other = replace(
        given,
        layout=replace(given.layout, replicas=stirred(given.layout.replicas)),
        nodes=tuple(given.nodes[i] for i in order),
        pair_cost=tuple(tuple(given.pair_cost[i][j] for j in order) for i in order) if given.pair_cost else (),
        shards=tuple(
            replace(s, pins=stirred(s.pins), avoids=stirred(s.avoids), needs=dict(stirred(tuple(s.needs.items()))))
            for s in stirred(given.shards)
        ),
        groups=stirred(given.groups),
        resources=stirred(given.resources),
        heavy=stirred(given.heavy),
    )
    assert codec.input_digest(other) == codec.input_digest(given)


def test_a_plan_s_id_depends_on_its_inputs_and_on_everything_of_every_move() -> None:
    _, plan = everything()
    ids = {codec.plan_id_of(plan.input_digest, plan.moves), codec.plan_id_of("other", plan.moves)}
    changes: list[dict[str, Any]] = [{"wave": 9}, {"gain": 9.0}, {"reason": "other"}, {"start_by": None}, {"target": "n9"}]
    for at in range(len(plan.moves)):
        for change in changes:
            if any(getattr(plan.moves[at], name) != value for name, value in change.items()):
                moves = (*plan.moves[:at], replace(plan.moves[at], **change), *plan.moves[at + 1 :])
                ids.add(codec.plan_id_of(plan.input_digest, moves))
    assert len(ids) == 2 + 4 * len(plan.moves) + 1


def test_the_published_schema_is_in_step_with_the_code() -> None:
    assert SCHEMA.read_text("utf-8") == codec.schema_text(), "write codec.schema_text() to docs/placement-problem.schema.json"


def document() -> dict[str, Any]:
    return codec.problem_to_document(problem((shard(0, 1.0), shard(1, 2.0)), nodes(2)))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("nodes", 1, "capacity"), -3, r"\$\.nodes\[1\]\.capacity: Input should be greater than 0"),
        (("nodes", 0, "capacity"), "12", r"\$\.nodes\[0\]\.capacity: Input should be a valid number"),
        (("nodes", 0, "state"), "asleep", r"\$\.nodes\[0\]\.state"),
        (("nodes", 0, "node_id"), "pipeline-01", r"\$\.nodes\[1\]: pipeline-01 is there before"),
        (("shards", 0, "mean"), [float("nan")], r"\$\.shards\[0\]\.mean\[0\]: Input should be"),
        (("shards", 0, "mean"), [1.0, 2.0], r"\$\.shards\[0\]\.mean: 2 values for 1 steps"),
        (("shards", 0, "recent_share"), 1.5, r"\$\.shards\[0\]\.recent_share"),
        (("shards", 0, "bytes_full"), 1.5, r"\$\.shards\[0\]\.bytes_full"),
        (("layout", "replicas", 0, "weight"), 0, r"\$\.layout\.replicas\[0\]\.weight"),
        (("policy", "min_full_replicas"), 0, r"\$\.policy\.min_full_replicas"),
        (("policy", "colour"), "red", r"\$\.policy\.colour: Extra inputs are not permitted"),
        (("steps", 0), "2013-11-27T00:00:00", r"\$\.steps\[0\]: Input should have timezone info"),
        (("covers_from",), "soon", r"\$\.covers_from"),
    ],
)
def test_a_bad_field_is_refused_by_its_path(path: tuple[Any, ...], value: object, message: str) -> None:
    bad = document()
    at: Any = bad
    for part in path[:-1]:
        at = at[part]
    at[path[-1]] = value
    with pytest.raises(ForeshardError, match=message):
        codec.problem_from_document(bad)


def test_what_is_no_object_is_refused() -> None:
    for value in ([], "x", None):
        with pytest.raises(ForeshardError, match="placement problem: "):
            codec.problem_from_document(value)


def test_the_digest_ignores_order_and_noise_in_the_last_digits_but_not_a_change() -> None:
    one, other = document(), document()
    other["nodes"] = other["nodes"][::-1]
    other["shards"][0]["mean"] = [1.0 + 1e-15]
    digests = [codec.input_digest(codec.problem_from_document(d)) for d in (one, other)]
    assert digests[0] == digests[1]
    other["shards"][0]["mean"] = [1.001]
    assert codec.input_digest(codec.problem_from_document(other)) != digests[0]

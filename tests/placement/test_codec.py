"""Problems and plans as documents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from clusters import clusters, nodes, problem, shard
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

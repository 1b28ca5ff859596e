"""Every field of a placement problem with every kind of bad value: accepted by the published schema, or refused by its path."""

from __future__ import annotations

import copy
import json
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from hand_made import everything
from jsonschema import Draft202012Validator

from foreshard.errors import ForeshardError
from foreshard.placement import codec
from foreshard.placement.documents import Document, ProblemDocument

Route = tuple[str | int, ...]
SCHEMA = Draft202012Validator(codec.problem_schema())


def document() -> dict[str, Any]:
    """A valid problem in which every field of the schema is given."""
    full = codec.problem_to_document(everything()[0])
    for node in full["nodes"]:
        node["limits"] |= {"cpu": 8.0}
        node["targets"] |= {"cpu": 0.5, "load": 0.7}
    full["resources"].append({"name": "cpu", "transient": False, "soft_cost": 1.0})
    full["balances"] = [{"first": "cpu", "second": "storage", "target": 1.0, "cost": 2.0}]
    full["pair_cost"] = [[0.0] * len(full["nodes"]) for _ in full["nodes"]]
    for load in (*full["shards"], *full["heavy"]):
        load["spread_common"] = [[0.5] for _ in range(4)]
    for load in (full["shards"][1], full["heavy"][1]):
        del load["bytes_full"], load["bytes_hot"]
        load["segments"] = [{"day": "2013-11-19", "bytes": 900}, {"day": "2013-11-20", "bytes": 100}]
    full["shards"][1] |= {"min_replicas": 2, "max_replicas": 3}
    # Each list's first element stands for all: it is to hold every field.
    full["groups"].reverse()
    full["layout"]["replicas"].sort(key=lambda r: r["covers_from"] is None)
    return full


def routes(value: Any, at: Route = ()) -> Iterator[Route]:
    """Ways to every value in the document; of a list to its first two elements."""
    if at:
        yield at
    if isinstance(value, dict):
        for key, item in value.items():
            yield from routes(item, (*at, key))
    elif isinstance(value, list):
        for i, item in enumerate(value[:2]):
            yield from routes(item, (*at, i))


def fields(model: type[Document], prefix: str = "") -> Iterator[str]:
    """Every field of the pydantic model as a dotted name, lists left out."""
    for name, info in model.model_fields.items():
        yield prefix + name
        for part in (info.annotation, *get_args(info.annotation), *(a for x in get_args(info.annotation) for a in get_args(x))):
            if isinstance(part, type) and issubclass(part, Document):
                yield from fields(part, f"{prefix}{name}.")


def reached(whole: Any, route: Route) -> Any:
    for part in route:
        whole = whole[part]
    return whole


DOCUMENT = document()
ROUTES = list(routes(DOCUMENT))
WRONG: dict[str, Any] = {
    "NaN": math.nan,
    "infinity": math.inf,
    "minus infinity": -math.inf,
    "minus one": -1,
    "minus half": -0.5,
    "huge": 1e308,
    "huge integer": 10**400,
    "past 2^63": 1 << 63,
    "tiny": 5e-324,
    "true": True,
    "text": "surprise",
    "empty text": "",
    "number as text": "1",
    "moment as text": "1384905600",
    "line break": "a\nb",
    "half a character": "\ud800",
    "null": None,
    "list": [],
    "list of lists": [[[]]],
    "object": {},
    "object with a key": {"surprise": 1},
}


def test_the_document_gives_every_field_of_the_model() -> None:
    given = {".".join(str(p) for p in route if isinstance(p, str)) for route in ROUTES}
    assert set(fields(ProblemDocument)) <= given
    codec.problem_from_document(DOCUMENT)


def judge(bad: dict[str, Any], route: Route, missing: bool = False) -> str:
    """The refusal, by a path near `route`; or nothing, if it was accepted: then it is valid by the schema and survives."""
    try:
        problem = codec.problem_from_document(bad)
    except ForeshardError as error:
        told = str(error)
        path = re.match(r"placement problem: \$((?:\.\w+|\[\d+\]|\['[^']*'\])*): \S", told)
        assert path is not None, told
        assert told.isprintable()
        if not missing:
            assert related(path.group(1), route), f"{route} is refused as {told}"
        return told
    assert SCHEMA.is_valid(bad), f"{route}: accepted against the schema"
    again = codec.problem_to_document(problem)
    json.dumps(again, allow_nan=False)
    assert codec.problem_to_document(codec.problem_from_document(again)) == again
    return ""


def related(path: str, route: Route) -> bool:
    """The path leads to the value, into it, or to what contains it; or the value is what other fields refer to."""
    told = [int(p) if p.isdigit() else p.strip("'") for p in re.findall(r"\w+|'[^']*'", path)]
    return all(a == b for a, b in zip(told, route, strict=False)) or refers(told, route)


def refers(told: list[str | int], route: Route) -> bool:
    """Whether changing what `route` names can make the field at `told` wrong."""
    names = {
        ("steps",): {"mean", "spread_own", "spread_common"},
        ("nodes",): {"pins", "avoids", "pair_cost", "first", "second"},
        ("shards",): {"slot", "shard_id", "parent", "together"},
        ("groups",): {"group", "near", "together"},
        ("resources",): {"limits", "targets", "needs", "first", "second"},
        ("layout",): {"avoids", "slot", "parent"},
        ("policy",): {"min_replicas", "max_replicas", "together", "min_nodes"},
    }
    return bool(names.get((str(route[0]),), set()) & set(told))


@pytest.mark.parametrize("what", WRONG)
def test_every_field_takes_a_wrong_value_by_the_schema_or_refuses_it_by_its_path(what: str) -> None:
    refused = 0
    for route in ROUTES:
        bad = copy.deepcopy(DOCUMENT)
        reached(bad, route[:-1])[route[-1]] = WRONG[what]
        refused += bool(judge(bad, route))
    assert refused > len(ROUTES) / 2


def test_numbers_that_are_not_numbers_are_refused_everywhere() -> None:
    for route in ROUTES:
        for value in (math.nan, math.inf, -math.inf):
            bad = copy.deepcopy(DOCUMENT)
            reached(bad, route[:-1])[route[-1]] = value
            assert judge(bad, route), route


def test_every_field_may_be_missing_by_the_schema_or_is_named() -> None:
    for route in ROUTES:
        bad = copy.deepcopy(DOCUMENT)
        parent = reached(bad, route[:-1])
        del parent[route[-1]]
        told = judge(bad, route, missing=True)
        if isinstance(parent, dict) and not SCHEMA.is_valid(bad):
            assert told.endswith(f".{route[-1]}: Field required"), told


def test_every_object_refuses_a_key_too_many() -> None:
    for route in [(), *ROUTES]:
        bad = copy.deepcopy(DOCUMENT)
        place = reached(bad, route)
        if isinstance(place, dict):
            place["not a field"] = 1.0
            assert "not a field" in judge(bad, (*route, "not a field")), route


@pytest.mark.parametrize(
    ("route", "value", "reason"),
    [
        (("shards", 0, "group"), "nowhere", "$.shards[0].group: group 'nowhere' is not in the problem"),
        (("shards", 0, "pins"), ["n9"], "$.shards[0].pins: node 'n9' is not in the problem"),
        (("shards", 0, "avoids"), ["n9"], "$.shards[0].avoids: node 'n9' is not in the problem"),
        (("shards", 0, "avoids"), ["n0"], "$.shards[0].avoids: node n0 is in pins as well"),
        (("shards", 0, "pins"), ["n0", "n0"], "$.shards[0].pins[1]: n0 is there before; give it once"),
        (("shards", 0, "needs"), {"gpu": 1.0}, "$.shards[0].needs: resource 'gpu' is not in the problem"),
        (("shards", 0, "max_replicas"), 1, "$.shards[0].max_replicas: at least 2 and at most 1 replicas cannot both hold"),
        (("shards", 0, "min_replicas"), 9, "$.shards[0].min_replicas: at least 9 and at most 4 replicas cannot both hold"),
        (("shards", 9, "parent"), 77, "$.shards[9].parent: 77 is no shard of this problem that is a slot"),
        (("shards", 9, "parent"), 100, "$.shards[9].parent: 100 is no shard of this problem that is a slot"),
        (("shards", 6, "group"), "g", "$.shards[6].together: shard 5 is of another group, or their group keeps"),
        (("shards", 6, "max_replicas"), 1, "$.shards[6].max_replicas: at least 2 and at most 1"),
        (("shards", 9, "together"), "t", "$.shards[9].together: an isolated entity cannot share"),
        (("shards", 1, "bytes_full"), 1, "$.shards[1].segments: give either segments or bytes_full and bytes_hot, not both"),
        (("shards", 1, "segments", 1, "day"), "2013-11-19", "$.shards[1].segments[1]: 2013-11-19 is there before"),
        (("shards", 0, "spread_own"), [1.0], "$.shards[0].spread_own: 1 values for 4 steps"),
        (("shards", 0, "spread_common"), [[1.0]], "$.shards[0].spread_common: 1 values for 4 steps"),
        (("shards", 0, "shard_id"), 5, "$.shards[5]: 5 is there before; give it once"),
        (("nodes", 0, "limits"), {"gpu": 1.0}, "$.nodes[0].limits: resource 'gpu' is not in the problem"),
        (("nodes", 0, "limits"), {"storage": 1.0}, "$.balances[0].first: node n0 gives no limit of cpu"),
        (("nodes", 0, "limits", "cpu"), -1, "$.nodes[0].limits.cpu: Input should be greater than or equal to 0"),
        (("nodes", 0, "targets"), {"gpu": 1.0}, "$.nodes[0].targets: resource 'gpu' is not in the problem"),
        (("groups", 0, "near"), ["h"], "$.groups[0].near: other group 'h' is not in the problem"),
        (("groups", 1, "group_id"), "h", "$.groups[1]: h is there before; give it once"),
        (("resources", 0, "name"), "load", "$.resources[0].name: load is no further resource"),
        (("resources", 1, "name"), "storage", "$.resources[1]: storage is there before"),
        (("balances", 0, "first"), "gpu", "$.balances[0].first: resource 'gpu' is not in the problem"),
        (("balances", 0, "second"), "cpu", "$.balances[0].second: name two different resources"),
        (("heavy", 0, "slot"), 77, "$.heavy[0].slot: 77 is no shard of this problem that is a slot"),
        (("heavy", 0, "shard_id"), 3, "$.heavy[0].shard_id: 3 is no shard whose parent is 0"),
        (("heavy", 1, "reserved"), 100, "$.heavy[1].reserved: 100 is the number of another shard; give one that is free"),
        (("heavy", 1, "entity_id"), "e0", "$.heavy[1]: e0 is there before; give it once"),
        (("heavy", 1, "mean"), [], "$.heavy[1].mean: 0 values for 4 steps"),
        (("pair_cost",), [[0.0]], "$.pair_cost: 1 rows for 6 nodes"),
        (("pair_cost", 2), [0.0], "$.pair_cost[2]: 1 values for 6 nodes"),
        (("policy", "min_nodes"), 11, "$.policy.min_nodes: 11 is more than max_nodes, 10"),
        (
            ("policy", "copy_bytes_per_second"),
            0.5,
            "$.policy.copy_bytes_per_second: Input should be greater than or equal to 1",
        ),
        (("steps", 1), "2013-11-27T00:00:00Z", "$.steps[1]: is not after the step before it"),
        (("steps", 0), 1385510400, "$.steps[0]: Value error, write it as 2013-11-27T00:00:00Z"),
        (("steps", 0), "0001-01-01T00:00:00+14:00", "$.steps[0]: Value error, the year must be from 1970 to 2199"),
        (("covers_from",), "20131120", "$.covers_from: Value error, write it as 2013-11-20"),
        (("format",), True, "$.format: Value error, must be the integer 1"),
        (("format",), 2, "$.format: Input should be 1"),
    ],
)
def test_what_contradicts_another_field_is_refused_with_the_reason(route: Route, value: Any, reason: str) -> None:
    bad = document()
    reached(bad, route[:-1])[route[-1]] = value
    with pytest.raises(ForeshardError) as refusal:
        codec.problem_from_document(bad)
    assert str(refusal.value).startswith(f"placement problem: {reason}")


def test_a_pool_of_more_bytes_than_sums_can_hold_is_refused() -> None:
    bad = document()
    bad["shards"] += [{**bad["shards"][0], "shard_id": 1_000 + i, "bytes_full": 1 << 53, "bytes_hot": 0} for i in range(33)]
    with pytest.raises(ForeshardError, match=r"\$\.shards: all shards together hold more than 2\^58 bytes"):
        codec.problem_from_document(bad)


def test_segments_are_summed_hot_ones_from_the_day_on_from_which_hot_replicas_hold() -> None:
    shard = codec.problem_from_document(DOCUMENT).shards[1]
    assert (shard.bytes_full, shard.bytes_hot) == (1_000, 100)


def test_a_hot_replica_is_no_larger_than_a_full_one() -> None:
    given = document()
    given["shards"][0] |= {"bytes_full": 10, "bytes_hot": 20}
    assert codec.problem_from_document(given).shards[0].bytes_hot == 10


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"nodes": [', "cannot read the problem"),
        ("[" * 100_000, "cannot read the problem"),
        ("[]", "placement problem: $: Input should be a valid dictionary"),
        (json.dumps({**DOCUMENT, "pool_id": None}), "placement problem: $.pool_id: Input should be a valid string"),
        (json.dumps({**DOCUMENT, "pair_cost": [[math.nan]]}), "$.pair_cost[0][0]: Input should be a finite number"),
        (json.dumps({**DOCUMENT, "groups": []}), "$.shards[3].group: group 'g' is not in the problem"),
    ],
    ids=["no JSON", "deep", "no object", "null", "NaN", "unknown group"],
)
def test_the_command_refuses_with_one_sentence_and_status_1(tmp_path: Path, text: str, told: str) -> None:
    problem = tmp_path / "problem.json"
    problem.write_text(text, "utf-8")
    command = [
        sys.executable,
        "-m",
        "foreshard.cli",
        "plan",
        "solve",
        "--problem",
        str(problem),
        "--out",
        str(tmp_path / "plan.json"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "plan.json").exists()

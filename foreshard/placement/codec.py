"""Problems and plans to and from JSON-able documents, and the digests that say which inputs a plan was made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime
from typing import Any, TypeVar

from pydantic import ValidationError

from foreshard.errors import ForeshardError
from foreshard.model import (
    Balance,
    Conflict,
    HeavyEntity,
    Isolation,
    Layout,
    Move,
    Node,
    NodeCount,
    PlacementProblem,
    Plan,
    PlanMetrics,
    Policy,
    Replica,
    Resource,
    ShardGroup,
    ShardLoad,
)
from foreshard.placement.documents import Document, LayoutDocument, LoadDocument, ProblemDocument, path_of
from foreshard.placement.plan_documents import PlanDocument
from foreshard.placement.references import refuse_bad_references, refuse_repeated_replicas

_DIGITS = 12
_D = TypeVar("_D", bound=Document)


def problem_to_document(problem: PlacementProblem) -> dict[str, Any]:
    """The problem as JSON-able values; nodes, shards and all that has no order of its own in the order of their ids."""
    order = sorted(range(len(problem.nodes)), key=lambda i: problem.nodes[i].node_id)
    return {
        "format": 1,
        "pool_id": problem.pool_id,
        "layout": _layout_to_document(problem.layout),
        "nodes": [_node_to_document(problem.nodes[i]) for i in order],
        "shards": [_shard_to_document(s) for s in sorted(problem.shards, key=lambda s: s.shard_id)],
        "policy": asdict(problem.policy),
        "steps": [_instant(step) for step in problem.steps],
        "covers_from": problem.covers_from.isoformat(),
        "groups": [{**asdict(g), "near": sorted(g.near)} for g in sorted(problem.groups, key=lambda g: g.group_id)],
        "resources": [asdict(r) for r in sorted(problem.resources, key=lambda r: r.name)],
        "balances": [asdict(b) for b in sorted(problem.balances, key=lambda b: (b.first, b.second, b.target, b.cost))],
        "heavy": [_heavy_to_document(h) for h in sorted(problem.heavy, key=lambda h: h.entity_id)],
        "pair_cost": [[problem.pair_cost[i][j] for j in order] for i in order] if len(problem.pair_cost) else [],
    }


def problem_from_document(document: object) -> PlacementProblem:
    """The problem; raises ForeshardError naming the JSON path of the first bad field."""
    parsed = _parsed(ProblemDocument, document, "placement problem")
    refuse_bad_references(parsed)
    return PlacementProblem(
        pool_id=parsed.pool_id,
        layout=_layout(parsed.layout),
        nodes=tuple(Node(**dict(n)) for n in parsed.nodes),
        shards=tuple(ShardLoad(**_load(s, parsed.covers_from, "pins", "avoids")) for s in parsed.shards),
        policy=Policy(**dict(parsed.policy)),
        steps=tuple(step.astimezone(UTC) for step in parsed.steps),
        covers_from=parsed.covers_from,
        groups=tuple(ShardGroup(**{**dict(g), "near": tuple(g.near)}) for g in parsed.groups),
        resources=tuple(Resource(**dict(r)) for r in parsed.resources),
        balances=tuple(Balance(**dict(b)) for b in parsed.balances),
        heavy=tuple(HeavyEntity(**_load(h, parsed.covers_from)) for h in parsed.heavy),
        pair_cost=tuple(tuple(row) for row in parsed.pair_cost),
    )


def plan_to_document(plan: Plan) -> dict[str, Any]:
    """The plan as JSON-able values."""
    return {
        "format": 1,
        "plan_id": plan.plan_id,
        "pool_id": plan.pool_id,
        "base_epoch": plan.base_epoch,
        "input_digest": plan.input_digest,
        "moves": [_move_to_document(m) for m in plan.moves],
        "layout": _layout_to_document(plan.layout),
        "metrics": {**asdict(plan.metrics), "overloaded_nodes": list(plan.metrics.overloaded_nodes)},
        "deviations": list(plan.deviations),
        "summary": plan.summary,
        "isolations": [asdict(i) for i in plan.isolations],
        "node_counts": [
            {**asdict(n), "step": _instant(n.step), "start_by": _instant_or_none(n.start_by)} for n in plan.node_counts
        ],
        "conflicts": [{"demands": list(c.demands), "remedy": c.remedy} for c in plan.conflicts],
    }


def plan_from_document(document: object) -> Plan:
    """The plan; raises ForeshardError naming the JSON path of the first bad field."""
    parsed = _parsed(PlanDocument, document, "plan")
    refuse_repeated_replicas(parsed.layout.replicas, "plan")
    metrics = dict(parsed.metrics)
    return Plan(
        plan_id=parsed.plan_id,
        pool_id=parsed.pool_id,
        base_epoch=parsed.base_epoch,
        input_digest=parsed.input_digest,
        moves=tuple(Move(**{**dict(m), "start_by": _utc(m.start_by)}) for m in parsed.moves),
        layout=_layout(parsed.layout),
        metrics=PlanMetrics(**{**metrics, "overloaded_nodes": tuple(metrics["overloaded_nodes"])}),
        deviations=tuple(parsed.deviations),
        summary=parsed.summary,
        isolations=tuple(Isolation(**dict(i)) for i in parsed.isolations),
        node_counts=tuple(NodeCount(n.step.astimezone(UTC), n.nodes, _utc(n.start_by), n.reason) for n in parsed.node_counts),
        conflicts=tuple(Conflict(tuple(c.demands), c.remedy) for c in parsed.conflicts),
    )


def input_digest(problem: PlacementProblem) -> str:
    """Hex SHA-256 of the problem's canonical JSON, floats rounded to 12 digits; the order of its parts does not count."""
    return hashlib.sha256(_canonical(problem_to_document(problem))).hexdigest()


def plan_id_of(digest: str, moves: Sequence[Move]) -> str:
    """16 hex digits over the digest of the inputs and the moves in their order."""
    return hashlib.sha256(digest.encode() + _canonical([_move_to_document(m) for m in moves])).hexdigest()[:16]


def problem_schema() -> dict[str, Any]:
    """The JSON Schema of a placement problem, as published in docs/placement-problem.schema.json."""
    schema = ProblemDocument.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "foreshard placement problem"}


def schema_text() -> str:
    return json.dumps(problem_schema(), indent=2, sort_keys=True) + "\n"


def _canonical(value: object) -> bytes:
    return json.dumps(_rounded(value), separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()


def _rounded(value: Any) -> Any:
    """Floats of 12 digits; whole ones as integers, so that 100 and 100.0 are the same input."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    if not isinstance(value, float):
        return value
    rounded = float(f"{value:.{_DIGITS}g}")
    return int(rounded) if rounded.is_integer() else rounded


def _move_to_document(move: Move) -> dict[str, Any]:
    return {
        **asdict(move),
        "kind": move.kind.value,
        "covers_from": _day(move.covers_from),
        "goal": move.goal.value,
        "start_by": _instant_or_none(move.start_by),
    }


def _node_to_document(node: Node) -> dict[str, Any]:
    return {
        "node_id": node.node_id,
        "capacity": node.capacity,
        "state": node.state.value,
        "url": node.url,
        "zone": node.zone,
        "neighbourhood": node.neighbourhood,
        "limits": dict(node.limits),
        "targets": dict(node.targets),
    }


def _shard_to_document(shard: ShardLoad) -> dict[str, Any]:
    return {
        "shard_id": shard.shard_id,
        **_load_to_document(shard),
        "needs": dict(shard.needs),
        "min_replicas": shard.min_replicas,
        "max_replicas": shard.max_replicas,
        "pins": sorted(shard.pins),
        "avoids": sorted(shard.avoids),
        "group": shard.group,
        "together": shard.together,
        "move_cost": shard.move_cost,
        "parent": shard.parent,
    }


def _heavy_to_document(heavy: HeavyEntity) -> dict[str, Any]:
    own = {"shard_id": heavy.shard_id, "reserved": heavy.reserved}
    return {"entity_id": heavy.entity_id, "slot": heavy.slot, **own, **_load_to_document(heavy)}


def _load_to_document(load: ShardLoad | HeavyEntity) -> dict[str, Any]:
    return {
        "mean": list(load.mean),
        "spread_own": list(load.spread_own),
        "spread_common": [list(step) for step in load.spread_common],
        "bytes_full": load.bytes_full,
        "bytes_hot": min(load.bytes_hot, load.bytes_full),
        "recent_share": load.recent_share,
    }


def _load(document: LoadDocument, hot_from: date, *names: str) -> dict[str, Any]:
    """The fields of a ShardLoad or HeavyEntity; those in `names` are lists to be made tuples."""
    values = dict(document)
    segments = values.pop("segments")
    if segments is not None:
        values["bytes_full"] = sum(g.bytes for g in segments)
        values["bytes_hot"] = sum(g.bytes for g in segments if g.day >= hot_from)
    values["bytes_hot"] = min(values["bytes_hot"], values["bytes_full"])
    values["spread_common"] = tuple(tuple(step) for step in document.spread_common)
    return values | {name: tuple(values[name]) for name in ("mean", "spread_own", *names)}


def _layout_to_document(layout: Layout) -> dict[str, Any]:
    ordered = sorted(layout.replicas, key=lambda r: (r.shard_id, r.node_id))
    return {"epoch": layout.epoch, "replicas": [_replica_to_document(r) for r in ordered]}


def _replica_to_document(replica: Replica) -> dict[str, Any]:
    return {
        "shard_id": replica.shard_id,
        "node_id": replica.node_id,
        "weight": replica.weight,
        "covers_from": _day(replica.covers_from),
    }


def _layout(document: LayoutDocument) -> Layout:
    return Layout(document.epoch, tuple(Replica(**dict(r)) for r in document.replicas))


def _parsed(model: type[_D], document: object, what: str) -> _D:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ForeshardError(f"{what}: {path_of(first['loc'])}: {first['msg']}") from None


def _instant(step: datetime) -> str:
    return step.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _instant_or_none(step: datetime | None) -> str | None:
    return _instant(step) if step else None


def _utc(step: datetime | None) -> datetime | None:
    return step.astimezone(UTC) if step else None


def _day(day: date | None) -> str | None:
    return day.isoformat() if day else None

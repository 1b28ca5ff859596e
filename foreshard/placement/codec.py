"""Problems and plans to and from JSON-able documents, and the digests that say which inputs a plan was made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime
from typing import Any, TypeVar

from pydantic import ValidationError

from foreshard.errors import ForeshardError
from foreshard.model import (
    Layout,
    Move,
    Node,
    PlacementProblem,
    Plan,
    PlanMetrics,
    Policy,
    Replica,
    ShardLoad,
)
from foreshard.placement.documents import Document, LayoutDocument, PlanDocument, ProblemDocument

_DIGITS = 12
_D = TypeVar("_D", bound=Document)


def problem_to_document(problem: PlacementProblem) -> dict[str, Any]:
    """The problem as JSON-able values, its nodes, shards and replicas in the order of their ids."""
    return {
        "format": 1,
        "pool_id": problem.pool_id,
        "layout": _layout_to_document(problem.layout),
        "nodes": [{**asdict(n), "state": n.state.value} for n in sorted(problem.nodes, key=lambda n: n.node_id)],
        "shards": [_shard_to_document(s) for s in sorted(problem.shards, key=lambda s: s.shard_id)],
        "policy": asdict(problem.policy),
        "steps": [_instant(step) for step in problem.steps],
        "covers_from": problem.covers_from.isoformat(),
    }


def problem_from_document(document: object) -> PlacementProblem:
    """The problem; raises ForeshardError naming the JSON path of the first bad field."""
    parsed = _parsed(ProblemDocument, document, "placement problem")
    _refuse_repeats("nodes", ((n.node_id,) for n in parsed.nodes))
    _refuse_repeats("shards", ((s.shard_id,) for s in parsed.shards))
    for i, shard in enumerate(parsed.shards):
        for name, values in (("mean", shard.mean), ("spread_own", shard.spread_own), ("spread_common", shard.spread_common)):
            if len(values) != len(parsed.steps) and (values or name != "spread_common"):
                raise ForeshardError(
                    f"placement problem: $.shards[{i}].{name}: {len(values)} values for {len(parsed.steps)} steps"
                )
    return PlacementProblem(
        pool_id=parsed.pool_id,
        layout=_layout(parsed.layout),
        nodes=tuple(Node(**n.model_dump()) for n in parsed.nodes),
        shards=tuple(
            ShardLoad(
                s.shard_id,
                tuple(s.mean),
                tuple(s.spread_own),
                tuple(tuple(c) for c in s.spread_common),
                s.bytes_full,
                s.bytes_hot,
                s.recent_share,
            )
            for s in parsed.shards
        ),
        policy=Policy(**parsed.policy.model_dump()),
        steps=tuple(step.astimezone(UTC) for step in parsed.steps),
        covers_from=parsed.covers_from,
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
    }


def plan_from_document(document: object) -> Plan:
    """The plan; raises ForeshardError naming the JSON path of the first bad field."""
    parsed = _parsed(PlanDocument, document, "plan")
    metrics = parsed.metrics.model_dump()
    return Plan(
        plan_id=parsed.plan_id,
        pool_id=parsed.pool_id,
        base_epoch=parsed.base_epoch,
        input_digest=parsed.input_digest,
        moves=tuple(Move(**m.model_dump()) for m in parsed.moves),
        layout=_layout(parsed.layout),
        metrics=PlanMetrics(**{**metrics, "overloaded_nodes": tuple(metrics["overloaded_nodes"])}),
        deviations=tuple(parsed.deviations),
        summary=parsed.summary,
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
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value


def _move_to_document(move: Move) -> dict[str, Any]:
    return {**asdict(move), "kind": move.kind.value, "covers_from": _day(move.covers_from)}


def _shard_to_document(shard: ShardLoad) -> dict[str, Any]:
    return {
        "shard_id": shard.shard_id,
        "mean": list(shard.mean),
        "spread_own": list(shard.spread_own),
        "spread_common": [list(step) for step in shard.spread_common],
        "bytes_full": shard.bytes_full,
        "bytes_hot": shard.bytes_hot,
        "recent_share": shard.recent_share,
    }


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
    _refuse_repeats("layout.replicas", ((r.shard_id, r.node_id) for r in document.replicas))
    return Layout(document.epoch, tuple(Replica(**r.model_dump()) for r in document.replicas))


def _parsed(model: type[_D], document: object, what: str) -> _D:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
        raise ForeshardError(f"{what}: ${path}: {first['msg']}") from None


def _refuse_repeats(path: str, keys: Iterable[tuple[object, ...]]) -> None:
    seen: set[tuple[object, ...]] = set()
    for i, key in enumerate(keys):
        if key in seen:
            raise ForeshardError(f"$.{path}[{i}]: {', '.join(map(str, key))} is there before; give it once")
        seen.add(key)


def _instant(step: datetime) -> str:
    return step.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _day(day: date | None) -> str | None:
    return day.isoformat() if day else None

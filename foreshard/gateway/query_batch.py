"""Several queries in one request: `POST /v1/usage`, each with an answer and a status of its own."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable

from pydantic import ValidationError

from foreshard.gateway import query
from foreshard.gateway.dispatch import Answer
from foreshard.gateway.interface import Batch, BatchQuery
from foreshard.gateway.query import BadQuery, Query

LARGEST_BODY = 4 << 20
# Of one batch, so that it does not keep others from the pipelines.
SIDE_BY_SIDE = 16
_LARGEST_ANSWERS = 64 << 20

Ask = Callable[[Query, str], Awaitable[Answer]]
Refusal = Callable[[Answer], str]


def parse(body: bytes, most: int) -> list[BatchQuery]:
    """The queries of a body; raises BadQuery if one has not the shape of a query, or if there are more than `most`."""
    try:
        queries = Batch.model_validate_json(body).queries
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part)[:40] for part in first["loc"]) or "the body"
        raise BadQuery(f"{where}: {first['msg']}; the body must be an object with a list of queries") from None
    if not 1 <= len(queries) <= most:
        raise BadQuery(f"queries: a batch has 1 to {most} queries, not {len(queries)}")
    return queries


async def answer(queries: list[BatchQuery], query_class: str, ask: Ask, told: Refusal) -> bytes:
    """The JSON of a BatchAnswers. `told` is the sentence for an answer that is not one."""
    turns = asyncio.Semaphore(SIDE_BY_SIDE)
    size = 0

    async def one(asked: BatchQuery) -> bytes:
        nonlocal size
        try:
            parsed, granularity = query.from_parameters(asked.model_dump(), query_class)
        except BadQuery as error:
            return _without(400, str(error))
        async with turns:
            if size > _LARGEST_ANSWERS:
                return _without(413, f"the answers of this batch have {_LARGEST_ANSWERS >> 20} MiB already; ask in another")
            got = await ask(parsed, granularity)
        size += len(got.body)
        return _answered(got) if got.status == 200 else _without(got.status, told(got), got.retry_after)

    answers = await asyncio.gather(*(one(asked) for asked in queries))
    return b'{"answers":[' + b",".join(answers) + b"]}"


def _answered(got: Answer) -> bytes:
    if not _is_list(got.body):
        return _without(503, f"pipeline {got.decision.node_id} answered with something else than a list", 1)
    who = json.dumps({"status": 200, "node_id": got.decision.node_id, "epoch": got.decision.epoch})
    # As it came: quantities keep all their digits.
    return who[:-1].encode() + b',"usage":' + got.body + b"}"


def _is_list(body: bytes) -> bool:
    """Whether the body may stand within another: a pipeline of another make may send anything."""
    try:
        return isinstance(json.loads(body.decode(), parse_constant=_refused), list)
    except (ValueError, RecursionError):
        return False


def _refused(constant: str) -> object:
    raise ValueError(f"{constant} is not JSON")


def _without(status: int, error: str, retry_after: float | None = None) -> bytes:
    found: dict[str, object] = {"status": status, "error": error}
    if retry_after is not None:
        found["retry_after"] = max(1, math.ceil(retry_after))
    return json.dumps(found).encode()

"""The shapes that gateways and pipelines take and give over HTTP; their OpenAPI documents are made of these."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, RootModel, WithJsonSchema

_Number = Annotated[Decimal, WithJsonSchema({"type": "number"})]
_Instant = Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$")]


class Shape(BaseModel):
    """Of all: unknown fields are refused, and no type is turned into another."""

    model_config = ConfigDict(extra="forbid", strict=True)


class UsageRow(Shape):
    """The usage of one period that had any. `quantity` has all its digits: read it as a decimal."""

    start: _Instant
    quantity: _Number
    events: Annotated[int, Field(ge=0)]


class Usage(RootModel[list[UsageRow]]):
    """The periods with usage, oldest first."""


class Error(Shape):
    """What was wrong, in one sentence."""

    error: str


class BatchQuery(Shape):
    """As the parameters of `GET /v1/usage`."""

    entity_id: str
    service_id: str
    operation_id: str
    start: str
    end: str
    granularity: str = "hour"


class Batch(Shape):
    """Queries of one caller, answered side by side."""

    queries: list[BatchQuery]


class BatchAnswer(Shape):
    """`usage` with status 200; `error` with any other, and `retry_after` (seconds) where it may help to come again."""

    status: Literal[200, 400, 413, 425, 429, 503]
    usage: list[UsageRow] | None = None
    node_id: str | None = None
    epoch: int | None = None
    error: str | None = None
    retry_after: Annotated[int, Field(ge=1)] | None = None


class BatchAnswers(Shape):
    """In the order of the queries."""

    answers: list[BatchAnswer]


class Landed(Shape):
    """`token` names the write; `file_name` is where it landed, below the table's landing folder."""

    token: str
    file_name: str
    rows: Annotated[int, Field(ge=1)]


class Replica(BaseModel):
    """One replica of the entity's shard. `left_out`: why it would not be asked, empty if it may be."""

    node_id: str
    shard_id: int
    weight: float
    covers_from: str | None
    applied_version: int | None
    in_flight: int
    score: float
    left_out: str


class Routes(BaseModel):
    """How a query of this entity would be routed now."""

    entity_id: str
    shard_id: int
    epoch: int
    staleness_seconds: float
    replicas: list[Replica]


class GatewayHealth(Shape):
    """The process answers."""

    gateway_id: str


class GatewayReady(Shape):
    """`staleness_seconds`: since Postgres last said what is current."""

    gateway_id: str
    epoch: Annotated[int, Field(ge=1)]
    staleness_seconds: float


class PipelineHealth(Shape):
    """The process answers."""

    node_id: str


class PipelineReady(Shape):
    """`shards`: what is held, at which version of the source each; `table_version` is -1 if there is no serving table."""

    node_id: str
    table_version: int
    shards: dict[str, int]


class Document(BaseModel):
    """An OpenAPI document."""

    model_config = ConfigDict(extra="allow")

    openapi: str
    info: dict[str, JsonValue]
    paths: dict[str, JsonValue]

"""What gateways and pipelines answer to: the table from which routes and OpenAPI documents are made."""

from __future__ import annotations

from foreshard.gateway import http, interface
from foreshard.gateway.openapi import JSON, LINES, TEXT, Gives, Operation, Parameter
from foreshard.gateway.query import GRANULARITIES, LONGEST_NAME, LONGEST_WAIT_SECONDS
from foreshard.gateway.tokens import LONGEST as LONGEST_TOKEN
from foreshard.gateway_settings import CLASS_NAME

_NAME = {"type": "string", "minLength": 1, "maxLength": LONGEST_NAME, "pattern": r"^[^\x00]*[^\s\x00][^\x00]*$"}
_INSTANT = {"type": "string", "minLength": 10, "maxLength": 64}
_WHOLE = {"type": "string", "pattern": r"^[0-9]{1,18}$"}
_CLASS = Parameter(
    http.CLASS, "header", {"type": "string", "pattern": f"^{CLASS_NAME.pattern}$"}, "The class that the request is in."
)
_TOKEN_SCHEMA = {"type": "string", "maxLength": LONGEST_TOKEN}
_WAIT_SCHEMA = {"type": "number", "minimum": 0, "maximum": LONGEST_WAIT_SECONDS}
_READ_YOUR_WRITES = (
    Parameter(http.TOKEN, "header", _TOKEN_SCHEMA, "Answer with this write included."),
    Parameter("token", "query", _TOKEN_SCHEMA, f"As {http.TOKEN}."),
    Parameter(http.WAIT, "header", _WAIT_SCHEMA, "How many seconds to wait for that write; 2 by default."),
    Parameter("wait", "query", _WAIT_SCHEMA, f"As {http.WAIT}."),
)
_ENTITY = Parameter("entity_id", "query", _NAME, "Whose usage.", is_required=True)
_QUERY = (
    _ENTITY,
    Parameter("service_id", "query", _NAME, "Of which service.", is_required=True),
    Parameter("operation_id", "query", _NAME, "Of which operation.", is_required=True),
    Parameter("start", "query", _INSTANT, "ISO 8601, UTC unless it says otherwise.", True, "2013-11-28T05:00:00Z"),
    Parameter("end", "query", _INSTANT, "Hours that begin before it are counted.", True, "2013-11-29T05:00:00Z"),
    Parameter("granularity", "query", {"type": "string", "enum": list(GRANULARITIES)}, "The periods: hour by default."),
)
_WHO = {
    http.NODE: "The node that answered, none if none did.",
    http.EPOCH: "The epoch routed by.",
    http.REASON: "Why that node.",
}
_BAD = Gives("A bad parameter, or a body that cannot be understood.")
_NOT_NOW = Gives("Nobody can answer now.", retry=True)
_TOO_MUCH = Gives("The class has used its share of a pool at capacity.", retry=True)
_FOREIGN = Gives("The token was not issued here.")
_BODY = {408: Gives("The body came too slowly."), 413: Gives("The body is too large.")}
_METRICS = Operation(
    "GET", "/metrics", "metrics", "Counters for Prometheus.", {200: Gives("Text.", {TEXT: {"type": "string"}})}
)

GATEWAY = (
    Operation(
        "GET",
        "/v1/usage",
        "usage",
        "The usage of one entity, by period.",
        {
            200: Gives("The periods with usage, oldest first.", {JSON: interface.Usage}, _WHO),
            400: _BAD,
            403: _FOREIGN,
            425: Gives("The write that the token names cannot be read yet.", retry=True),
            429: _TOO_MUCH,
            503: _NOT_NOW,
        },
        (*_QUERY, _CLASS, *_READ_YOUR_WRITES),
        needs_key=True,
    ),
    Operation(
        "POST",
        "/v1/usage",
        "usage_batch",
        "Several queries, each answered with a status of its own.",
        {
            200: Gives("One answer for each query, in their order.", {JSON: interface.BatchAnswers}),
            400: _BAD,
            403: _FOREIGN,
            503: _NOT_NOW,
            **_BODY,
        },
        (_CLASS, *_READ_YOUR_WRITES),
        {JSON: interface.Batch},
        needs_key=True,
    ),
    Operation(
        "POST",
        "/v1/usage-records",
        "write",
        "Lands usage records; the token reads them back.",
        {
            202: Gives("They are landed, as one file.", {JSON: interface.Landed}, {http.TOKEN: "The token of the body."}),
            400: _BAD,
            503: _NOT_NOW,
            **_BODY,
        },
        takes={JSON: {"type": "array", "items": {"type": "object"}, "minItems": 1}, LINES: {"type": "string"}},
        needs_key=True,
    ),
    Operation(
        "GET",
        "/v1/routes",
        "routes",
        "How a query of an entity would be routed now.",
        {200: Gives("Every replica, and why it would be left out.", {JSON: interface.Routes}), 400: _BAD, 503: _NOT_NOW},
        (
            _ENTITY,
            Parameter("service_id", "query", {"type": "string"}, "Changes nothing yet."),
            Parameter("operation_id", "query", {"type": "string"}, "Changes nothing yet."),
            Parameter("start", "query", _INSTANT, "Leaves out replicas that do not reach back so far.", False, "2013-11-28"),
        ),
        needs_key=True,
    ),
    Operation(
        "GET", "/healthz", "healthz", "Whether the process answers.", {200: Gives("It does.", {JSON: interface.GatewayHealth})}
    ),
    Operation(
        "GET",
        "/readyz",
        "readyz",
        "Whether queries may be sent here.",
        {200: Gives("They may.", {JSON: interface.GatewayReady}), 503: Gives("No epoch yet, or asked to stop.", retry=True)},
    ),
    _METRICS,
)

PIPELINE = (
    Operation(
        "GET",
        "/v1/usage",
        "usage",
        "The usage of one entity of a shard that is held here.",
        {
            200: Gives(
                "The periods with usage, oldest first.",
                {JSON: interface.Usage},
                {http.APPLIED_VERSION: "The version of the source that the shard is at.", http.LOAD: "The node's load."},
            ),
            400: _BAD,
            425: Gives("The shard is not at that version yet.", {TEXT: {"type": "string", "pattern": "^behind; "}}, retry=True),
            503: Gives(
                "The shard, or this part of its time, is not held here; or the table is still being loaded.",
                {TEXT: {"type": "string", "pattern": "^not-mine; epoch=[0-9]+$"}, JSON: interface.Error},
                retry=True,
            ),
        },
        (
            *_QUERY,
            Parameter(http.SHARD, "header", _WHOLE, "The shard asked for.", is_required=True, example="3"),
            Parameter(http.MINIMUM_VERSION, "header", _WHOLE, "Refuse if the shard is not at this version of the source."),
            _CLASS,
        ),
    ),
    Operation(
        "GET", "/healthz", "healthz", "Whether the process answers.", {200: Gives("It does.", {JSON: interface.PipelineHealth})}
    ),
    Operation(
        "GET",
        "/readyz",
        "readyz",
        "Whether its table is loaded, and at which versions.",
        {200: Gives("It is.", {JSON: interface.PipelineReady}), 503: Gives("Not yet, or asked to stop.", retry=True)},
    ),
    _METRICS,
)

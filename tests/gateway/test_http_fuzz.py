"""Every parameter of every operation fuzzed by the servers' own descriptions: nothing is unhandled, nothing undescribed."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from live_cluster import CLIENT, KEYS, Cluster
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

_CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.unsupported_method,
]
_OPERATIONS = {
    "g1": [
        *(("GET", "/v1/usage"), ("POST", "/v1/usage"), ("POST", "/v1/usage-records"), ("GET", "/v1/routes")),
        *(("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/metrics"), ("GET", "/openapi.json")),
    ],
    "a": [("GET", "/v1/usage"), ("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/metrics"), ("GET", "/openapi.json")],
}
_RANGE = {"start": "2013-11-20T00:00:00Z", "end": "2013-11-21T00:00:00Z"}
_REFUSALS = {503}  # of a pipeline, for a shard that it does not hold
_TAKES_ANYTHING = {"/v1/usage-records"}  # bad rows are landed and quarantined


@pytest.mark.live
@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize(
    ("server", "method", "path"), [(server, *operation) for server, found in _OPERATIONS.items() for operation in found]
)
def test_whatever_is_sent_the_answer_is_one_that_is_described(
    guarded: Cluster, server: str, method: str, path: str, mode: GenerationMode
) -> None:
    address = guarded.addresses[server]
    described = schemathesis.openapi.from_url(f"{address}/openapi.json")
    operation = described[path][method]
    has_input = bool(list(operation.iter_parameters())) or bool(operation.body)
    if not has_input and mode is GenerationMode.NEGATIVE:
        pytest.skip("takes nothing that could be wrong")

    @settings(max_examples=80 if has_input else 3, suppress_health_check=list(HealthCheck), database=None)
    @given(case=operation.as_strategy(mode), sensible=st.booleans())
    def ask(case: schemathesis.Case, sensible: bool) -> None:
        if sensible and method == "GET" and isinstance(case.query, dict) and "start" in case.query:
            case.query.update(_RANGE)  # else hardly a query would come to its pipeline
        response = case.call(base_url=address, headers={"X-Api-Key": KEYS["gold"]}, timeout=20)
        found = list(_CHECKS)
        if response.status_code not in _REFUSALS:
            found.append(not_a_server_error)
        if response.status_code < 300 and path not in _TAKES_ANYTHING:
            found.append(checks.negative_data_rejection)
        case.validate_response(response, checks=found)

    ask()
    for name in (server, "g1"):
        assert "Traceback" not in (guarded.folder / f"{name}.log").read_text("utf-8")


@pytest.mark.live
@pytest.mark.parametrize("server", list(_OPERATIONS))
def test_every_operation_is_described(guarded: Cluster, server: str) -> None:
    described = CLIENT.get(f"{guarded.addresses[server]}/openapi.json").json()
    found = {(method.upper(), path) for path, methods in described["paths"].items() for method in methods}
    assert found == set(_OPERATIONS[server])
    assert described["openapi"] == "3.1.0"

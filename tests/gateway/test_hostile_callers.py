"""Callers who mean no good, over real sockets: each gets a defined answer, and the next caller is served as before."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from live_cluster import CLIENT, ENTITIES, KEYS, Cluster

from foreshard.gateway import http, tokens
from foreshard.local.processes import wait_until

GOLD = {"X-Api-Key": KEYS["gold"]}
BRONZE = {"X-Api-Key": KEYS["bronze"]}
QUERY = {"entity_id": "AA1", "service_id": "s", "operation_id": "o", "start": "2013-11-20", "end": "2013-11-21"}
LINE = b"GET /v1/usage HTTP/1.1\r\nHost: x\r\n"
WRITE = b"POST /v1/usage-records HTTP/1.1\r\nHost: x\r\nX-Api-Key: " + KEYS["gold"].encode() + b"\r\n"


def raw(cluster: Cluster, *pieces: bytes, server: str = "g1") -> bytes:
    """All that the server says, until it closes the connection, to pieces sent one after another."""
    host, port = cluster.addresses[server].removeprefix("http://").split(":")
    said = b""
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
            while got := connection.recv(1 << 16):
                said += got
        except (ConnectionResetError, BrokenPipeError):
            pass  # it was cut off while it was still sending
    return said


def status_of(said: bytes) -> int:
    return int(said.split(b" ", 2)[1]) if said else 0


def is_serving(cluster: Cluster) -> bool:
    return cluster.usage("AA1", GOLD).status_code == 200


@pytest.mark.live
@pytest.mark.parametrize("server", ["g1", "a"])
@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ((b"GET /v1/usage?" + b"x" * 25_000 + b" HTTP/1.1\r\n\r\n",), 414),
        ((LINE + b"X-Long: " + b"y" * 10_000 + b"\r\n\r\n",), 431),
        ((LINE, *[b"X-Many: y\r\n" * 100] * 10, b"\r\n"), 431),
        ((LINE + b"X-Endless: ", *[b"y" * 20_000] * 4), 431),
        ((LINE + b"X-Slow: ",), 408),
        ((b"GET /v1/us",), 408),
        ((b"",), 0),
        ((b"\r\n\r\n",), 0),
        ((b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",), 400),
        ((b"nonsense\r\n\r\n",), 400),
        ((b"GET \xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",), 400),
        ((b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n",), 400),
        ((b"POST /v1/usage HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",), 400),
        ((b"POST /v1/usage HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",), 400),
        ((b"GET /v1/../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",), 404),
        ((b"GET /v1/usage%00 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",), 404),
        ((b"DELETE /v1/usage HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",), 405),
        ((b"TRACE / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",), 404),
    ],
)
def test_a_request_that_is_none_is_cut_off_with_one_sentence(
    guarded: Cluster, server: str, sent: tuple[bytes, ...], status: int
) -> None:
    said = raw(guarded, *sent, server=server)
    assert status_of(said) == status
    assert not status or "error" in json.loads(said.split(b"\r\n\r\n", 1)[1])
    assert is_serving(guarded)


@pytest.mark.live
@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ((WRITE + b"Content-Length: 100\r\n\r\n[{",), 408),
        ((WRITE + b"Content-Length: 99999999999\r\n\r\n",), 413),
        ((WRITE + b"Transfer-Encoding: chunked\r\n\r\n", *[b"100000\r\n" + b"x" * (1 << 20) + b"\r\n"] * 66), 413),
        (
            (
                WRITE.replace(b"-records", b"") + b"Transfer-Encoding: chunked\r\n\r\n",
                *[b"100000\r\n" + b" " * (1 << 20) + b"\r\n"] * 6,
            ),
            413,
        ),
        ((WRITE.replace(KEYS["gold"].encode(), b"stolen") + b"Content-Length: 99999999999\r\n\r\n",), 401),
    ],
)
def test_bodies_that_are_slow_or_too_large_are_refused(guarded: Cluster, sent: tuple[bytes, ...], status: int) -> None:
    said = raw(guarded, *sent)
    # A server that closes while more is on its way may have its answer lost by the network.
    assert status_of(said) in ((status, 0) if len(sent) > 1 else (status,))
    assert is_serving(guarded)


@pytest.mark.live
def test_a_caller_who_leaves_in_the_middle_of_a_body_leaves_no_trace(guarded: Cluster) -> None:
    host, port = guarded.addresses["g1"].removeprefix("http://").split(":")
    before = set(Path(guarded.settings.landing_folder("usage_record")).rglob("*"))
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(WRITE + b"Content-Length: 100\r\n\r\n[{")
    assert is_serving(guarded)
    assert set(Path(guarded.settings.landing_folder("usage_record")).rglob("*")) == before
    assert "Traceback" not in (guarded.folder / "g1.log").read_text("utf-8")


@pytest.mark.live
@pytest.mark.parametrize("field", ["entity_id", "service_id", "operation_id", "start", "granularity", "token"])
@pytest.mark.parametrize(
    "text",
    [
        "' OR '1'='1",
        "'; DROP TABLE shard_0; --",
        '"; SELECT * FROM shard_1; --',
        "../../../../etc/passwd",
        "AA1&granularity=hour&entity_id=AA2",
        "AA1\r\nX-Foreshard-Shard: 3",
        "AA1%0d%0aX-Foreshard-Node: b",
        "$(id)",
        "{{7*7}}",
        "\u202e\U0001f600",
        "NULL",
    ],
)
def test_what_is_put_into_a_parameter_stays_a_value(guarded: Cluster, field: str, text: str) -> None:
    answer = CLIENT.get(
        guarded.addresses["g1"] + "/v1/usage", params={**QUERY, "granularity": "total", field: text}, headers=GOLD
    )
    if field in ("entity_id", "service_id", "operation_id"):
        assert (answer.status_code, answer.json()) == (200, [])
    else:
        assert answer.status_code == (403 if field == "token" else 400)
    assert answer.headers.get_list(http.NODE) in ([], ["a"], ["b"])
    for entity in ENTITIES:
        assert guarded.usage(entity, GOLD).json()[0]["quantity"] == 1


@pytest.mark.live
@pytest.mark.parametrize("name", [http.CLASS, http.TOKEN, http.WAIT, "X-Api-Key"])
@pytest.mark.parametrize("value", ["'; DROP TABLE gateway; --", "a\tb", "\xff\xfe", "../..", "a" * 5000])
def test_what_is_put_into_a_header_is_refused_or_a_value(guarded: Cluster, name: str, value: str) -> None:
    headers = {k.encode(): v.encode("latin-1") for k, v in {**GOLD, name: value}.items()}
    answer = CLIENT.get(guarded.addresses["g1"] + "/v1/usage", params=QUERY, headers=headers)
    assert answer.status_code == {http.CLASS: 403, http.TOKEN: 403, http.WAIT: 200, "X-Api-Key": 401}[name] or (
        name == http.WAIT and answer.status_code == 400
    )
    assert value[:200] not in (guarded.folder / "g1.log").read_text("utf-8")


@pytest.mark.live
def test_a_forged_or_a_foreign_token_is_refused_everywhere(guarded: Cluster) -> None:
    ours = tokens.load_secret(guarded.settings.home)
    name = "2013-11-20T05/g1.x.jsonl"
    forged = [tokens.issue(b"0" * 32, "usage", name), tokens.issue(ours, "another-pool", name), "", "a.b", "." * 3000]
    batch = json.dumps({"queries": [QUERY]})
    for token in forged:
        expected = 403 if token else 200
        headers = {**GOLD, http.TOKEN: token}
        assert guarded.usage("AA1", headers).status_code == expected
        assert guarded.usage("AA1", GOLD, token=token).status_code == expected
        assert CLIENT.post(guarded.addresses["g1"] + "/v1/usage", content=batch, headers=headers).status_code == expected
    told = guarded.usage("AA1", {**GOLD, http.TOKEN: forged[1]}).json()["error"]
    assert "another-pool" in told


@pytest.mark.live
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"X-Api-Key": "guess"}, 401),
        ({"Authorization": "Basic a2V5"}, 401),
        ({"Authorization": "Bearer " + KEYS["bronze"]}, 200),
        ({**BRONZE, http.CLASS: "bronze"}, 200),
        ({**BRONZE, http.CLASS: "gold"}, 403),
        ({**BRONZE, http.CLASS: "unheard-of"}, 403),
        ({**GOLD, http.CLASS: "bronze"}, 200),
    ],
)
def test_a_key_opens_its_own_class_and_lower_ones(guarded: Cluster, headers: dict[str, str], status: int) -> None:
    address = guarded.addresses["g1"]
    answers = [
        guarded.usage("AA1", headers),
        CLIENT.get(address + "/v1/routes", params={"entity_id": "AA1"}, headers=headers),
        CLIENT.post(address + "/v1/usage", json={"queries": [QUERY]}, headers=headers),
    ]
    assert [answer.status_code for answer in answers] == [status] * 3
    if status == 401:
        assert CLIENT.post(address + "/v1/usage-records", content=b"{}", headers=headers).status_code == 401
        assert answers[0].headers["WWW-Authenticate"] == "Bearer"
    assert all(CLIENT.get(address + path).status_code == 200 for path in ("/healthz", "/readyz", "/metrics", "/openapi.json"))


@pytest.mark.live
def test_no_key_is_ever_written_down(guarded: Cluster) -> None:
    assert is_serving(guarded)
    folder = Path(guarded.settings.landing_folder("query_record"))

    def written() -> str:
        return "".join(file.read_text("utf-8") for file in folder.rglob("*.jsonl"))

    wait_until(lambda: '"query_class":"gold"' in written(), 10, "the query log to be written")
    metrics = CLIENT.get(guarded.addresses["g1"] + "/metrics").text
    logs = "".join((guarded.folder / f"{name}.log").read_text("utf-8") for name in ("g1", "a", "b"))
    for key in KEYS.values():
        assert key not in written() + metrics + logs
    assert 'foreshard_gateway_query_seconds_count{class="gold",status="200"}' in metrics


def batch_of(cluster: Cluster, body: object) -> tuple[int, dict[str, object]]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = CLIENT.post(cluster.addresses["g1"] + "/v1/usage", content=content, headers=GOLD)
    return answer.status_code, answer.json()


@pytest.mark.live
def test_each_query_of_a_batch_has_an_answer_of_its_own(guarded: Cluster) -> None:
    whole = {**QUERY, "granularity": "total"}
    queries = [whole, {**whole, "entity_id": "nobody"}, {**whole, "start": "2013-11-22"}, {**whole, "entity_id": ENTITIES[5]}]
    status, found = batch_of(guarded, {"queries": queries})
    assert status == 200
    answers = found["answers"]
    assert isinstance(answers, list)
    assert [a["status"] for a in answers] == [200, 200, 400, 200]
    assert answers[0]["usage"] == [{"start": "2013-11-20T00:00:00Z", "quantity": 1, "events": 1}]
    assert answers[1]["usage"] == []
    assert "before end" in answers[2]["error"]
    assert {a["node_id"] for a in answers if a["status"] == 200} <= {"a", "b"}


@pytest.mark.live
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b'{"queries":' + b"[" * 100_000,
        {"queries": []},
        {"queries": [QUERY] * 6},
        {"queries": [{**QUERY, "entity_id": 7}]},
        {"queries": [{**QUERY, "more": "x"}]},
        {"queries": [{k: v for k, v in QUERY.items() if k != "end"}]},
        {"queries": [None]},
    ],
    ids=repr,
)
def test_a_batch_that_is_none_is_refused_as_a_whole(guarded: Cluster, body: object) -> None:
    status, found = batch_of(guarded, body)
    assert status == 400
    assert set(found) == {"error"}

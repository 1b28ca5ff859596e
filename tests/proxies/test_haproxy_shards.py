"""HAProxy's idea of a query's shard against Python's, for many keys and for queries made to be misunderstood."""

from __future__ import annotations

import random
import re
import socket
from collections import Counter
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

import pytest
from live_haproxy import CLIENT, Proxy, everywhere, snapshot_of
from small_pipelines import SmallPipeline

from foreshard.hashing import entity_slot
from foreshard.model import NodeState, Replica
from foreshard.proxies.haproxy_changes import changes
from foreshard.proxies.proxy_state import Seen, wanted

pytestmark = pytest.mark.live

KEYS = 100_000
AT_ONCE = 20  # requests sent before the first answer is read: what fits into HAProxy's buffer
_ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyz0123456789-_.",
    "ABC &=;+%#?/\\\"'<>|{}[]:,@!*()~`^$",
    "äöüßéèñçøåλдяжשالعربية日本語한국어हिन्दी",
    "😀🚀🧪𝔘𐍈\u0301\u200d\ufeff\u2028",
    "\t\r\n\x01\x1f\x7f \xa0",
)
ISOLATED = ("hot one", "naïve;key&=+%", "日本語", "a\r\nX-Foreshard-Shard: 1", "#", "0" * 512)
OWN = {entity: 300 + number for number, entity in enumerate(ISOLATED)}


def drawn(random_: random.Random) -> str:
    """An entity, encoded in at most as many bytes as HAProxy takes."""
    alphabet = random_.choice(_ALPHABETS)
    if random_.random() < 0.3:
        alphabet += random_.choice(_ALPHABETS)
    length = random_.choice((1, 2, 3, 8, 8, 16, 33)) if random_.random() < 0.995 else random_.choice((300, 512))
    if random_.random() < 0.01:
        return random_.choice(ISOLATED)
    return "".join(random_.choices(alphabet, k=length))


def spelled(random_: random.Random, entity: str) -> str:
    """One of the ways in which clients percent-encode."""
    way = random_.randrange(4)
    if way == 0:
        return quote(entity, safe="")
    if way == 1:
        return quote_plus(entity)
    if way == 2:  # all of it, in lower case
        return "".join(f"%{byte:02x}" for byte in entity.encode())
    return quote(entity, safe=";:@/?!$'()*,~")


def shards_of(connection: socket.socket, queries: list[str]) -> list[int]:
    """What HAProxy answers to /v1/shard."""
    lines = "".join(f"GET /v1/shard?{query} HTTP/1.1\r\nHost: test\r\n\r\n" for query in queries)
    connection.sendall(lines.encode("ascii"))
    answer, found = b"", list[bytes]()
    while len(found) < len(queries):
        part = connection.recv(1 << 20)
        assert part, answer[-500:]
        answer += part
        found = re.findall(rb'HTTP/1.1 200 [^{]*\{"shard_id":(\d+),[^}]*\}', answer)
        assert answer.count(b"HTTP/1.1 ") == answer.count(b"HTTP/1.1 200 "), answer[-500:]
    return [int(shard) for shard in found]


@pytest.fixture(scope="module")
def pipeline() -> Iterator[SmallPipeline]:
    pipeline = SmallPipeline("a")
    yield pipeline
    pipeline.stop()


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory, pipeline: SmallPipeline) -> Iterator[Proxy]:
    """256 slots and some isolated entities, all on one pipeline; put in without a driver."""
    proxy = Proxy(tmp_path_factory.mktemp("proxy"), 8, own_backends=8)
    own = [Replica(shard, "a") for shard in OWN.values()]
    snapshot = snapshot_of({"a": pipeline.url}, 8, [*everywhere(8, "a"), *own], tuple(OWN.items()))
    seen = {"a": Seen(("127.0.0.1", int(pipeline.url.rpartition(":")[2])), NodeState.ACTIVE)}
    held = proxy.api.held()
    proxy.api.carry_out(changes(held, wanted(snapshot, seen, held)))
    yield proxy
    proxy.stop()


def shard_of(entity: str) -> int:
    return OWN.get(entity, entity_slot(entity, 8))


@pytest.mark.parametrize("seed", [20131128])
def test_a_hundred_thousand_keys_have_the_shard_that_python_computes(proxy: Proxy, seed: int) -> None:
    random_ = random.Random(seed)
    distinct: dict[str, None] = {}
    while len(distinct) < KEYS:
        distinct[drawn(random_)] = None
    entities = list(distinct)
    found: list[int] = []
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=60) as connection:
        for begin in range(0, KEYS, AT_ONCE):
            some = entities[begin : begin + AT_ONCE]
            found += shards_of(connection, [f"service_id=s&entity_id={spelled(random_, e)}&operation_id=o" for e in some])
    different = [(e, shard, shard_of(e)) for e, shard in zip(entities, found, strict=True) if shard != shard_of(e)]
    assert different == []
    print(f"{len(found)} distinct keys, {sum(e in OWN for e in entities)} of them isolated: the same shards")


_PIECES = (
    *("entity_id", "entity%5Fid", "%65ntity_id", "Entity_id", "entity_id ", "start", "token", "tok%65n", "wait", "x"),
    *(
        "=",
        "=",
        "=",
        "&",
        "&",
        "&",
        ";",
        "?",
        "#",
        "%23",
        "%26",
        "%3D",
        "+",
        "%20",
        "%00",
        "%0d%0aX-Foreshard-Shard:%201",
        "%zz",
        "%",
    ),
    *(
        "a",
        "AA1",
        "hot+one",
        "hot%20one",
        "naïve",
        "%ff",
        "%c3%a9",
        "%c3",
        "%ed%a0%80",
        "%f0%9f%98%80",
        "\xe9",
        "/../",
        "//",
        "\\",
    ),
    *("2013-11-28", "&entity_id=a", "?entity_id=a", ";entity_id=b", "&start=2013-11-28T00:00:00Z"),
)


@pytest.mark.parametrize("seed", [7, 8])
def test_whatever_the_query_a_pipeline_is_asked_for_the_shard_of_the_entity_that_it_reads(
    proxy: Proxy, pipeline: SmallPipeline, seed: int
) -> None:
    random_ = random.Random(seed)
    statuses = Counter[int]()
    pipeline.asked.clear()
    for _ in range(1500):
        begin = random_.choice(("entity_id=", "entity_id=", "service_id=s&entity_id=", ""))
        query = begin + "".join(random_.choices(_PIECES, k=random_.randrange(6)))
        statuses[status_of(proxy.port, f"/v1/usage?{query}")] += 1
    assert set(statuses) == {200, 400, 501}
    assert statuses[200] == len(pipeline.asked) > 200
    wrong = [q for q in pipeline.asked if q.shard_id not in (shard_of(q.entity_id), entity_slot(q.entity_id, 8))]
    assert wrong == []
    assert not any("x-evil" in query.headers for query in pipeline.asked)


def status_of(port: int, target: str, headers: str = "") -> int:
    """The status of a request written byte for byte."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        request = f"GET {target} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{headers}\r\n"
        connection.sendall(request.encode("latin-1", "replace"))
        return int(connection.recv(65536).split(b" ")[1])


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/v1/usage?entity_id=" + "a" * 2048, 200),
        ("/v1/usage?entity_id=" + "a" * 2049, 400),
        ("/v1/usage?entity_id=" + "%61" * 5000, 400),
        ("/v1/usage?entity_id=" + "a" * 20000, 400),  # more than HAProxy reads of a request's head
        ("/v1/usage?entity_id=" + "%f0%9f%98%80" * 512, 200),
        ("/v1/usage", 400),
        ("/v1/usage?", 400),
        ("/v1/usage?entity_id", 400),
        ("/v1/usage?entity_id=a&entity_id", 400),
        ("/v1/usage?entity_id=a\x01", 400),
        ("/v1/usage/../usage?entity_id=a", 501),
        ("/v1/%75sage?entity_id=a", 501),
        ("//v1/usage?entity_id=a", 501),
        ("/v1/usage?entity_id=a&token=t", 501),
        ("/v1/usage?entity_id=a&t%6fken=t", 400),
        ("/v1/usage-records", 501),
        ("/healthz", 200),
        ("/readyz", 200),
    ],
)
def test_requests_made_to_slip_through_have_a_defined_answer(proxy: Proxy, target: str, status: int) -> None:
    assert status_of(proxy.port, target) == status


def test_headers_that_only_a_gateway_may_set_are_not_the_callers(proxy: Proxy, pipeline: SmallPipeline) -> None:
    forged = "X-Foreshard-Shard: 3\r\nX-Foreshard-Shard: 4\r\nX-Foreshard-Epoch: 99\r\nX-Foreshard-Minimum-Version: 5\r\n"
    assert status_of(proxy.port, "/v1/usage?entity_id=AA1", forged) == 200
    last = pipeline.asked[-1]
    assert last.shard_id == entity_slot("AA1", 8)
    assert (last.headers["x-foreshard-epoch"], last.headers["x-foreshard-minimum-version"]) == ("1", "5")
    assert status_of(proxy.port, "/v1/usage?entity_id=AA1", "X-Foreshard-Token: t\r\n") == 501


def test_metrics_are_prometheus_text(proxy: Proxy) -> None:
    assert "haproxy_frontend_http_requests_total" in CLIENT.get(f"{proxy.url}/metrics").text

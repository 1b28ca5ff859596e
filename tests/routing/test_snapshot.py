"""Snapshots before and after the forecast's skill and the nodes' corrections came into them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from foreshard.errors import ForeshardError
from foreshard.model import Node, Replica
from foreshard.routing.predicted import PredictedLoads
from foreshard.routing.snapshot import PredictedLoad, Snapshot, decode, encode

PLAIN = Snapshot("usage", 1, 0, 2, 3600, 7, 90, (Node("a", 10.0),), tuple(Replica(shard, "a") for shard in range(4)))


def test_skill_and_corrections_come_through_encoding() -> None:
    learnt = replace(PLAIN, skill=0.4, corrections=(("a", 1.25),))
    assert decode(*encode(learnt)) == learnt


def test_a_snapshot_without_them_is_written_as_before_and_read_as_trusted() -> None:
    packed, checksum = encode(PLAIN)
    document = json.loads(zstandard.ZstdDecompressor().decompress(packed))
    assert not {"skill", "corrections"} & document.keys()
    assert checksum == hashlib.sha256(packed).hexdigest()
    assert (decode(packed, checksum).skill, decode(packed, checksum).corrections) == (1.0, ())


DAYS = st.none() | st.dates(date(1900, 1, 1), date(2100, 1, 1))
REPLICAS = st.builds(Replica, st.integers(0, 2**31 - 1), st.text(max_size=5), st.floats(allow_nan=False), DAYS)
STARTS = st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1)).map(lambda t: t.replace(microsecond=0, tzinfo=UTC))
LOADS = st.builds(PredictedLoad, st.integers(0, 2**31 - 1), STARTS, st.floats(allow_nan=False))


@given(st.lists(REPLICAS), st.lists(LOADS))
def test_replicas_and_loads_come_through_encoding(replicas: list[Replica], loads: list[PredictedLoad]) -> None:
    snapshot = replace(PLAIN, replicas=tuple(replicas), predicted=tuple(loads))
    packed, checksum = encode(snapshot)
    read = decode(packed, checksum)
    assert (read, read.predicted) == (snapshot, tuple(loads))
    assert list(read.predicted) == loads
    assert encode(read) == (packed, checksum), "as it is kept by gateways"


@given(st.lists(LOADS), st.lists(LOADS))
def test_columns_of_loads_are_equal_as_their_items_are(one: list[PredictedLoad], other: list[PredictedLoad]) -> None:
    columns = PredictedLoads.of(one)
    assert (columns == PredictedLoads.of(other)) == (columns == tuple(other)) == (one == other)
    assert columns == PredictedLoads.of(one)
    assert columns[:2] == tuple(one[:2])
    assert [columns[n] for n in range(len(one))] == one


def test_series_are_shard_after_shard() -> None:
    starts = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=h) for h in range(2)]
    loads = PredictedLoads.of_series([3, 1], starts, [[1.0, 2.0], [3.0, 4.0]])
    expected = ((3, starts[0], 1.0), (3, starts[1], 2.0), (1, starts[0], 3.0), (1, starts[1], 4.0))
    assert loads == tuple(PredictedLoad(*row) for row in expected)


def packed(document: object) -> tuple[bytes, str]:
    raw = zstandard.ZstdCompressor().compress(json.dumps(document).encode())
    return raw, hashlib.sha256(raw).hexdigest()


def document_of(snapshot: Snapshot) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(zstandard.ZstdDecompressor().decompress(encode(snapshot)[0]))
    return document


def test_an_epoch_written_as_rows_is_read() -> None:
    """As foreshard wrote them before replicas and loads became columns."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    old = document_of(PLAIN) | {
        "format": 1,
        "replicas": [[0, "a", 0.5, None], [1, "a", 1.0, "2026-01-01"]],
        "predicted": [[0, start.timestamp(), 2.5]],
    }
    read = decode(*packed(old))
    assert read.replicas == (Replica(0, "a", 0.5), Replica(1, "a", 1.0, date(2026, 1, 1)))
    assert read.predicted == (PredictedLoad(0, start, 2.5),)


def test_an_epoch_of_a_newer_version_says_so() -> None:
    with pytest.raises(ForeshardError, match="has format 3; this version reads up to 2"):
        decode(*packed(document_of(PLAIN) | {"format": 3}))


@pytest.mark.parametrize(
    "changed",
    [
        [],
        7,
        {"replicas": {}},
        {"replicas": 3},
        {"nodes": [["a"]]},
        {"nodes": [["a", 1.0, "asleep", "", ""]]},
        {"isolated": [3]},
        {"predicted": {"starts": [], "shard": "AAAAAA==", "at": "AAAAAA==", "mean": "AAAAAAAAAAA="}},
        {"predicted": {"starts": [1e300], "shard": "", "at": "", "mean": ""}},
        {"predicted": {"starts": [], "shard": "AAA", "at": "", "mean": ""}},
    ],
    ids=str,
)
def test_what_was_tampered_with_and_given_a_checksum_anew_is_one_sentence(changed: Any) -> None:
    document = document_of(PLAIN) | changed if isinstance(changed, dict) else changed
    with pytest.raises(ForeshardError, match=r"^routing snapshot cannot be read, although its checksum is right: "):
        decode(*packed(document))

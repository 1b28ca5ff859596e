from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foreshard.errors import ForeshardError
from foreshard.gateway import last_known_good
from foreshard.model import Node, Replica
from foreshard.routing.snapshot import Snapshot

SNAPSHOT = Snapshot("usage", 3, 2, 2, 3600, 7, 90, (Node("a", 1.0, url="http://a"),), (Replica(0, "a"),))


def test_what_was_saved_is_loaded_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "gateway" / "last_known_good"
    last_known_good.save(path, SNAPSHOT)
    last_known_good.save(path, SNAPSHOT)
    assert last_known_good.load(path, "usage") == SNAPSHOT
    assert [p.name for p in path.parent.iterdir()] == ["last_known_good"]


def test_without_a_file_there_is_none(tmp_path: Path) -> None:
    assert last_known_good.load(tmp_path / "none", "usage") is None


@given(at=st.integers(0, 10_000), flip=st.integers(1, 255))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_with_any_byte_changed_is_not_used(tmp_path: Path, at: int, flip: int) -> None:
    path = tmp_path / "file"
    last_known_good.save(path, SNAPSHOT)
    raw = bytearray(path.read_bytes())
    raw[at % len(raw)] ^= flip
    path.write_bytes(raw)
    with pytest.raises(ForeshardError, match="not used"):
        last_known_good.load(path, "usage")


@pytest.mark.parametrize("content", [b"", b"\n", b"garbage", b"cut off at the fir"])
def test_a_file_that_is_none_is_not_used(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(ForeshardError, match="not used"):
        last_known_good.load(path, "usage")


def test_a_rewritten_checksum_over_something_else_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(hashlib.sha256(b"hello").hexdigest().encode() + b"\nhello")
    with pytest.raises(ForeshardError, match="not used"):
        last_known_good.load(path, "usage")


def test_another_pools_file_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "file"
    last_known_good.save(path, SNAPSHOT)
    with pytest.raises(ForeshardError, match="pool usage"):
        last_known_good.load(path, "orders")

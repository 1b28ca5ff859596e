from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.errors import ForeshardError
from foreshard.gateway.writes import NotJson, Writes, split
from foreshard.routing import pool
from foreshard.settings import Settings
from foreshard.transition import store

SECRET = bytes(32)
HOUR = datetime(2013, 11, 28, 5, tzinfo=UTC)

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(rows=st.lists(values, min_size=1, max_size=5), indent=st.sampled_from([None, 2]))
def test_an_array_is_split_into_one_line_for_each_element(rows: list[object], indent: int | None) -> None:
    lines = split(json.dumps(rows, indent=indent).encode())
    assert [json.loads(line) for line in lines] == rows
    assert all(b"\n" not in line for line in lines)


def test_numbers_keep_the_digits_they_were_written_with() -> None:
    assert split(b'[{"quantity": 123456789012.123456}\n]') == [b'{"quantity": 123456789012.123456}']


def test_a_bad_row_among_good_ones_is_passed_on_for_quarantine() -> None:
    assert split(b'{"a": 1}\nnot json\n\n\xff\xfe\n') == [b'{"a": 1}', b"not json", b"\xff\xfe"]


@pytest.mark.parametrize("body", [b"", b"  \n ", b"hello", b"[1, 2", b"[1] trailing", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_a_body_without_json_is_refused(body: bytes) -> None:
    with pytest.raises(NotJson):
        split(body)


@pytest.fixture
def registered(database: str) -> str:
    pool.register(database, Settings())
    return database


def writes(folder: Path, url: str, moments: list[datetime]) -> Writes:
    """`moments` are what the clock says, one after the other; the last one stays."""

    def clock() -> datetime:
        return moments.pop(0) if len(moments) > 1 else moments[0]

    return Writes(str(folder), "usage", "g1", SECRET, lambda: url, clock)


def test_a_write_lands_whole_and_its_token_follows_it_to_the_applied_version(tmp_path: Path, registered: str) -> None:
    gateway = writes(tmp_path, registered, [HOUR])
    landed = gateway.land(b'[{"record_id": "1"}, {"record_id": "2"}]')
    assert landed.rows == 2
    assert (tmp_path / landed.file_name).read_bytes() == b'{"record_id": "1"}\n{"record_id": "2"}\n'
    assert [p.name for p in tmp_path.iterdir()] == ["2013-11-28T05"]
    assert gateway.minimum_version(landed.token) is None
    store.mark_files_applied(registered, "usage", [landed.file_name], 41)
    assert gateway.minimum_version(landed.token) == 41


def test_a_file_that_crosses_the_hour_lands_in_the_later_one(tmp_path: Path, registered: str) -> None:
    before, after = HOUR - timedelta(seconds=1), HOUR
    gateway = writes(tmp_path, registered, [before, after])
    landed = gateway.land(b'{"record_id": "1"}')
    assert landed.file_name.startswith("2013-11-28T05/")
    assert (tmp_path / landed.file_name).exists()


def test_without_postgres_nothing_is_landed(tmp_path: Path) -> None:
    gateway = writes(tmp_path, "postgresql://127.0.0.1:1/none", [HOUR])
    with pytest.raises(ForeshardError):
        gateway.land(b'{"record_id": "1"}')
    assert list(tmp_path.iterdir()) == []

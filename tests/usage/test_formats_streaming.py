"""Streams are cut into lines whatever their blocks, compressions and lengths; what is damaged is an error."""

from __future__ import annotations

import bz2
import gzip
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.lake.filesystem import locate
from foreshard.usage.formats import streaming


def chunks(data: bytes, size: int) -> Iterator[bytes]:
    return (data[i : i + size] for i in range(0, len(data), size))


@given(st.lists(st.binary(max_size=30).map(lambda b: b.replace(b"\n", b"")), max_size=30), st.integers(1, 40), st.booleans())
def test_lines_are_those_of_the_file_whatever_the_blocks(lines: list[bytes], size: int, ended: bool) -> None:
    data = b"\n".join(lines) + (b"\n" if ended else b"")
    found = list(streaming.lines(chunks(data, size)))
    expected = data.split(b"\n")[: -1 if data.endswith(b"\n") or not data else None]
    assert [line for part in found for line in part.content.to_pylist()] == expected
    assert [n for part in found for n in part.rows.to_pylist()] == list(range(1, len(expected) + 1))
    assert all(part.valid == _is_utf8(part) for part in found)


def _is_utf8(part: streaming.Lines) -> bool:
    try:
        [line.decode() for line in part.content.to_pylist()]
    except UnicodeDecodeError:
        return False
    return True


@pytest.mark.parametrize("size", [3, 7, 64, 1000])
def test_a_line_that_is_too_long_is_one_row_and_the_next_goes_on(size: int) -> None:
    data = b"one\n" + b"x" * 500 + b"\ntwo\n" + b"y" * 500
    found = [(part.first, part.too_long, part.content.to_pylist()) for part in streaming.lines(chunks(data, size), longest=100)]
    rows = [(first + i, long) for first, long, content in found for i, _ in enumerate(content)]
    if size < 400:
        assert rows == [(1, False), (2, True), (3, False), (4, True)]
    assert [line for _, long, content in found if not long for line in content if len(line) < 100] == [b"one", b"two"]


@pytest.mark.parametrize(("suffix", "codec"), [("", ""), ("gz", "gzip"), ("bz2", "bz2"), ("zst", "zstd"), ("lz4", "lz4")])
def test_a_file_is_streamed_decompressed_without_its_byte_order_mark(tmp_path: Path, suffix: str, codec: str) -> None:
    content = b"".join(b"line %d\n" % i for i in range(50_000))
    file = tmp_path / f"with [odd] name, 100%.jsonl.{suffix}"
    with pa.output_stream(str(file), compression=codec or None) as stream:
        stream.write(b"\xef\xbb\xbf" + content)
    read = list(streaming.blocks(str(file), codec))
    assert b"".join(read) == content
    assert max(map(len, read)) <= streaming.BLOCK
    assert streaming.checksum(str(file)) == hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize(("suffix", "compress"), [("gzip", gzip.compress), ("bz2", bz2.compress)])
def test_files_put_together_are_read_to_the_end_and_cut_off_ones_are_errors(
    tmp_path: Path, suffix: str, compress: object
) -> None:
    one, two = compress(b"one\n" * 1000), compress(b"two\n" * 1000)  # type: ignore[operator]
    file = tmp_path / "f"
    file.write_bytes(one + two)
    assert b"".join(streaming.blocks(str(file), suffix)) == b"one\n" * 1000 + b"two\n" * 1000
    file.write_bytes(one[:-8])
    with pytest.raises(OSError, match=r"."):
        list(streaming.blocks(str(file), suffix))
    file.write_bytes(b"plain text")
    with pytest.raises(OSError, match=r"."):
        list(streaming.blocks(str(file), suffix))


def test_a_path_is_taken_as_it_is_and_an_address_by_its_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    for address in (f"{tmp_path}/a%20b", f"file://{tmp_path}/a%20b", f"file:{tmp_path}/a%20b"):
        system, within = locate(address)
        assert (system.type_name, within) == ("local", f"{tmp_path}/a%20b")
    # The store itself is not asked.
    system, within = locate("s3a://bucket/landing/usage_record/2013-11-28T05/a%20b.jsonl")
    assert (system.type_name, within) == ("s3", "bucket/landing/usage_record/2013-11-28T05/a%20b.jsonl")

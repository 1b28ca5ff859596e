"""Files as streams of blocks, wherever they lie and however they are compressed: whole files are never in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.fs as fs

from foreshard.lake.filesystem import locate

BLOCK = 256 << 10  # what is worked on fits the processor's cache
_REQUEST = 8 << 20  # what is asked of an object store at once
BATCH = 4 << 20  # handed on at once, so that what a batch costs is shared by many rows
LONGEST_LINE = 16 << 20  # a longer one is refused, so that a file without line ends cannot fill the memory
KEPT = 64 << 10  # of a line that is too long


def _buffer(system: fs.FileSystem) -> int | None:
    return None if isinstance(system, fs.LocalFileSystem) else _REQUEST


def checksum(path: str) -> str:
    """The SHA-256 of the file's bytes as stored, in hex."""
    digest = hashlib.sha256()
    system, within = locate(path)
    with system.open_input_stream(within, compression=None, buffer_size=_buffer(system)) as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def blocks(path: str, compression: str, size: int = BLOCK) -> Iterator[bytes]:
    """The file's bytes, decompressed, `size` at a time, without a byte order mark. Raises OSError if they are damaged."""
    system, within = locate(path)
    with system.open_input_stream(within, compression=compression or None, buffer_size=_buffer(system)) as stream:
        first = stream.read(size)
        yield first.removeprefix(b"\xef\xbb\xbf")
        while block := stream.read(size):
            yield block


@dataclass(frozen=True)
class Lines:
    """Successive lines without their ends (of type binary), counted from `first`; `too_long`: one line, cut off."""

    first: int
    content: pa.BinaryArray
    valid: bool  # all of it is UTF-8
    too_long: bool = False

    @property
    def rows(self) -> pa.Int64Array:
        return pa.array(np.arange(self.first, self.first + len(self.content), dtype=np.int64))


def lines(chunks: Iterator[bytes], longest: int = LONGEST_LINE) -> Iterator[Lines]:
    """Cuts a stream at its line feeds, without a step per line; some MB of lines at a time."""
    pieces: list[Lines] = []
    size = 0
    for piece in _pieces(chunks, longest):
        if pieces and (piece.too_long or size > BATCH):
            yield _joined(pieces)
            pieces, size = [], 0
        if piece.too_long:
            yield piece
        else:
            pieces.append(piece)
            size += piece.content.nbytes
    if pieces:
        yield _joined(pieces)


def _joined(pieces: list[Lines]) -> Lines:
    content = pa.concat_arrays([piece.content for piece in pieces])
    return Lines(pieces[0].first, content, all(piece.valid for piece in pieces))


def _pieces(chunks: Iterator[bytes], longest: int) -> Iterator[Lines]:
    """The lines that end in each chunk."""
    carry: list[bytes | memoryview] = []
    carried, number = 0, 1
    skipping = False
    for chunk in chunks:
        end = chunk.rfind(b"\n") + 1
        if end:
            # What precedes the first line feed is the rest of a line that was cut off.
            head = chunk.index(b"\n") + 1 if skipping else 0
            if head < end:
                found = _cut(b"".join([*carry, memoryview(chunk)[head:end]]), number)
                yield found
                number += len(found.content)
            carry, carried, skipping = [], 0, False
        if not skipping and end < len(chunk):
            carry.append(memoryview(chunk)[end:])
            carried += len(chunk) - end
        if carried > longest:
            yield Lines(number, pa.array([b"".join(carry)[:KEPT]], pa.binary()), False, too_long=True)
            number += 1
            carry, carried, skipping = [], 0, True
    if carry:
        yield _cut(b"".join(carry) + b"\n", number)


def _cut(data: bytes, first: int) -> Lines:
    """`data` ends with a line feed. The lines are slices of one buffer."""
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == 10)
    offsets = np.zeros(len(ends) + 1, np.int32)
    offsets[1:] = ends - np.arange(len(ends))
    text = data.replace(b"\n", b"")
    content = pa.BinaryArray.from_buffers(pa.binary(), len(ends), [None, pa.py_buffer(offsets), pa.py_buffer(text)])
    return Lines(first, content, is_utf8(data))


def is_utf8(data: bytes) -> bool:
    """Whether all of it is; `data` ends where a character does."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True

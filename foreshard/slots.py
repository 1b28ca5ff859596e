"""Slots of many entities at once: xxh64 over the bytes of an Arrow array, compiled, on several cores.

The hash is written out here because the xxhash package takes one key a call.
Source: the XXH64 algorithm description by Yann Collet, github.com/Cyan4973/xxHash, doc/xxhash_spec.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from foreshard.errors import ForeshardError
from foreshard.hashing import SEED

# A sequence of str, or an Arrow array or chunked array of a string type.
Keys = Sequence[str] | Any
# Fewer keys than this are not worth a thread.
_PART = 65_536

_P1 = np.uint64(0x9E3779B185EBCA87)
_P2 = np.uint64(0xC2B2AE3D27D4EB4F)
_P3 = np.uint64(0x165667B19E3779F9)
_P4 = np.uint64(0x85EBCA77C2B2AE63)
_P5 = np.uint64(0x27D4EB2F165667C5)
_ZERO = np.uint64(0)


def entity_slots(entity_ids: Keys, slot_bits: int, *, threads: int | None = None) -> npt.NDArray[np.int64]:
    """The slot of each entity, shape (keys,); the same numbers as `hashing.entity_slot`.

    Arrow arrays of strings are read where they are; a sequence of str is turned into one, which takes longer than hashing it.
    `threads`: as many as there are cores by default. Raises ForeshardError for a null and for what is not text.
    Time O(bytes), about ten nanoseconds a short key.
    """
    out = np.empty(len(entity_ids), dtype=np.int64)
    mask = np.uint64((1 << slot_bits) - 1)
    for_keys(entity_ids, out, lambda text, starts, part: _slots(text, starts, mask, part), threads)
    return out


def for_keys(entity_ids: Keys, out: npt.NDArray[Any], work: Callable[[Any, Any, Any], None], threads: int | None) -> None:
    """Calls `work(text, starts, rows of out)` for parts of the keys side by side; key i is text[starts[i]:starts[i + 1]]."""
    at = 0
    for chunk in _chunks(entity_ids):
        starts, text = _bytes_of(chunk)
        rows = out[at : at + len(chunk)]

        def part(a: int, b: int, text: Any = text, starts: Any = starts, rows: Any = rows) -> None:
            work(text, starts[a : b + 1], rows[a:b])

        in_parts(part, len(chunk), threads)
        at += len(chunk)


def in_parts(work: Callable[[int, int], None], count: int, threads: int | None, at_least: int = _PART) -> None:
    """Calls `work(first, end)` for parts of 0 … count side by side; compiled work that lets go of the interpreter's lock."""
    parts = max(1, min(threads or _cores(), count // at_least))
    if parts == 1:
        work(0, count)
        return
    bounds = [count * part // parts for part in range(parts + 1)]
    with ThreadPoolExecutor(parts) as pool:
        list(pool.map(work, bounds[:-1], bounds[1:]))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _chunks(entity_ids: Keys) -> list[Any]:
    """The keys as Arrow arrays of strings without nulls."""
    if not isinstance(entity_ids, (pa.Array, pa.ChunkedArray)):
        try:
            entity_ids = pa.array(entity_ids, pa.large_string())
        except (TypeError, ValueError) as error:
            raise ForeshardError(f"entity ids are texts that UTF-8 can write; one is not: {error}") from error
    kind = entity_ids.type
    if pa.types.is_dictionary(kind) or pa.types.is_string_view(kind):
        entity_ids = entity_ids.cast(pa.large_string())
    elif not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise ForeshardError(f"entity ids are an Arrow array of {kind}; give one of strings")
    if entity_ids.null_count:
        row = entity_ids.is_null().index(True).as_py()
        raise ForeshardError(f"the entity id in row {row} is null; leave such rows out")
    return list(entity_ids.chunks) if isinstance(entity_ids, pa.ChunkedArray) else [entity_ids]


def _bytes_of(chunk: Any) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint8]]:
    """Where each key begins, shape (keys + 1,), and the bytes of all, without copying."""
    _, offsets, text = chunk.buffers()
    kind = np.int64 if pa.types.is_large_string(chunk.type) else np.int32
    if offsets is None or len(chunk) == 0:
        return np.zeros(1, dtype=kind), np.zeros(0, dtype=np.uint8)
    starts = np.frombuffer(offsets, dtype=kind)[chunk.offset : chunk.offset + len(chunk) + 1]
    return starts, np.zeros(0, dtype=np.uint8) if text is None else np.frombuffer(text, dtype=np.uint8)


def _read(bits: int) -> Any:
    """Compiles to one load of so many bits at an address that need not be aligned."""

    def typed(_context: Any, _address: Any) -> Any:
        def load(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            word = builder.load(builder.inttoptr(arguments[0], ir.IntType(bits).as_pointer()))
            word.align = 1
            return word if bits == 64 else builder.zext(word, ir.IntType(64))

        return types.uint64(types.intp), load

    return intrinsic(typed)


_eight, _four, _one = _read(64), _read(32), _read(8)


@numba.njit(cache=True, nogil=True)
def _rotated(x, bits):  # type: ignore[no-untyped-def]
    return (x << np.uint64(bits)) | (x >> np.uint64(64 - bits))


@numba.njit(cache=True, nogil=True)
def _round(lane, word):  # type: ignore[no-untyped-def]
    return _rotated(lane + word * _P2, 31) * _P1


@numba.njit(cache=True, nogil=True)
def _stripes(at, end, seed):  # type: ignore[no-untyped-def]
    """The hash of all whole stripes of 32 bytes: four lanes, merged."""
    a, b, c, d = seed + _P1 + _P2, seed + _P2, seed, seed - _P1
    while at + 32 <= end:
        a, b = _round(a, _eight(at)), _round(b, _eight(at + 8))
        c, d = _round(c, _eight(at + 16)), _round(d, _eight(at + 24))
        at += 32
    mixed = _rotated(a, 1) + _rotated(b, 7) + _rotated(c, 12) + _rotated(d, 18)
    for lane in (a, b, c, d):
        mixed = (mixed ^ _round(_ZERO, lane)) * _P1 + _P4
    return mixed


@numba.njit(cache=True, nogil=True)
def xxh64(address, length, seed):  # type: ignore[no-untyped-def]
    """XXH64 of `length` bytes at an address, for compiled code. Little-endian machines, as all that Numba runs on."""
    at, end = address, address + length
    if length >= 32:
        mixed = _stripes(at, end, seed)
        at += length - length % 32
    else:
        mixed = seed + _P5
    mixed += np.uint64(length)
    while at + 8 <= end:
        mixed = _rotated(mixed ^ _round(_ZERO, _eight(at)), 27) * _P1 + _P4
        at += 8
    if at + 4 <= end:
        mixed = _rotated(mixed ^ (_four(at) * _P1), 23) * _P2 + _P3
        at += 4
    while at < end:
        mixed = _rotated(mixed ^ (_one(at) * _P5), 11) * _P1
        at += 1
    mixed = (mixed ^ (mixed >> np.uint64(33))) * _P2
    mixed = (mixed ^ (mixed >> np.uint64(29))) * _P3
    return mixed ^ (mixed >> np.uint64(32))


@numba.njit(cache=True, nogil=True)
def slot_at(address, starts, i, mask):  # type: ignore[no-untyped-def]
    """The slot of key i of a text at an address, for compiled code."""
    return np.int64(xxh64(address + starts[i], starts[i + 1] - starts[i], np.uint64(SEED)) & mask)


@numba.njit(cache=True, nogil=True)
def _slots(text, starts, mask, out):  # type: ignore[no-untyped-def]
    address = text.ctypes.data
    for i in range(len(out)):
        out[i] = slot_at(address, starts, i, mask)

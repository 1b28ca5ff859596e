"""The checksums that Spark's file system keeps beside each file that it writes to a local disk, in `.<name>.crc`.

They tell a damaged file even where the damage is in bytes that no reader of rows needs. Stores of objects have their own.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

_MAGIC = b"crc\0"


def is_altered(file: Path) -> bool:
    """Whether the file is not what was written, by the checksums beside it; False if it has none or is gone."""
    try:
        said = file.with_name(f".{file.name}.crc").read_bytes()
        length = file.stat().st_size
    except FileNotFoundError:
        return False
    # Magic, bytes a checksum, then a CRC-32 for each so many bytes, all big-endian.
    if said[:4] != _MAGIC or len(said) < 8:
        return True
    (step,) = struct.unpack(">i", said[4:8])
    if step <= 0 or len(said) != 8 + 4 * -(-length // step):
        return True
    with file.open("rb") as content:
        parts = iter(lambda: content.read(step), b"")
        return any(zlib.crc32(part) != known for part, (known,) in zip(parts, struct.iter_unpack(">I", said[8:]), strict=False))

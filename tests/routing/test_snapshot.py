"""Snapshots before and after the forecast's skill and the nodes' corrections came into them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import zstandard

from foreshard.model import Node, Replica
from foreshard.routing.snapshot import Snapshot, decode, encode

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

"""A pool of four shards over three nodes, with settings in a file and its first epoch published."""

from __future__ import annotations

from pathlib import Path

from foreshard.routing import pool, store
from foreshard.routing.snapshot import Snapshot
from foreshard.settings import Settings, load

_TOML = """
postgres_url = "{url}"
slot_bits = 2
{more}
[[nodes]]
node_id = "a"
capacity = 10
[[nodes]]
node_id = "b"
capacity = 10
[[nodes]]
node_id = "c"
capacity = 20
"""


def publish_pool(folder: Path, url: str, snapshot: Snapshot, more: str = "") -> Settings:
    """Writes the settings, with `more` in them, to a file below `folder`, registers the pool and publishes epoch 1."""
    (folder / "foreshard.toml").write_text(_TOML.format(url=url, more=more), "utf-8")
    settings = load(folder / "foreshard.toml")
    pool.register(url, settings)
    store.publish(url, snapshot, expected_epoch=0, published_by="test", reason="first layout")
    return settings

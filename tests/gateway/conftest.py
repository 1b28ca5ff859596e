"""What gateway tests write serving tables with."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import written_copies
from live_cluster import KEYS, Cluster, running

from foreshard.gateway.keys import digest_of
from foreshard.local.postgres import EmbeddedPostgres


@pytest.fixture(scope="session")
def put_shard() -> Callable[..., None]:
    """Replaces one shard of a serving table; see written_copies.py."""
    return written_copies.put_shard


@pytest.fixture(scope="session")
def guarded(
    tmp_path_factory: pytest.TempPathFactory, put_shard: Callable[..., None], postgres: EmbeddedPostgres
) -> Iterator[Cluster]:
    """A cluster with classes, keys and short limits, for callers who mean no good."""
    url = postgres.create_database("gateway_guarded")
    keys = "".join(
        f'[[gateway.classes]]\nname = "{name}"\nshare = {share}\nkeys = ["{digest_of(key)}"]\n'
        for (name, key), share in zip(KEYS.items(), (0.5, 0.2), strict=True)
    )
    limits = "[gateway]\nurl_bytes = 20000\nheader_bytes = 9000\nheader_seconds = 1\nbody_seconds = 1\nbatch_queries = 5\n"
    folder = tmp_path_factory.mktemp("guarded")
    yield from running(Cluster(folder, put_shard, url, settings=limits + keys, capacity=1_000_000))

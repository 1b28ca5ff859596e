"""Fixtures for what talks to servers: one embedded Postgres and one Spark session a process, a fresh database a test."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from short_jvm import submit_args

from foreshard.local.postgres import EmbeddedPostgres
from foreshard.model import Policy, Replica
from foreshard.routing import database as control_plane
from foreshard.routing import pool, store
from foreshard.routing.snapshot import Snapshot
from foreshard.settings import ForecastSettings, NodeSettings, Settings, SparkSettings
from foreshard.transition_settings import TransitionSettings

_numbers = itertools.count()
# How long an example takes says more about the machine than about the code. `make test` tries the same examples every time,
# so that a change is judged by what it changed; `make soak` draws new ones, and prints how to get a failing one again.
hypothesis.settings.register_profile("foreshard", deadline=None, derandomize=True)
hypothesis.settings.register_profile("soak", deadline=None, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("FORESHARD_EXAMPLES", "foreshard"))


# Minutes each: begun first, so that two workers end at about the same time.
_LONGEST = (
    "test_crashes.py",
    "test_scheduler.py",
    "test_killed.py",
    "test_cluster.py",
    "test_any_order.py",
    "test_replicated_store.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest files first; the order within a file stays."""
    items.sort(key=lambda item: _LONGEST.index(item.path.name) if item.path.name in _LONGEST else len(_LONGEST))


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A running embedded server, one for each session or xdist worker, stopped at the end."""
    server = EmbeddedPostgres(Path(tmp_path_factory.mktemp("postgres")))
    connection = control_plane.connect(server.start())
    connection.autocommit = True
    with connection.cursor() as cursor:
        # These databases need not outlive a power cut, and most of their time would go into waiting for the disk.
        cursor.execute("ALTER SYSTEM SET fsync = off")
        cursor.execute("SELECT pg_reload_conf()")
    connection.close()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres_url(postgres: EmbeddedPostgres) -> str:
    """The URL of a session-wide, empty database."""
    url = postgres.url()
    assert url is not None
    return url


@pytest.fixture
def database(postgres: EmbeddedPostgres, postgres_url: str) -> str:
    """The URL of a fresh database with all migrations applied."""
    url = postgres.create_database(f"test_{next(_numbers)}")
    control_plane.migrate(url)
    return url


@pytest.fixture
def pool_settings() -> Settings:
    """A pool of four slots over three nodes, two full replicas each."""
    return Settings(
        pool_id="usage",
        slot_bits=2,
        nodes=(NodeSettings("a", 10.0), NodeSettings("b", 10.0), NodeSettings("c", 20.0, url="http://c")),
        policy=Policy(min_full_replicas=2),
    )


@pytest.fixture
def snapshot(pool_settings: Settings) -> Snapshot:
    """Epoch 1 of that pool, not yet published."""
    nodes_of_shard = (("a", "b"), ("b", "c"), ("c", "a"), ("a", "c"))
    return Snapshot(
        pool_id=pool_settings.pool_id,
        epoch=1,
        parent=0,
        slot_bits=pool_settings.slot_bits,
        interval_seconds=3600,
        recent_days=7,
        months_days=90,
        nodes=tuple(node.as_node() for node in pool_settings.nodes),
        replicas=tuple(Replica(shard, node) for shard, nodes in enumerate(nodes_of_shard) for node in nodes),
    )


@pytest.fixture
def registered(database: str, pool_settings: Settings) -> str:
    """A fresh database with the pool registered and nothing published."""
    pool.register(database, pool_settings)
    return database


@pytest.fixture
def published(registered: str, snapshot: Snapshot) -> str:
    """A fresh database with the pool and its epoch 1."""
    store.publish(registered, snapshot, expected_epoch=0, published_by="test", reason="first layout")
    return registered


def lake_settings(folder: Path, url: str) -> Settings:
    """Eight slots over three nodes, with everything below `folder`, small enough for a test."""
    return Settings(
        home=folder,
        postgres_url=url,
        lake=str(folder / "lake"),
        landing=str(folder / "landing"),
        slot_bits=3,
        heavy_hitters=2,
        forecast=ForecastSettings(horizon_hours=6, history_days=28),
        spark=SparkSettings("local[2]", "1g", shuffle_partitions=2),
        nodes=(NodeSettings("a", 10.0), NodeSettings("b", 10.0), NodeSettings("c", 20.0)),
        transition=TransitionSettings(shadow_queries=10, shadow_seconds=3600, step_seconds=0, reverse_seconds=0, attempts=2),
    )


@pytest.fixture
def lake(tmp_path: Path, database: str) -> Settings:
    """An empty lake and an empty control plane."""
    return lake_settings(tmp_path, database)


@pytest.fixture(scope="module")
def module_lake(tmp_path_factory: pytest.TempPathFactory, postgres: EmbeddedPostgres) -> Settings:
    """A lake that the tests of one module share, so that they look at one Spark run from several sides."""
    url = postgres.create_database(f"test_{next(_numbers)}")
    control_plane.migrate(url)
    return lake_settings(tmp_path_factory.mktemp("lake"), url)


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One small Spark session a process: one compiler tier and a serial collector suit many short jobs on few cores."""
    from foreshard.lake.session import session
    from foreshard.local.spark import environment

    os.environ.update(environment())
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYSPARK_SUBMIT_ARGS", submit_args())
        started = session(lake_settings(tmp_path_factory.mktemp("spark"), ""), "tests")
    yield started
    started.stop()

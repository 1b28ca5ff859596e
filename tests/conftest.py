"""Fixtures for everything that talks to Postgres: one embedded server per test process, a fresh migrated database per test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from foreshard.local.postgres import EmbeddedPostgres
from foreshard.routing import database as control_plane

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A running embedded server, one for each session or xdist worker, stopped at the end."""
    server = EmbeddedPostgres(Path(tmp_path_factory.mktemp("postgres")))
    server.start()
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

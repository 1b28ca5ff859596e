"""Drawn loads and pools for the tests of replays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from foreshard.replay.defaults import DEFAULTS, Defaults
from foreshard.replay.load import Load
from foreshard.replay.pool import Pool, drawn_up

SMALL = replace(DEFAULTS, boot_seconds=120, verify_seconds=60, copy_bytes_per_second=10.0, replicas=2)


def drawn_load(seed: int, *, interval_seconds: int = 600, training: int = 48, test: int = 72, shards: int = 12) -> Load:
    """A cycle of four hours with noise, shards of unequal weight and a surge somewhere in the test."""
    draw = np.random.default_rng(seed)
    length = training + test
    phase = 2 * np.pi * np.arange(length) * interval_seconds / 14_400
    level = 100.0 * (1.2 + np.sin(phase)) * draw.uniform(0.8, 1.2, length)
    level[training + draw.integers(5, test - 5) :][:3] *= draw.uniform(1.0, 2.5)
    parts = draw.dirichlet(np.full(shards, 2.0), length // 24 + 1).repeat(24, axis=0)[:length]
    return Load(level[:, None] * parts, interval_seconds, training)


def drawn_pool(load: Load, defaults: Defaults = SMALL, *, seconds_to_move_all: float = 600.0) -> Pool:
    """Nodes of a tenth of the highest load; one pair of nodes would take so long for all replicas."""
    shards = load.rates.shape[1]
    volume = seconds_to_move_all * defaults.copy_bytes_per_second / defaults.replicas
    capacity = float(load.rates.sum(axis=1).max()) / 10
    return drawn_up(capacity, 25, np.arange(shards, dtype=np.int64), np.full(shards, volume / shards), defaults)

"""Verifying copies under the leases of their tables, noting the outcome in Postgres and among the reports."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from datetime import date

import pandas as pd

from foreshard.checks.gate import QualityError, require
from foreshard.errors import ForeshardError
from foreshard.settings import Settings
from foreshard.transition import store
from foreshard.transition.acts import serving_lease
from foreshard.transition.retire import holdings_of
from foreshard.transition.verify import Mismatch, Verification, verify


def verified(
    settings: Settings,
    url: str,
    coverage: Mapping[str, Mapping[int, date | None]],
    isolated: Mapping[str, int],
    actor: str,
) -> Verification:
    """Verifies each node's copies at the version it has applied, and notes in Postgres those that equal the source."""
    rows: dict[tuple[str, int], int] = {}
    wrong: list[Mismatch] = []
    with ExitStack() as writing:
        for node_id in sorted(coverage):
            writing.enter_context(serving_lease(url, settings.pool_id, node_id, actor))
        by_version: dict[int, dict[str, dict[int, date | None]]] = {}
        for node_id, shards in coverage.items():
            held = holdings_of(settings, node_id)
            missing = sorted(set(shards) - set(held))
            if missing:
                raise ForeshardError(f"{node_id} does not hold shard {missing[0]}; copy it again")
            for shard, day in shards.items():
                by_version.setdefault(held[shard].applied_version, {}).setdefault(node_id, {})[shard] = day
        for version, part in sorted(by_version.items()):
            outcome = verify(settings, part, version, isolated)
            rows |= dict(outcome.rows)
            wrong += outcome.mismatches
            different = {(m.node_id, m.shard_id) for m in outcome.mismatches}
            equal = [(n, s, day) for n, shards in part.items() for s, day in shards.items() if (n, s) not in different]
            known = {(r.node_id, r.shard_id): r.state for r in store.read_replicas(url, settings.pool_id)}
            records = [
                store.ReplicaRecord(s, n, _verified_state(known.get((n, s))), day, version, version) for n, s, day in equal
            ]
            store.upsert_replicas(url, settings.pool_id, records)
    return Verification(rows, tuple(wrong))


def _verified_state(now: str | None) -> str:
    return "serving" if now == "serving" else "verified"


def report(outcome: Verification, settings: Settings) -> None:
    """Keeps the suite's report; what it finds is in the moves already."""
    try:
        _checked(outcome, settings)
    except QualityError as error:
        print(error, flush=True)


def require_equal(outcome: Verification, settings: Settings) -> None:
    """Records the suite's report; raises ForeshardError naming the first segment that differs."""
    try:
        _checked(outcome, settings)
    except QualityError:
        if not outcome.mismatches:
            raise
        first = outcome.mismatches[0]
        raise ForeshardError(f"verification failed for {len(outcome.mismatches)} segments, first {first}") from None


def _checked(outcome: Verification, settings: Settings) -> None:
    wrong, rows = outcome.mismatches, sum(outcome.rows.values())
    figures = {"mismatched_segments": len(wrong), "shards": len(outcome.rows), "rows": rows}
    require("serving", pd.DataFrame([figures]), settings)

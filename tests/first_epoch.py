"""The first epoch of a pool without Spark: its copies are recorded as verified, as `foreshard init` would leave them."""

from __future__ import annotations

from foreshard.model import Plan
from foreshard.routing import database
from foreshard.settings import Settings
from foreshard.transition import steps, store


def publish_first_epoch(settings: Settings) -> Plan:
    """Of a registered pool; returns the plan, which is done."""
    url = settings.postgres_url
    plan = steps.propose_first(settings)
    replicas = [store.ReplicaRecord(r.shard_id, r.node_id, "verified", None, 0, 0) for r in plan.layout.replicas]
    store.upsert_replicas(url, settings.pool_id, replicas)
    with database.transaction(url) as cursor:
        cursor.execute("UPDATE plan_move SET state = 'verified' WHERE plan_id = %s", (plan.plan_id,))
    done = steps.carry_on(settings, plan.plan_id, "test", lambda _: None)
    assert done.is_over, done.decision.sentence
    return plan

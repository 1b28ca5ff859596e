"""A pool's shadow mode: its plans are made, recorded and set aside, each as an event of its own, until a person ends it."""

from __future__ import annotations

from foreshard.routing.pool import read_pool
from foreshard.transition import store

# Who rejects what shadow mode keeps from being carried out: by this the plans are found again.
ACTOR = "shadow mode"


def held_back(url: str, pool_id: str, plan_id: str) -> str:
    """Why the plan is not carried out, as a sentence; empty without shadow mode, and for one that was running before."""
    shadow_mode = read_pool(url, pool_id).shadow_mode
    if not shadow_mode or store.read_plan(url, pool_id, plan_id).state == "running":
        return ""
    return f"{shadow_mode}: plan {plan_id} is recorded only, and nobody is asked; `foreshard shadow end` enables plans"


def set_aside(url: str, pool_id: str, plan_id: str) -> bool:
    """Rejects a plan that has not begun, saying why, if the pool is in shadow mode; whether it did."""
    why = held_back(url, pool_id, plan_id)
    if not why or store.read_plan(url, pool_id, plan_id).state not in ("proposed", "approved"):
        return False
    store.set_plan_state(url, pool_id, plan_id, "rejected", ACTOR, why)
    return True

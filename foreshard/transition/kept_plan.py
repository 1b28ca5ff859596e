"""A plan that was just made: checked, and stored for whoever decides about it and carries it out."""

from __future__ import annotations

from foreshard.checks.gate import require
from foreshard.checks.layouts import layout_summary
from foreshard.model import PlacementProblem, Plan
from foreshard.placement import codec
from foreshard.settings import Settings
from foreshard.transition import store
from foreshard.transition.plan_problem import packed


def keep(settings: Settings, url: str, plan: Plan, problem: PlacementProblem) -> str:
    """Stores a plan with its problem and returns its state: another than proposed if it was made, and decided on, before.

    Raises ForeshardError, with nothing stored, for a layout that the suite of plans does not let through.
    """
    summary = layout_summary(plan.layout.replicas, problem.nodes, problem.policy, settings.slots)
    require("plan", summary.assign(overloaded_nodes=len(plan.metrics.overloaded_nodes)), settings)
    return store.save_plan(url, plan, codec.plan_to_document(plan), packed(problem))

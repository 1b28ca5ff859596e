"""Whole transitions in every order of events: with all guards nothing goes wrong, and without any one of them something does.

What is explored is `decide` with the machine and the layouts, in a world of two controllers that are killed or outlive their
lease, two nodes, gateways whose acknowledgements get lost, and the harms that a scenario names. Read your writes (invariant 6)
is left to the tests of gateways and pipelines: no decision of a transition depends on tokens.
"""

from __future__ import annotations

import pytest
from explored_world import WORLD_GUARDS, Planned, Scenario
from explorer import explore

from foreshard.model import MoveKind
from foreshard.transition import decide as deciding
from foreshard.transition.guards import GUARDS
from foreshard.transition_settings import TransitionSettings

_BASE = frozenset({(0, "n1")})
_MOVE = (Planned(MoveKind.MOVE, 0, "n1", "n2"),)
_MOVE_AND_DROP = (*_MOVE, Planned(MoveKind.DROP, 1, "n1", ""))
_THERE_AND_BACK = (*_MOVE, Planned(MoveKind.REPLICATE, 0, "", "n1", wave=1))
_WITH_SHADOWS = TransitionSettings(shadow_share=1, shadow_queries=1, cut_over=(0.5, 1.0), catch_up_versions=0, attempts=2)

SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("a gateway loses its lease", _MOVE, _BASE, frozenset({"leases"})),
        Scenario("two gateways", _MOVE, _BASE, gateways=2),
        Scenario("the source moves on", _MOVE, _BASE, frozenset({"source"})),
        Scenario("a copy loses rows", _MOVE, _BASE, frozenset({"rot"})),
        Scenario("every copy loses rows", _MOVE, _BASE, frozenset({"bad disk"})),
        Scenario("people interfere", _MOVE, _BASE, frozenset({"pause", "rollback", "publisher"})),
        Scenario("nodes die", _MOVE, _BASE, frozenset({"nodes", "sources die"})),
        Scenario("shadows are judged", _MOVE, _BASE, frozenset({"rollback"}), settings=_WITH_SHADOWS),
        Scenario("a drop goes with a move", _MOVE_AND_DROP, _BASE | {(1, "n1"), (1, "n2")}, frozenset({"rollback"})),
        Scenario("a shard comes back in the next wave", _THERE_AND_BACK, _BASE, frozenset({"publisher"})),
    )
}

# Guard → the scenario in which it is what holds, and a word of what is wrong without it.
WORLD_NEEDS = {
    "fence": ("a gateway loses its lease", "recorded as verified"),
    "compare_and_set": ("people interfere", "two publishers"),
    "legal_change": ("people interfere", "paused"),
    "only_people_resume": ("people interfere", "paused"),
    "verified_at_publish": ("a shard comes back in the next wave", "not there"),
    "full_replicas_at_publish": ("nodes die", "without enough full replicas"),
    "acknowledged_at_retire": ("a gateway loses its lease", "still asks"),
    "unrouted_at_retire": ("a shard comes back in the next wave", "still asks"),
    "goes_on_where_routed": ("a shard comes back in the next wave", "no end"),
    "ends_where_unserved": ("nodes die", "no end"),
    "forgets_under_fence": ("a shard comes back in the next wave", "nothing is known"),
    "fence_once_loaded": ("a gateway loses its lease", "recorded as verified"),
    "table_unchanged": ("a gateway loses its lease", "recorded as verified"),
    "node_refuses": ("a gateway loses its lease", "with nothing"),
    "acknowledges_by_number": ("a gateway loses its lease", "still asks"),
    "acknowledges_drained": ("two gateways", "still asks"),
}
DECISION_NEEDS = {
    "asked_back": ("a drop goes with a move", "passed over"),
    "paused": ("people interfere", "ValueError"),
    "superseded": ("people interfere", "no end"),
    "failed_too_often": ("every copy loses rows", "no end"),
    "refused": ("nodes die", "did not agree"),
    "silent": ("nodes die", "did not agree"),
    "unanswered": ("nodes die", "did not agree"),
    "lagging": ("two gateways", "before all gateways follow"),
    "bereft": ("nodes die", "does not answer"),
    "expired": ("the source moves on", "behind the catch-up bound"),
    "behind": ("the source moves on", "behind the catch-up bound"),
    "unready": ("nodes die", "does not serve it"),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_order_of_events_breaks_an_invariant_and_each_state_can_come_to_an_end(name: str) -> None:
    found = explore(SCENARIOS[name], frozenset(WORLD_GUARDS))
    print(f"{name}: {found}")
    assert not found.fault, str(found)
    assert found.states > 500  # the scenario was explored, and not stopped by a condition that nothing meets


def test_every_guard_is_tried_without() -> None:
    assert WORLD_NEEDS.keys() == WORLD_GUARDS.keys()
    assert DECISION_NEEDS.keys() == {guard.__name__ for guard in GUARDS}


@pytest.mark.parametrize("name", WORLD_NEEDS)
def test_without_what_postgres_nodes_and_gateways_refuse_something_goes_wrong(name: str) -> None:
    scenario, expected = WORLD_NEEDS[name]
    found = explore(SCENARIOS[scenario], frozenset(WORLD_GUARDS) - {name})
    print(f"without {name} ({WORLD_GUARDS[name]}), {scenario}: {found}")
    assert expected in found.fault, str(found)


@pytest.mark.parametrize("name", DECISION_NEEDS)
def test_without_a_guard_of_the_decision_something_goes_wrong(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario, expected = DECISION_NEEDS[name]
    monkeypatch.setattr(deciding, "GUARDS", tuple(guard for guard in GUARDS if guard.__name__ != name))
    found = explore(SCENARIOS[scenario], frozenset(WORLD_GUARDS))
    print(f"without {name}, {scenario}: {found}")
    assert expected in found.fault, str(found)

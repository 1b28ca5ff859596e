"""The DAGs `repair` and `reshard` at once: the repair comes first, and what a person approves meanwhile is planned again."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import UTC, datetime

import pytest
from airflow.sdk.exceptions import AirflowSkipException
from written_forecasts import write_forecast

from foreshard.errors import Refused
from foreshard.model import NodeState
from foreshard.nodes.repair import propose_repair, running_repair
from foreshard.orchestration import repair, reshard
from foreshard.orchestration.watch import to_carry_out
from foreshard.orchestration.waves import is_turn
from foreshard.routing import database as control_plane
from foreshard.routing import pool, store
from foreshard.settings import Settings
from foreshard.transition import progress, steps
from foreshard.transition import store as transitions
from foreshard.transition.controller import Cycle
from foreshard.transition.decision import Act, Decision
from foreshard.transition.steps import ProposedPlan


@pytest.fixture
def careful(watched: Settings) -> Settings:
    """Every move needs a person, and each step of a transition takes no time."""
    quick = replace(watched.transition, reverse_seconds=0, step_seconds=0, shadow_share=0)
    settings = replace(watched, policy=replace(watched.policy, auto_approve_moves=0), transition=quick)
    pool.register(settings.postgres_url, settings)
    return settings


@pytest.fixture
def asked(careful: Settings) -> ProposedPlan:
    """A plan that waits for a person: shard 1 becomes hot."""
    origin = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    write_forecast(careful, origin, {0: 4.0, 1: 14.0, 2: 4.0, 3: 4.0})
    plan = steps.propose(careful)
    assert plan.needs_approval
    return plan


def die(settings: Settings, node_id: str) -> None:
    pool.set_node_state(settings.postgres_url, settings.pool_id, node_id, NodeState.DEAD)


def state(settings: Settings, plan_id: str) -> str:
    return transitions.read_plan(settings.postgres_url, "usage", plan_id).state


def begun_repair(settings: Settings) -> ProposedPlan:
    die(settings, "a")
    return repair.begun(settings, "")


def end(settings: Settings, plan_id: str) -> None:
    """Carries a plan out with copies as the Spark steps would leave them."""
    url = settings.postgres_url
    moves = transitions.read_moves(url, "usage", plan_id)
    rows = [transitions.ReplicaRecord(m.shard_id, m.target, "verified", m.covers_from, 0, 0) for m in moves if m.target]
    transitions.upsert_replicas(url, "usage", rows)
    with control_plane.transaction(url) as cursor:
        cursor.execute("UPDATE plan_move SET state = 'verified' WHERE plan_id = %s AND target <> ''", (plan_id,))
    ended = steps.carry_on(settings, plan_id, "test", lambda _: None)
    assert ended.is_over, ended.decision.sentence


def approve_and_begin(settings: Settings, plan: ProposedPlan) -> dict[str, object]:
    """What `carry_on` of `reshard` does once a person has said yes."""
    reshard.record_yes(settings, plan.plan_id, "ann")
    return reshard.begin(settings, asdict(plan))


def test_a_repair_is_carried_out_while_a_plan_waits_for_a_person(careful: Settings, asked: ProposedPlan) -> None:
    begun = begun_repair(careful)
    assert begun.waves
    assert running_repair(careful.postgres_url, "usage") == begun.plan_id
    assert (state(careful, begun.plan_id), state(careful, asked.plan_id)) == ("running", "proposed")


def test_a_plan_approved_while_a_repair_is_carried_out_is_refused_and_says_why(careful: Settings, asked: ProposedPlan) -> None:
    begun = begun_repair(careful)
    why = f"plan {asked.plan_id} is not carried out: the DAG `repair` carries out plan {begun.plan_id}, and the next forecast"
    with pytest.raises(Refused, match=why):
        approve_and_begin(careful, asked)
    assert (state(careful, begun.plan_id), state(careful, asked.plan_id)) == ("running", "rejected"), "it is not left approved"
    with pytest.raises(Refused, match="is rejected"):
        approve_and_begin(careful, asked)


def test_a_plan_approved_after_a_repair_has_published_is_planned_again(careful: Settings, asked: ProposedPlan) -> None:
    begun = begun_repair(careful)
    end(careful, begun.plan_id)
    with pytest.raises(AirflowSkipException) as refused:
        approve_and_begin(careful, asked)
    current = pool.read_pool(careful.postgres_url, "usage").current_epoch
    assert f"plan {asked.plan_id} no longer fits: it was made from epoch 1, and {current} is current; plan again; " in str(
        refused.value
    )
    assert state(careful, asked.plan_id) == "failed"


def test_what_takes_the_place_of_a_drifted_plan_waits_for_a_person_if_it_needs_one(
    careful: Settings, asked: ProposedPlan
) -> None:
    die(careful, "a")
    with pytest.raises(Refused, match=r"node a was active when it was made, and is dead; plan again; plan \w+ takes its place"):
        approve_and_begin(careful, asked)
    anew = steps.propose(careful)
    assert (state(careful, asked.plan_id), state(careful, anew.plan_id)) == ("failed", "proposed")


def test_what_takes_the_place_of_a_drifted_plan_is_begun_if_it_needs_no_person(careful: Settings, asked: ProposedPlan) -> None:
    url = careful.postgres_url
    die(careful, "a")
    bold = replace(careful, policy=replace(careful.policy, auto_approve_moves=1000, auto_approve_bytes=2**50))
    pool.register(url, bold)
    begun = approve_and_begin(bold, asked)
    assert begun["plan_id"] != asked.plan_id
    assert (state(bold, asked.plan_id), state(bold, str(begun["plan_id"]))) == ("failed", "running")


def test_a_plan_that_the_watch_took_for_its_repair_is_left_to_it(careful: Settings) -> None:
    die(careful, "a")
    same = steps.propose(careful)
    assert same.needs_approval
    assert repair.begun(careful, "").plan_id == same.plan_id, "the same inputs give the same plan"
    with pytest.raises(AirflowSkipException, match="carries it out already"):
        approve_and_begin(careful, same)
    end(careful, same.plan_id)
    assert approve_and_begin(careful, same)["plan_id"] == same.plan_id, "done: the waves find nothing to do"
    assert state(careful, same.plan_id) == "done"


def test_a_run_of_repair_goes_on_with_its_plan_and_has_nothing_to_do_once_it_is_done(careful: Settings) -> None:
    begun = begun_repair(careful)
    assert repair.begun(careful, begun.plan_id) == begun
    assert repair.begun(careful, "") == begun, "by hand, without a plan's name"
    end(careful, begun.plan_id)
    with pytest.raises(AirflowSkipException, match=f"plan {begun.plan_id} is done"):
        repair.begun(careful, begun.plan_id)
    with pytest.raises(AirflowSkipException, match="nothing is to be repaired"):
        repair.begun(careful, "")


def test_repair_takes_no_plan_that_nobody_approved(careful: Settings, asked: ProposedPlan) -> None:
    with pytest.raises(Refused, match=f"plan {asked.plan_id} has no approval"):
        repair.begun(careful, asked.plan_id)
    assert state(careful, asked.plan_id) == "proposed"


def test_a_repair_waits_for_the_plan_that_is_carried_out(careful: Settings, asked: ProposedPlan) -> None:
    url = careful.postgres_url
    die(careful, "a")
    wanted = propose_repair(careful, url)
    transitions.record_approval(url, "usage", asked.plan_id, "approved", "ann")
    transitions.set_plan_state(url, "usage", asked.plan_id, "running", "test")
    with pytest.raises(
        AirflowSkipException, match=f"plan {asked.plan_id} is carried out, and plan {wanted.plan_id} waits for it"
    ):
        repair.begun(careful, wanted.plan_id)
    transitions.set_plan_state(url, "usage", asked.plan_id, "rolled_back", "test")
    again = propose_repair(careful, url)
    assert again.plan_id == wanted.plan_id, "nothing was published"
    assert repair.begun(careful, again.plan_id).plan_id == wanted.plan_id


def test_a_repair_made_from_what_has_changed_is_not_begun_and_is_made_anew(careful: Settings) -> None:
    url = careful.postgres_url
    die(careful, "a")
    first = propose_repair(careful, url).plan_id
    snapshot = store.current(url, "usage")
    assert snapshot is not None
    pool.set_node_state(url, "usage", "a", NodeState.ACTIVE)
    store.publish(url, replace(snapshot, epoch=2, parent=1), expected_epoch=1, published_by="ann", reason="by hand")
    die(careful, "a")
    with pytest.raises(AirflowSkipException, match=f"plan {first} no longer fits: it was made from epoch 1, and 2 is current"):
        repair.begun(careful, first)
    second = propose_repair(careful, url).plan_id
    assert second not in ("", first)


def test_the_watch_starts_a_run_for_a_repair_that_is_wanted_and_for_one_that_a_run_left_half_done(careful: Settings) -> None:
    url = careful.postgres_url
    assert to_carry_out(careful, url, propose_repair(careful, url), is_resharding=False) == ""
    die(careful, "a")
    for is_resharding in (False, True):
        wanted = propose_repair(careful, url)
        assert to_carry_out(careful, url, wanted, is_resharding=is_resharding) == wanted.plan_id != ""
    plan_id = repair.begun(careful, "").plan_id
    for is_resharding in (False, True):
        waiting = propose_repair(careful, url)
        assert waiting.plan_id == ""
        assert to_carry_out(careful, url, waiting, is_resharding=is_resharding) == plan_id


def test_the_watch_has_a_plan_in_a_repairs_way_ended_only_if_no_run_of_reshard_does(
    careful: Settings, asked: ProposedPlan
) -> None:
    url = careful.postgres_url
    transitions.record_approval(url, "usage", asked.plan_id, "approved", "ann")
    steps.begin(careful, asked.plan_id, "reshard")
    none = propose_repair(careful, url)
    assert to_carry_out(careful, url, none, is_resharding=False) == "", "nothing is to be repaired"
    die(careful, "a")
    progress.request_rollback(url, progress.PlanKey("usage", asked.plan_id, "test"), "a died")
    waiting = propose_repair(careful, url)
    assert to_carry_out(careful, url, waiting, is_resharding=True) == ""
    assert to_carry_out(careful, url, waiting, is_resharding=False) == asked.plan_id
    assert repair.begun(careful, asked.plan_id).plan_id == asked.plan_id
    assert steps.carry_on(careful, asked.plan_id, "repair", lambda _: None).is_over
    assert state(careful, asked.plan_id) == "rolled_back"
    assert propose_repair(careful, url).plan_id not in ("", asked.plan_id)


@pytest.mark.parametrize(
    ("decision", "acted"),
    [
        (Decision(Act.COPY, "copies the next wave", wave=2), False),
        (Decision(Act.STOP, "plan p is done"), False),
        (Decision(Act.FINISH, "plan p is rolled back"), True),
    ],
)
def test_a_wave_that_another_run_has_ended_is_skipped_and_the_log_says_why(
    decision: Decision, acted: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(AirflowSkipException, match=f"wave 2 has ended, and now: {decision.sentence}"):
        is_turn(Cycle(decision, acted), 1)
    assert decision.sentence in capsys.readouterr().out


def test_a_wave_needs_spark_in_its_turn_only() -> None:
    copies = Cycle(Decision(Act.COPY, "copies", wave=1), False)
    assert is_turn(copies, 1)
    assert not is_turn(copies, 2), "its turn has not come"
    assert not is_turn(Cycle(Decision(Act.WAIT, "waits for b to agree", wave=1), False), 1)

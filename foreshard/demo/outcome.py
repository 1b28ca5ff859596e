"""What the turn of the loop left in Postgres and Airflow, as the report shows it."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from foreshard.demo.report import DagRun, PlanOutcome, Stage
from foreshard.local.airflow_api import AirflowApi
from foreshard.placement import codec
from foreshard.routing import store as routing_store
from foreshard.settings import Settings
from foreshard.transition import store
from foreshard.transition.store import EventRecord, PlanRecord


def dag_runs(api: AirflowApi, known: frozenset[str]) -> tuple[DagRun, ...]:
    """The ended runs that are not among the `known` run ids, oldest first."""
    ended = [run for run in reversed(api.runs()) if run.seconds is not None and run.run_id not in known]
    return tuple(DagRun(run.dag_id, run.partition_key, run.state, run.seconds or 0.0) for run in ended)


def plan_of(settings: Settings, url: str, after_epoch: int) -> PlanRecord:
    """Of the plans published since `after_epoch`, the one that moved most; the newest if none moved anything."""
    epochs = [e for e in routing_store.history(url, settings.pool_id) if e.epoch > after_epoch and e.plan_id]
    plans = [store.read_plan(url, settings.pool_id, e.plan_id) for e in epochs]
    return max(plans, key=lambda plan: len(plan.document["moves"]))


def plan_outcome(settings: Settings, url: str, record: PlanRecord, peak_after: float | None, target: float) -> PlanOutcome:
    """The plan's figures beside what was moved and how the peak turned out."""
    plan = codec.plan_from_document(record.document)
    moves = store.read_moves(url, settings.pool_id, record.plan_id)
    return PlanOutcome(
        plan_id=record.plan_id,
        reason=record.summary,
        moves=dict(Counter(str(m.kind) for m in moves)),
        rows_moved=sum(m.rows_copied or 0 for m in moves),
        bytes_moved=plan.metrics.bytes_moved,
        bytes_lower_bound=plan.metrics.bytes_lower_bound,
        peak_before=plan.metrics.peak_before,
        peak_predicted=plan.metrics.peak_after,
        peak_after=peak_after,
        peak_lower_bound=plan.metrics.peak_lower_bound,
        target_utilisation=target,
    )


def stages_of(settings: Settings, url: str, record: PlanRecord) -> tuple[Stage, ...]:
    """The plan's stages in order, each with the time until the next began; each step of the cut-over is one."""
    events = store.read_events(url, settings.pool_id, record.plan_id)
    firsts: dict[tuple[str, int | None], EventRecord] = {}
    for event in events:
        if event.stage != "published":  # the moves' own event says it too
            firsts.setdefault((event.stage, event.epoch), event)
    counts = Counter((event.stage, event.epoch) for event in events if event.position is not None)
    ordered = sorted(firsts.values(), key=lambda event: event.at)
    stages = []
    for event, following in pairwise([*ordered, ordered[-1]]):
        count = counts[event.stage, event.epoch]
        moves = f"{count} moves" if count else ""
        version = f"source version {event.source_version}" if event.source_version is not None else ""
        epoch = f"epoch {event.epoch}" if event.epoch is not None else ""
        # The plan's own summary stands elsewhere in the report.
        said = "" if event.detail == record.summary else event.detail
        detail = ", ".join(part for part in (moves, version, epoch, said) if part)
        stages.append(Stage(event.stage, (following.at - event.at).total_seconds(), detail))
    return tuple(stages)

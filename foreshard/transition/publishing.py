"""The snapshots that a transition publishes: a layout a step, with the isolated entities and forecasts that go with it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from foreshard.errors import ForeshardError
from foreshard.learning.published_skill import read_skill
from foreshard.model import Layout, Node, Plan
from foreshard.placement import codec
from foreshard.routing import store as routing_store
from foreshard.routing.corrections import factors_now
from foreshard.routing.invariants import enough_full_replicas, full_replicas
from foreshard.routing.pool import read_nodes, read_pool
from foreshard.routing.snapshot import PredictedLoad, Shadow, Snapshot
from foreshard.settings import Settings
from foreshard.transition import store
from foreshard.transition.decision import SHADOW_STEP, Decision
from foreshard.transition.inputs import newest_forecasts, predicted_loads
from foreshard.transition.layouts import blend, layout_after
from foreshard.transition.picture import MoveView, Picture


@dataclass(frozen=True)
class Course:
    """Where a plan comes from and where it leads: the epoch that it was made from, and the plan itself."""

    plan: Plan
    base: Layout
    isolated: dict[str, int]  # entity → own shard, in the epoch that the plan was made from

    def before(self, moves: Sequence[MoveView], wave: int, epoch: int) -> Layout:
        """The layout that a wave begins from; the first one begins from what was there before the plan."""
        done = {m.wave for m in moves if m.wave < wave}
        return layout_after(self.base, self.plan.layout, moves, done, epoch) if done else Layout(epoch, self.base.replicas)

    def after(self, moves: Sequence[MoveView], wave: int, epoch: int) -> Layout:
        """The layout that a wave leads to."""
        return layout_after(self.base, self.plan.layout, moves, {m.wave for m in moves if m.wave <= wave}, epoch)

    def isolated_in(self, layout: Layout) -> dict[str, int]:
        """The entities that have a shard of their own in a layout: as soon as it has a replica there, and as long."""
        held = {r.shard_id for r in layout.replicas}
        begun = {i.entity_id: i.shard_id for i in self.plan.isolations if not i.ends}
        return {entity: shard for entity, shard in (self.isolated | begun).items() if shard in held}


def course_of(settings: Settings, url: str, plan_id: str) -> Course:
    """Reads a stored plan and the epoch that it was made from."""
    record = store.read_plan(url, settings.pool_id, plan_id)
    plan = codec.plan_from_document(record.document)
    if not record.base_epoch:
        return Course(plan, Layout(0, ()), {})
    base = routing_store.epoch(url, settings.pool_id, record.base_epoch)
    return Course(plan, base.layout, dict(base.isolated))


def step_snapshot(settings: Settings, url: str, course: Course, picture: Picture, decision: Decision) -> Snapshot:
    """What a step of the cut-over, or the shadowing before it, publishes."""
    epoch = picture.current_epoch + 1
    moves = picture.moves
    if not moves:
        return _snapshot(settings, url, course, Layout(epoch, course.plan.layout.replicas))
    before = course.before(moves, decision.wave, epoch)
    if decision.step == SHADOW_STEP:
        chosen = [m for m in moves if m.position in decision.positions]
        share = settings.transition.shadow_share
        owners = {i.shard_id: i.entity_id for i in course.plan.isolations if not i.ends}
        shadows = tuple(Shadow(m.shard_id, m.target, m.covers_from, share, 0, owners.get(m.shard_id, "")) for m in chosen)
        return _snapshot(settings, url, course, before, shadows)
    after = course.after(moves, decision.wave, epoch)
    return _snapshot(settings, url, course, blend(before, after, settings.transition.cut_over[decision.step], epoch))


def return_snapshot(settings: Settings, url: str, course: Course, picture: Picture, wave: int) -> Snapshot | None:
    """What takes a wave back: the layout that it began from. None if queries go by that already.

    A shard that would lose a full replica that it lacks, because a node has died since, keeps what it has now: the layout can
    then be published whatever has died, and the plan can end.
    """
    current = routing_store.current(url, settings.pool_id)
    before = course.before(picture.moves, wave, picture.current_epoch + 1)
    if current is None:
        return None
    before = _without_loss(settings, url, before, current)
    if current.layout.replicas == before.replicas and not current.shadows:
        return None
    return _snapshot(settings, url, course, before)


def full_replicas_now(settings: Settings, url: str, nodes: Iterable[Node]) -> dict[int, int] | None:
    """Shard → full replicas on live nodes in the current epoch; None before the first."""
    current = routing_store.current(url, settings.pool_id)
    return None if current is None else full_replicas(current.replicas, {n.node_id for n in nodes if n.is_live})


def _without_loss(settings: Settings, url: str, layout: Layout, current: Snapshot) -> Layout:
    policy = read_pool(url, settings.pool_id).policy
    live = {n.node_id for n in read_nodes(url, settings.pool_id) if n.is_live}
    now, then = full_replicas(current.replicas, live), full_replicas(layout.replicas, live)
    kept = {s for s, n in now.items() if s < settings.slots and then.get(s, 0) < enough_full_replicas(policy, len(live), n)}
    replicas = [r for r in layout.replicas if r.shard_id not in kept] + [r for r in current.replicas if r.shard_id in kept]
    return Layout(layout.epoch, tuple(sorted(replicas, key=lambda r: (r.shard_id, r.node_id)))) if kept else layout


def _snapshot(settings: Settings, url: str, course: Course, layout: Layout, shadows: tuple[Shadow, ...] = ()) -> Snapshot:
    isolated = course.isolated_in(layout)
    return Snapshot(
        pool_id=settings.pool_id,
        epoch=layout.epoch,
        parent=layout.epoch - 1,
        slot_bits=settings.slot_bits,
        interval_seconds=settings.forecast.grain_minutes * 60,
        recent_days=settings.age.recent_days,
        months_days=settings.age.months_days,
        nodes=read_nodes(url, settings.pool_id),
        replicas=layout.replicas,
        isolated=tuple(sorted(isolated.items())),
        predicted=_predicted(settings, url, isolated),
        shadows=shadows,
        skill=read_skill(settings),
        corrections=factors_now(url, settings.pool_id),
    )


def _predicted(settings: Settings, url: str, isolated: dict[str, int]) -> Sequence[PredictedLoad]:
    """By the newest forecasts; without any, by those that gateways have."""
    try:
        return predicted_loads(settings, newest_forecasts(settings), isolated)
    except ForeshardError:
        current = routing_store.current(url, settings.pool_id)
        return current.predicted if current else ()

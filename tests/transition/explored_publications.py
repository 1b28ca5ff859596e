"""Publishing, rolling back and ending a plan in the explored world: what refuses it, and which invariants it could break."""

from __future__ import annotations

from explored_records import Records, Step, published
from explored_world import PARTIAL, Cycle, Key, Routed, World, copy_of, with_copies

from foreshard.transition.decision import SHADOW_STEP
from foreshard.transition.machine import MoveState

S = MoveState


class Publications(Records):
    """What is one transaction over epochs, moves and replicas."""

    def _finish(self, world: World, who: str, cycle: Cycle) -> Step:
        if not self._held(cycle):
            return self._refused(world, who, "its lease is lost")
        after = world._replace(plan_state=cycle.todo.plan_state, **{who: None})
        return Step(f"{who} ends the plan as {cycle.todo.plan_state}", after, fault=self._wrong_end(world, cycle))

    def _wrong_end(self, world: World, cycle: Cycle) -> str:
        is_done = cycle.todo.plan_state == "done"
        if is_done and world.asked_back == "asked":
            return "a rollback that was asked for in time is passed over"
        if is_done and any(p.state is not S.DONE for p in world.moves):
            return "4: a plan ends with moves half done"
        if world.is_own_epoch:
            done = {m.wave for m, p in zip(self._scenario.moves, world.moves, strict=True) if p.state is S.DONE}
            wanted = self._scenario.layout(world, max(done, default=-1) + 1, SHADOW_STEP)
            if world.routed != wanted and not self._is_short(world, wanted):
                return f"4: the plan ends as {cycle.todo.plan_state} and the layout is not its own"
        return ""

    def _publish(self, world: World, who: str, cycle: Cycle) -> Step:
        todo = cycle.todo
        names = self._scenario.layout(world, todo.wave, todo.step)
        refusal = self._publication_refused(world, cycle, names)
        moved = self._moved(world, todo)
        if refusal or moved is None:
            return self._refused(world, who, refusal or "the moves are no longer where they were")
        fault = self._wrong_publication(world, cycle, names)
        share = "shadows" if todo.step == SHADOW_STEP else f"step {todo.step}"
        after = published(moved, names)._replace(
            has_published=True, is_own_epoch=True, shadowing=todo.step == SHADOW_STEP, **{who: None}
        )
        return Step(f"{who} publishes {share} of wave {todo.wave}", self._serving(after, names), fault=fault)

    def _publication_refused(self, world: World, cycle: Cycle, names: Routed) -> str:
        if not self._held(cycle):
            return "its lease is lost"
        if (cycle.overtaken or not world.is_own_epoch) and "compare_and_set" in self._guards:
            return "another epoch is current"
        return self.publication_refused(world, names, trusted=world.routed)

    def publication_refused(self, world: World, names: Routed, trusted: Routed = frozenset()) -> str:
        """What any publication is refused for, whoever makes it."""
        stated = {k: c.status for k, c in zip(self._scenario.keys, world.copies, strict=True)}
        if "verified_at_publish" in self._guards:
            wrong = [k for k in names - trusted if stated[k] not in ("verified", "serving")]
            if wrong:
                return f"{wrong[0]} is not verified"
        if "full_replicas_at_publish" in self._guards and self._is_short(world, names):
            return "too few full replicas on live nodes"
        return ""

    def _is_short(self, world: World, names: Routed) -> bool:
        dead = {n for n, said in zip(self._scenario.nodes, world.nodes, strict=True) if said == "dead"}
        live = [key for key in names if key[1] not in dead]
        return any(sum(s == shard for s, _ in live) < self._scenario.min_full for shard, _ in self._scenario.base)

    def _wrong_publication(self, world: World, cycle: Cycle, names: Routed) -> str:
        """Which invariant this publication of a step breaks; judged by what is, and by what could be known when it was read."""
        scenario, todo = self._scenario, cycle.todo
        if cycle.overtaken or not world.is_own_epoch:
            return "5: two publishers go on from the same epoch"
        if any(world.moves[p].state is S.PAUSED for p in todo.positions):
            return "a paused move is carried on"
        if self._is_short(world, names):
            return "1: an epoch leaves a shard without enough full replicas on live nodes"
        targets = [(m.shard_id, m.target) for m in (scenario.moves[p] for p in todo.positions) if m.target]
        for key in targets:
            fault = self._unfit(world, cycle, key)
            if fault:
                return fault
        held_back = todo.step > 0 and any(g.lease == "live" and not g.is_current for g in world.gateways)
        return "a step begins before all gateways follow the last" if held_back else ""

    def _unfit(self, world: World, cycle: Cycle, key: Key) -> str:
        copy = copy_of(self._scenario, world, key)
        if copy.rows is None or copy.rows == PARTIAL or copy.status not in ("verified", "serving"):
            return f"2: {key} is published and not verified, or not whole"
        if copy.rows < cycle.source - self._scenario.settings.catch_up_versions:
            return f"2: {key} is published and behind the catch-up bound"
        if cycle.todo.step != SHADOW_STEP and self._scenario.attended and key not in world.loaded:
            return f"1: {key} is published and its node does not serve it"
        return "its shadow answered otherwise" if cycle.todo.step == 0 and cycle.seen == "different" else ""

    def _serving(self, world: World, names: Routed) -> World:
        changes = {
            k: c._replace(status="serving")
            for k, c in zip(self._scenario.keys, world.copies, strict=True)
            if k in names and c.status == "verified"
        }
        return with_copies(self._scenario, world, changes)

    def _roll_back(self, world: World, who: str, cycle: Cycle) -> Step:
        """To the layout before the wave, where the plan left it and nobody else has published since.

        A layout that can no longer be served is not gone back to: the moves end, and the current one stays.
        """
        if not self._held(cycle):
            return self._refused(world, who, "its lease is lost")
        moved = self._moved(world, cycle.todo)
        if moved is None:
            return self._refused(world, who, "the moves are no longer where they were")
        if cycle.overtaken and "compare_and_set" in self._guards:
            return self._refused(world, who, "another epoch is current")
        names = self._scenario.layout(world, cycle.todo.wave, SHADOW_STEP)
        fault = "a move is rolled back after its old copy was given up" if _is_too_late(world, cycle) else ""
        after = moved._replace(**{who: None})
        if not world.is_own_epoch or (names == world.routed and not world.shadowing):
            return Step(f"{who} rolls back, with nothing to publish", after, fault=fault)
        if "ends_where_unserved" in self._guards and self._is_short(world, names):
            return Step(f"{who} rolls back, and leaves the layout, as the one before cannot be served", after, fault=fault)
        refusal = self.publication_refused(world, names, trusted=world.routed)
        if refusal:
            return self._refused(world, who, refusal)
        if cycle.overtaken:
            fault = "5: two publishers go on from the same epoch"
        after = published(after, names)._replace(has_published=True, shadowing=False)
        return Step(f"{who} publishes the layout before wave {cycle.todo.wave}", after, fault=fault)


def _is_too_late(world: World, cycle: Cycle) -> bool:
    return any(world.moves[p].state in (S.RETIRING, S.DONE) for p in cycle.todo.positions)

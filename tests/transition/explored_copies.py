"""Copying, catching up, verifying and retiring in the explored world: rows in nodes' tables, and what Postgres says of them."""

from __future__ import annotations

from explored_records import Records, Step, disturbed, regress
from explored_world import PARTIAL, Copy, Cycle, Key, World, copy_of, with_copies

from foreshard.transition.machine import MoveState

S = MoveState
_MANY = 3  # failed attempts are counted no further


class Copies(Records):
    """Actions of several effects: a kill may come after each."""

    def _keys(self, cycle: Cycle) -> tuple[Key, ...]:
        moves = (self._scenario.moves[p] for p in cycle.todo.positions)
        return tuple((m.shard_id, m.target) for m in moves)

    def _load(self, world: World, who: str, cycle: Cycle) -> Step:
        """Reads the tables' newest versions, and then checks the lease."""
        if cycle.fenced_off and "fence_once_loaded" in self._guards:
            return self._refused(world, who, "its lease is lost")
        return self._next(world, who, cycle, "reads the nodes' tables", disturbed=False)

    def _commit(self, world: World, who: str, cycle: Cycle, rows: int | None, keys: tuple[Key, ...], label: str) -> Step:
        if cycle.disturbed and "table_unchanged" in self._guards:
            return self._refused(world, who, "the table was changed meanwhile")
        changes = {k: copy_of(self._scenario, world, k)._replace(rows=rows) for k in keys}
        after = disturbed(with_copies(self._scenario, world, changes), but=who)
        if rows is None:
            after = after._replace(loaded=after.loaded - frozenset(keys))
        return self._next(after, who, cycle, label)

    def _record(self, world: World, who: str, cycle: Cycle, label: str) -> Step:
        """The copies' versions and the moves' state, in one transaction, after the rows."""
        if not self._held(cycle):
            return self._refused(world, who, "its lease is lost")
        moved = self._moved(world, cycle.todo)
        if moved is None:
            return self._refused(world, who, "the moves are no longer where they were")
        changes = {k: copy_of(self._scenario, world, k)._replace(recorded=cycle.source) for k in self._keys(cycle)}
        after = with_copies(self._scenario, moved, changes)._replace(**{who: None})
        return Step(f"{who} {label}", after, fault=regress(world, moved))

    def _copy(self, world: World, who: str, cycle: Cycle) -> Step:
        keys = self._keys(cycle)
        if cycle.phase == 0:
            if not self._held(cycle):
                return self._refused(world, who, "its lease is lost")
            moved = self._moved(world, cycle.todo._replace(state=S.COPYING))
            if moved is None:
                return self._refused(world, who, "the moves are no longer where they were")
            after = with_copies(
                self._scenario, moved, {k: Copy(copy_of(self._scenario, world, k).rows, status="copying") for k in keys}
            )
            step = self._next(after, who, cycle, "begins to copy")
            disagree = self._scenario.attended and world.answer != "yes"
            return step._replace(fault="a node is copied to that did not agree to it" if disagree else regress(world, moved))
        if cycle.phase == 1:
            return self._load(world, who, cycle)
        if cycle.phase == 2:
            return self._commit(world, who, cycle, PARTIAL, keys, "writes some of the rows")
        if cycle.phase == 3:
            rows = PARTIAL if "bad disk" in self._scenario.harms else cycle.source
            return self._commit(world, who, cycle, rows, keys, "writes the last of the rows")
        return self._record(world, who, cycle, "records the copy")

    def _catch_up(self, world: World, who: str, cycle: Cycle) -> Step:
        if cycle.phase == 0:
            return self._load(world, who, cycle)
        if cycle.phase == 1:
            keys = tuple(k for k in self._keys(cycle) if copy_of(self._scenario, world, k).rows not in (None, PARTIAL))
            return self._commit(world, who, cycle, cycle.source, keys, "applies the changes of the source")
        return self._record(world, who, cycle, "records the version")

    def _verify(self, world: World, who: str, cycle: Cycle) -> Step:
        found = tuple(copy_of(self._scenario, world, k).rows for k in self._keys(cycle))
        if cycle.phase == 0:
            return self._next(world, who, cycle, "compares copies with the source", outcome=found)
        if not self._held(cycle):
            return self._refused(world, who, "its lease is lost")
        is_equal = all(rows not in (None, PARTIAL) for rows in cycle.outcome)
        moved = self._moved(world, cycle.todo if is_equal else cycle.todo._replace(state=S.FAILED))
        if moved is None:
            return self._refused(world, who, "the moves are no longer where they were")
        if not is_equal:
            moves = [
                p._replace(attempts=min(p.attempts + 1, _MANY)) if n in cycle.todo.positions else p
                for n, p in enumerate(moved.moves)
            ]
            return Step(f"{who} records that copies differ", moved._replace(moves=tuple(moves), **{who: None}))
        changes = {
            key: copy_of(self._scenario, world, key)._replace(verified=rows, fresh=True, status="verified")
            for key, rows in zip(self._keys(cycle), cycle.outcome, strict=True)
        }
        after = with_copies(self._scenario, moved, changes)._replace(**{who: None})
        is_broken = None in found or PARTIAL in found
        fault = "2: a copy is recorded as verified and is not as it was compared" if is_broken else ""
        return Step(f"{who} records the verification", after, fault=fault or regress(world, moved))

    def _retire(self, world: World, who: str, cycle: Cycle) -> Step:
        if cycle.phase == 0:
            return self._give_up(world, who, cycle)
        if cycle.phase == 1:
            return self._load(world, who, cycle)
        if cycle.phase == 2:
            step = self._commit(world, who, cycle, None, cycle.keys, "drops the rows")
            dropped = {k for k in cycle.keys if copy_of(self._scenario, step.after, k).rows is None}
            wrong = dropped & world.routed
            return step._replace(fault=f"3: {min(wrong)} is dropped and the current epoch names it" if wrong else "")
        if cycle.phase == 3 and "forgets_under_fence" not in self._guards:
            gone = {k: Copy(copy_of(self._scenario, world, k).rows) for k in cycle.keys}
            return self._next(with_copies(self._scenario, world, gone), who, cycle, "forgets the copies", keys=())
        if not self._held(cycle):
            return self._refused(world, who, "its lease is lost")
        moved = self._moved(world, cycle.todo)
        if moved is None:
            return self._refused(world, who, "the moves are no longer where they were")
        changes = {k: Copy(copy_of(self._scenario, world, k).rows) for k in cycle.keys}
        after = with_copies(self._scenario, moved, changes)._replace(**{who: None})
        return Step(f"{who} records that the copies are gone", after, fault=regress(world, moved))

    def _give_up(self, world: World, who: str, cycle: Cycle) -> Step:
        """Before any row goes: the copies cannot be published again from here on."""
        if not self._held(cycle):
            return self._refused(world, who, "its lease is lost")
        waiting = any(g.lease != "expired" and g.ack != "heard" for g in world.gateways)
        if waiting and "acknowledged_at_retire" in self._guards:
            return self._refused(world, who, "a gateway has not acknowledged")
        moves = [self._scenario.moves[p] for p in cycle.todo.positions]
        keys = tuple((m.shard_id, m.source) for m in moves if m.source)
        if "unrouted_at_retire" in self._guards:
            if "goes_on_where_routed" not in self._guards and world.routed.intersection(keys):
                return self._refused(world, who, "a copy is routed to again")
            keys = tuple(k for k in keys if k not in world.routed)
        changes = {k: copy_of(self._scenario, world, k)._replace(status="retiring") for k in keys}
        step = self._next(with_copies(self._scenario, world, changes), who, cycle, f"gives up {sorted(keys)}", keys=keys)
        still = [k for k in keys for g in world.gateways if g.lease != "expired" and k in g.routes | g.under_way]
        return step._replace(fault=f"3: a live gateway still asks for {still[0]}" if still else "")

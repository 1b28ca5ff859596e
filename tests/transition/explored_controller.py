"""Two controllers of the explored world: one with the lease, and one that lost it and does not know."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from explored_copies import Copies
from explored_publications import Publications
from explored_records import Step
from explored_world import Cycle, Scenario, Todo, World, copy_of

from foreshard.transition.decide import decide
from foreshard.transition.decision import Act


class Controllers(Publications, Copies):
    """Both controllers of a scenario, with the world's guards of these names."""

    def __init__(self, scenario: Scenario, guards: frozenset[str]) -> None:
        super().__init__(scenario, guards)
        self._decided: dict[World, Todo] = {}
        self._effects: dict[Act, Callable[[World, str, Cycle], Step]] = {
            Act.ADVANCE: self._advance,
            Act.PUBLISH: self._publish,
            Act.ROLL_BACK: self._roll_back,
            Act.FINISH: self._finish,
            Act.COPY: self._copy,
            Act.CATCH_UP: self._catch_up,
            Act.VERIFY: self._verify,
            Act.RETIRE: self._retire,
        }

    def steps(self, world: World) -> Iterator[Step]:
        if world.leader is None and world.plan_state == "running":
            todo = self.decide(world)
            if todo.act is not Act.WAIT:
                cycle = Cycle(todo, world.source, seen=world.seen)
                yield Step(
                    f"reads; will {todo.act} {todo.state or ''}", world._replace(leader=cycle), fault=self._unwise(world, todo)
                )
        for who in ("leader", "stale"):
            cycle: Cycle | None = getattr(world, who)
            if cycle is not None:
                yield self._effects[cycle.todo.act](world, who, cycle)
                yield Step(f"{who} is killed", world._replace(**{who: None}), helps=False)
        if world.leader is not None and world.stale is None:
            outlived = world.leader._replace(fenced_off=True)
            yield Step(
                "the lease runs out; the other controller takes over", world._replace(leader=None, stale=outlived), False
            )

    def decide(self, world: World) -> Todo:
        """What `decide` says of the world as it is, remembered by all that it sees of it."""
        gateways = tuple(g._replace(routes=frozenset(), under_way=frozenset()) for g in world.gateways)
        copies = tuple(c._replace(rows=None) for c in world.copies) if not world.loaded else world.copies
        seen = world._replace(leader=None, stale=None, gateways=gateways, routed=frozenset(), copies=copies)
        if seen not in self._decided:
            said = decide(self._scenario.picture(world))
            self._decided[seen] = Todo(said.act, said.positions, said.wave, said.state, said.step, said.plan_state)
        return self._decided[seen]

    def _unwise(self, world: World, todo: Todo) -> str:
        """What would be wrong with this action, by the very state that it was decided on."""
        if todo.act is not Act.RETIRE:
            return ""
        for move in (self._scenario.moves[p] for p in todo.positions):
            is_there = move.source and copy_of(self._scenario, world, (move.shard_id, move.source)).rows is not None
            if is_there and move.target and world.nodes[self._scenario.nodes.index(move.target)] != "up":
                return f"1: the old copy of {move.shard_id} is to go while {move.target}, which took its place, does not answer"
        return ""

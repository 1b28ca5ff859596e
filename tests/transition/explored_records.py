"""What a controller's action consists of in the explored world: one effect at a time, each of which may be the last."""

from __future__ import annotations

from typing import NamedTuple

from explored_world import Cycle, Progress, Routed, Scenario, Todo, World

from foreshard.transition.machine import REVOCABLE, MoveState, may_follow

S = MoveState


class Step(NamedTuple):
    """One event and what it leads to. `helps`: it belongs to a world in which nothing more goes wrong."""

    label: str
    after: World
    helps: bool = True
    fault: str = ""


class Records:
    """The moves' states in Postgres, and what refuses to change them; `guards`: the world's that are in force, by name."""

    def __init__(self, scenario: Scenario, guards: frozenset[str]) -> None:
        self._scenario = scenario
        self._guards = guards

    def _refused(self, world: World, who: str, why: str) -> Step:
        return Step(f"{who} is refused: {why}", world._replace(**{who: None}))

    def _held(self, cycle: Cycle) -> bool:
        return not (cycle.fenced_off and "fence" in self._guards)

    def _next(self, world: World, who: str, cycle: Cycle, label: str, **changes: object) -> Step:
        after = cycle._replace(phase=cycle.phase + 1, **changes)
        return Step(f"{who} {label}", world._replace(**{who: after}))

    def _moved(self, world: World, todo: Todo) -> World | None:
        """The moves in their new state; None if the state machine does not allow it. A repeat changes nothing."""
        moves = list(world.moves)
        for position in todo.positions:
            now = moves[position]
            assert todo.state is not None
            is_repeat = now.state is todo.state
            # Only a person resumes: for a controller a paused move was paused from nowhere.
            paused_from = None if "only_people_resume" in self._guards else now.paused_from
            if not is_repeat and "legal_change" in self._guards and not may_follow(now.state, todo.state, paused_from):
                return None
            step = max(todo.step, 0) if todo.state is S.CUTTING_OVER else now.step
            if not is_repeat or step != now.step:
                moves[position] = Progress(todo.state, None, now.attempts, step)
        return world._replace(moves=tuple(moves))

    def _advance(self, world: World, who: str, cycle: Cycle) -> Step:
        if not self._held(cycle):
            return self._refused(world, who, "its lease is lost")
        moved = self._moved(world, cycle.todo)
        if moved is None:
            return self._refused(world, who, "the moves are no longer where they were")
        return Step(f"{who} brings moves to {cycle.todo.state}", moved._replace(**{who: None}), fault=regress(world, moved))


def published(world: World, names: Routed) -> World:
    """The world with another current epoch: nobody follows it yet, and whoever read before was overtaken."""
    gateways = tuple(g._replace(is_current=False, ack={"sent": "late", "late": "late"}.get(g.ack, "")) for g in world.gateways)
    late = {who: c._replace(overtaken=True) for who in ("leader", "stale") if (c := getattr(world, who)) is not None}
    return world._replace(routed=names, gateways=gateways, seen="", **late)


def disturbed(world: World, but: str = "") -> World:
    """After a commit into a node's table: who read the tables before may not commit."""
    others = {
        who: c._replace(disturbed=True) for who in ("leader", "stale") if who != but and (c := getattr(world, who)) is not None
    }
    return world._replace(**others)


def regress(before: World, after: World) -> str:
    """What is wrong with a change of states, whoever made it: ended is ended, and what is being retired only goes on."""
    for old, new in zip(before.moves, after.moves, strict=True):
        if old.state is S.PAUSED and new.state is not S.PAUSED and new.state is not S.ROLLED_BACK:
            return "a paused move is carried on"
        if old.state not in REVOCABLE | {S.PAUSED, S.FAILED} and new.state not in (old.state, S.DONE):
            return f"a move that is {old.state} becomes {new.state}"
    return ""

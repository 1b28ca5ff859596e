"""Explores all states that a scenario can reach, breadth first, and tells the shortest way to the first that is wrong."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from explored_controller import Controllers
from explored_surroundings import Surroundings, fault_of
from explored_world import Scenario, World


@dataclass(frozen=True)
class Exploration:
    """`fault`: what is wrong, empty if nothing is; `trace`: the events that lead there."""

    states: int
    fault: str = ""
    trace: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [
            f"{self.states} states; {self.fault or 'nothing is wrong'}",
            *(f"  {n}. {e}" for n, e in enumerate(self.trace, 1)),
        ]
        return "\n".join(lines)


def explore(scenario: Scenario, guards: frozenset[str]) -> Exploration:
    """All states with the world's guards of these names, until one breaks an invariant; then whether each can reach an end.

    An end must be within reach of every state by events that help: without anyone's request, and with nothing more going wrong.
    Time O(states + events).
    """
    controllers = Controllers(scenario, guards)
    surroundings = Surroundings(scenario, guards, controllers)
    start = scenario.start()
    came: dict[World, tuple[World, str] | None] = {start: None}
    helped: dict[World, list[World]] = {}
    queue = deque([start])
    while queue:
        world = queue.popleft()
        try:
            steps = [*controllers.steps(world), *surroundings.steps(world)]
        except Exception as error:  # a decision that cannot be made is a fault like others
            return Exploration(len(came), f"{type(error).__name__}: {error}", _trace(came, world))
        for step in steps:
            if step.after != world and step.helps:
                helped.setdefault(step.after, []).append(world)
            if step.after in came and not step.fault:
                continue
            fault = step.fault or fault_of(scenario, guards, step.after)
            if fault:
                return Exploration(len(came), fault, (*_trace(came, world), step.label))
            came[step.after] = (world, step.label)
            queue.append(step.after)
    stuck = _first_stuck(came, helped)
    if stuck is not None:
        return Exploration(len(came), "4: the plan can come to no end", _trace(came, stuck))
    return Exploration(len(came))


def _first_stuck(came: dict[World, tuple[World, str] | None], helped: dict[World, list[World]]) -> World | None:
    ended = [world for world in came if world.plan_state != "running"]
    can_end, queue = set(ended), deque(ended)
    while queue:
        for before in helped.get(queue.popleft(), ()):
            if before not in can_end:
                can_end.add(before)
                queue.append(before)
    return next((world for world in came if world not in can_end), None)


def _trace(came: dict[World, tuple[World, str] | None], world: World) -> tuple[str, ...]:
    events = []
    at = came[world]
    while at is not None:
        before, label = at
        events.append(label)
        at = came[before]
    return tuple(reversed(events))

"""What happens around the controllers in the explored world: gateways, nodes, the source, time and people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from explored_controller import Controllers
from explored_records import Step, disturbed, published
from explored_world import PARTIAL, Gateway, Routed, Scenario, World, with_copies

from foreshard.transition.decision import Act
from foreshard.transition.machine import ENDED, REVOCABLE, MoveState

S = MoveState


class Surroundings:
    """The events that a scenario allows, but for those of its controllers."""

    def __init__(self, scenario: Scenario, guards: frozenset[str], controllers: Controllers) -> None:
        self._scenario = scenario
        self._guards = guards
        self._controllers = controllers
        harms: Mapping[str, Callable[[World], Iterator[Step]]] = {
            "source": self._source_moves_on,
            "rot": self._copies_rot,
            "nodes": self._nodes,
            "pause": self._pause,
            "rollback": self._ask_back,
            "publisher": self._other_publisher,
        }
        self._sources = [self._time, *(harms[name] for name in harms if name in scenario.harms)]
        if scenario.settings.shadow_share:
            self._sources.append(self._shadows)

    def steps(self, world: World) -> Iterator[Step]:
        for source in self._sources:
            yield from source(world)
        for number, gateway in enumerate(world.gateways):
            for label, after, helps in self._gateway(gateway, world.routed):
                gateways = (*world.gateways[:number], after, *world.gateways[number + 1 :])
                # Which of several equal gateways it is makes no difference.
                yield Step(f"gateway {label}", world._replace(gateways=tuple(sorted(gateways, key=_order))), helps)

    def _gateway(self, gateway: Gateway, current: Routed) -> Iterator[tuple[str, Gateway, bool]]:
        loses = "leases" in self._scenario.harms
        if gateway.lease == "expired":
            yield "renews its lease", gateway._replace(lease="back"), True
            return
        if loses:
            yield "loses its lease", gateway._replace(lease="expired"), False
        if not gateway.is_current:
            under_way = gateway.under_way | gateway.routes
            yield "adopts the epoch", gateway._replace(routes=current, is_current=True, under_way=under_way), True
        if gateway.under_way:
            yield "answers its older queries", gateway._replace(under_way=frozenset()), True
        is_drained = not gateway.under_way or "acknowledges_drained" not in self._guards
        if gateway.is_current and is_drained and gateway.ack in ("", "late"):
            yield "sends an acknowledgement", gateway._replace(ack="sent"), True
        counts = gateway.ack == "sent" or (gateway.ack == "late" and "acknowledges_by_number" not in self._guards)
        if counts:
            yield "is heard", gateway._replace(ack="heard", lease="live"), True
        if gateway.ack in ("sent", "late"):
            yield "sent in vain", gateway._replace(ack=""), False

    def _time(self, world: World) -> Iterator[Step]:
        """Long enough for every wait; verifications expire by an event of their own."""
        ripe = tuple(p if p.state in ENDED else p._replace(ripe=True) for p in world.moves)
        nodes = tuple("lost" if said == "silent" else said for said in world.nodes)
        if (ripe, nodes) != (world.moves, world.nodes):
            yield Step("time passes", world._replace(moves=ripe, nodes=nodes))

    def _source_moves_on(self, world: World) -> Iterator[Step]:
        if not world.source:
            yield Step("the source moves on", world._replace(source=1), helps=False)
        for key, copy in zip(self._scenario.keys, world.copies, strict=True):
            if copy.status in ("verified", "serving") and copy.rows not in (None, PARTIAL) and copy.rows != world.source:
                after = with_copies(self._scenario, world, {key: copy._replace(rows=world.source, recorded=world.source)})
                yield Step(f"{key} follows the source", disturbed(after))
            if copy.fresh and key not in self._scenario.base:
                changed = with_copies(self._scenario, world, {key: copy._replace(fresh=False)})
                yield Step(f"the verification of {key} expires", changed, helps=False)

    def _copies_rot(self, world: World) -> Iterator[Step]:
        """A copy loses rows before it was verified; no protocol helps against losing them while its outcome is written."""
        if world.leader is not None and world.leader.todo.act is Act.VERIFY and world.leader.phase:
            return
        for key, copy in zip(self._scenario.keys, world.copies, strict=True):
            if copy.rows not in (None, PARTIAL) and copy.status == "copying":
                yield Step(f"{key} loses rows", with_copies(self._scenario, world, {key: copy._replace(rows=PARTIAL)}), False)

    def _nodes(self, world: World) -> Iterator[Step]:
        targets = {m.target for m in self._scenario.moves}
        for number, (name, said) in enumerate(zip(self._scenario.nodes, world.nodes, strict=True)):
            if name not in targets and "sources die" not in self._scenario.harms:
                continue
            for label, now in {"up": [("falls silent", "silent")], "silent": [("is heard again", "up")]}.get(said, []):
                yield Step(f"{name} {label}", self._with_node(world, number, now), helps=False)
            if said != "dead":
                yield Step(f"{name} dies", self._with_node(world, number, "dead"), helps=False)
        if not world.answer:
            yield Step("the target agrees", world._replace(answer="yes"))
            yield Step("the target refuses", world._replace(answer="no"), helps=False)
        for key, copy in zip(self._scenario.keys, world.copies, strict=True):
            is_up = world.nodes[self._scenario.nodes.index(key[1])] == "up"
            if is_up and key[1] in targets and copy.rows not in (None, PARTIAL) and key not in world.loaded:
                yield Step(f"{key[1]} says that it serves {key[0]}", world._replace(loaded=world.loaded | {key}))

    def _with_node(self, world: World, number: int, said: str) -> World:
        return world._replace(nodes=(*world.nodes[:number], said, *world.nodes[number + 1 :]))

    def _shadows(self, world: World) -> Iterator[Step]:
        if world.shadowing and not world.seen and all(g.is_current for g in world.gateways):
            yield Step("shadows answer alike", world._replace(seen="alike"))
            yield Step("shadows answer otherwise", world._replace(seen="different"), helps=False)

    def _pause(self, world: World) -> Iterator[Step]:
        held = [p for p in world.moves if p.state is S.PAUSED]
        if held:
            back = tuple(
                p._replace(state=p.paused_from, paused_from=None, ripe=False) if p.state is S.PAUSED and p.paused_from else p
                for p in world.moves
            )
            yield Step("a person resumes", world._replace(moves=back))
        elif world.plan_state == "running" and any(p.state in REVOCABLE for p in world.moves):
            paused = tuple(
                p._replace(state=S.PAUSED, paused_from=p.state, ripe=False) if p.state in REVOCABLE else p for p in world.moves
            )
            yield Step("a person pauses", world._replace(moves=paused), helps=False)

    def _ask_back(self, world: World) -> Iterator[Step]:
        if world.asked_back or world.plan_state != "running":
            return
        passed = any(p.state in (S.RETIRING, S.DONE) for p in world.moves)
        passing = any(c is not None and c.todo.state is S.RETIRING for c in (world.leader, world.stale))
        yield Step("a person asks for a rollback", world._replace(asked_back="late" if passed or passing else "asked"), False)

    def _other_publisher(self, world: World) -> Iterator[Step]:
        """A person goes back to the layout from before the plan, once."""
        if not world.is_own_epoch or self._controllers.publication_refused(world, self._scenario.base):
            return
        after = published(world, self._scenario.base)._replace(is_own_epoch=False, shadowing=False)
        yield Step("a person publishes the epoch from before the plan again", after, helps=False)


def _order(gateway: Gateway) -> tuple[object, ...]:
    return (gateway.lease, sorted(gateway.routes), gateway.is_current, sorted(gateway.under_way), gateway.ack)


def fault_of(scenario: Scenario, guards: frozenset[str], world: World) -> str:
    """Which invariant a state breaks, however it came about; empty if none."""
    up = {name for name, said in zip(scenario.nodes, world.nodes, strict=True) if said == "up"}
    rows = {k: c.rows for k, c in zip(scenario.keys, world.copies, strict=True)}
    unknown = [k for k, c in zip(scenario.keys, world.copies, strict=True) if k in world.routed and not c.status]
    if unknown:
        return f"1: the current epoch names {unknown[0]}, of which nothing is known"
    for key in world.routed:
        if key[1] in up and rows[key] is None:
            return f"1: the current epoch names {key}, which is not there"
    for names in (g.routes | g.under_way for g in world.gateways):
        for key in names:
            if rows[key] == PARTIAL:
                return f"1: a query is answered by {key}, of which rows are missing"
            if rows[key] is None and "node_refuses" not in guards:
                return f"1: a query is answered by {key}, which is not there, with nothing"
    return ""

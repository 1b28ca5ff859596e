"""How full the pool is, as one gateway knows it: what nodes reported with their answers, and what it sent itself."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from foreshard.gateway.activity import LOAD_SECONDS
from foreshard.gateway.admission import rate_of_gateway
from foreshard.gateway.load_meter import LoadMeter
from foreshard.gateway.routing_table import RoutingTable
from foreshard.model import NodeState


class PoolLoad:
    """For one event loop. `gateways`: how many there are, set from what Postgres says."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._reported: dict[str, tuple[float, float]] = {}  # load and when
        self._own = LoadMeter(monotonic)
        self.gateways = 1

    def reported(self, node_id: str, load: float) -> None:
        """The load that came with a node's answer."""
        self._reported[node_id] = (load, self._monotonic())

    def sent(self, cost: float) -> None:
        """A query was let in."""
        self._own.add(cost)

    def rate(self, table: RoutingTable | None) -> float:
        """What this gateway may let in, weighted requests per second; 0 while no live node is known."""
        live = [n for n in table.snapshot.nodes if n.state is not NodeState.DEAD] if table else []
        total = sum(self._load(node.node_id) for node in live)
        return rate_of_gateway(sum(node.capacity for node in live), self.gateways, total, self._own.value())

    def overload(self, table: RoutingTable | None, entity_id: str) -> float:
        """Load / capacity of the least loaded live replica of the entity; 0 if there is none."""
        candidates = table.candidates(entity_id) if table else []
        live = [c.node for c in candidates if c.node.state is not NodeState.DEAD]
        return min((self._load(node.node_id) / node.capacity for node in live), default=0.0)

    def _load(self, node_id: str) -> float:
        load, at = self._reported.get(node_id, (0.0, 0.0))
        return load * math.exp(-(self._monotonic() - at) / LOAD_SECONDS)

"""The one set of defaults with which every trace is played, so that no result is a choice of knobs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Defaults:
    """What the nodes of a replay are like and how long things take. Shares are of 1."""

    # A node carries a tenth of the trace's highest load: pools of some dozen nodes, where one node more or less is a choice
    # worth making and the count isn't so coarse that every policy does the same.
    node_peak_share: float = 0.1
    # The rest is as in the planner's `Policy`, so that a plan and its replay mean the same.
    target: float = 0.8
    boot_seconds: int = 120
    copy_bytes_per_second: float = 50e6  # sent, and likewise received, by one node
    verify_seconds: int = 60
    capacity_while_copying: float = 0.9
    replicas: int = 2
    # Where one key has half of the load, only replicas divide it: over all the nodes that the peak needs, if it must be.
    max_replicas: int = 16
    bounded_load: float = 1.15
    # A usage record with its indexes takes about a kilobyte, and is kept for a month.
    bytes_per_request: float = 1_000.0
    kept_days: float = 30.0
    # A hot replica has the last 7 of these 30 days, and four of five queries ask for nothing older: loads on time series are
    # mostly about the newest data.
    hot_days: float = 7.0
    recent_share: float = 0.8
    # Foreshard sizes for the forecast's mean and once its spread, a quantile of 0.84, at the target: the target's headroom, a
    # quarter more, is there for the rest.
    risk_z: float = 1.0
    # Of what nodes with full replicas are meant to carry, so much may be of queries that only they can answer: shards differ.
    base_fill: float = 0.75
    # The finest interval of the published traces, and short beside every time above.
    step_seconds: int = 60
    # A decision every five minutes: what autoscalers in use do, and what the plans of this project aim at.
    decision_seconds: int = 300
    # 256 shards: some twenty replicas of theirs on each node at the peak.
    slot_bits: int = 8
    # Latency is estimated for eight servers a node, 10 ms a request, and callers who give up after 10 s.
    servers: int = 8
    service_ms: float = 10.0
    patience_ms: float = 10_000.0

    @property
    def hot_bytes_share(self) -> float:
        """The part of a full replica's bytes that a hot one has."""
        return min(1.0, self.hot_days / self.kept_days)


DEFAULTS = Defaults()

"""What starts and stops nodes: a protocol of four calls, and the kinds that the settings may name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from foreshard.settings import Settings


class Verb(StrEnum):
    ADD = "add"
    DRAIN = "drain"
    REMOVE = "remove"
    OBSERVE = "observe"


@dataclass(frozen=True, slots=True)
class Operation:
    """What a provisioner did: `detail` says it in words."""

    verb: Verb
    node_id: str
    detail: str


class Provisioner(Protocol):
    """Every call may be repeated after a kill, and is then done once: what runs is found again, by asking or as recorded.

    `operation_id` is the same for each repeat of one operation. Calls raise ForeshardError if it is not done and may be
    repeated, Refused if repeating changes nothing.
    """

    def add_node(self, node_id: str, capacity: float, zone: str, operation_id: str) -> Operation:
        """Starts the node; one that runs goes on as it is. `capacity` in weighted requests per second."""

    def drain_node(self, node_id: str, operation_id: str) -> Operation:
        """Says that the node is being emptied. It must go on answering until it is removed."""

    def remove_node(self, node_id: str, operation_id: str) -> Operation:
        """Stops the node; one that does not run stays so."""

    def observe(self) -> Mapping[str, str]:
        """Node → `running`, `starting` or `stopped`, as far as this provisioner knows of it."""


class NoProvisioner:
    """Somebody else starts and stops nodes."""

    def add_node(self, node_id: str, capacity: float, zone: str, operation_id: str) -> Operation:
        return Operation(Verb.ADD, node_id, f"no provisioner is set: start `foreshard pipeline --node {node_id}` yourself")

    def drain_node(self, node_id: str, operation_id: str) -> Operation:
        return Operation(Verb.DRAIN, node_id, "no provisioner is set: leave the node running until it is removed")

    def remove_node(self, node_id: str, operation_id: str) -> Operation:
        return Operation(Verb.REMOVE, node_id, "no provisioner is set: the node's process is yours to stop")

    def observe(self) -> Mapping[str, str]:
        return {}


def provisioner_of(settings: Settings) -> Provisioner:
    """The provisioner that the settings name."""
    chosen = settings.provisioner
    if chosen.kind == "local":
        from foreshard.nodes.local_processes import LocalProcesses

        return LocalProcesses(settings)
    if chosen.kind == "command":
        from foreshard.nodes.command import CommandProvisioner

        return CommandProvisioner(chosen.command, chosen.timeout_seconds)
    if chosen.kind == "webhook":
        from foreshard.nodes.webhook import WebhookProvisioner, read_secret

        return WebhookProvisioner(chosen.url, read_secret(chosen.secret_file), settings.pool_id, chosen.timeout_seconds)
    return NoProvisioner()

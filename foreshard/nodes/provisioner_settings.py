"""Who starts and stops nodes, and when a node counts as dead or overloaded: what the settings say of both."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pydantic import ConfigDict

from foreshard.errors import ForeshardError

ProvisionerKind = Literal["none", "local", "command", "webhook"]


@dataclass(frozen=True)
class ProvisionerSettings:
    """Who starts and stops nodes: `none` (somebody else), `local` processes, a `command`, or a `webhook`.

    `command`: program and arguments, in which {verb}, {node_id}, {capacity} and {zone} are replaced. `url`: where the webhook
    listens; `secret_file`: the file with the secret that requests are signed with. `timeout_seconds` bounds one attempt.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: ProvisionerKind = "none"
    command: tuple[str, ...] = ()
    url: str = ""
    secret_file: str = ""
    timeout_seconds: float = 60.0


@dataclass(frozen=True)
class WatchSettings:
    """A node whose last heartbeat is older than `dead_seconds`, and that does not answer either, is dead. One that reports more
    load than its capacity for `overload_minutes` is overloaded. Nodes' corrections move one step every `correct_minutes`."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    dead_seconds: float = 60.0
    overload_minutes: float = 5.0
    correct_minutes: float = 5.0


def check_nodes(provisioner: ProvisionerSettings, watch: WatchSettings, origin: str) -> None:
    """Raises ForeshardError naming the field that makes no sense; `origin` is the file it stands in."""
    needed = {"command": ("command", provisioner.command), "webhook": ("url", provisioner.url)}
    if provisioner.kind in needed and not needed[provisioner.kind][1]:
        raise ForeshardError(f"{origin}: provisioner.{needed[provisioner.kind][0]}: the kind {provisioner.kind} needs it")
    if provisioner.kind == "webhook" and not provisioner.secret_file:
        raise ForeshardError(
            f"{origin}: provisioner.secret_file: the kind webhook signs its requests, name a file with a secret"
        )
    positive = [
        ("provisioner.timeout_seconds", provisioner.timeout_seconds),
        ("watch.dead_seconds", watch.dead_seconds),
        ("watch.overload_minutes", watch.overload_minutes),
        ("watch.correct_minutes", watch.correct_minutes),
    ]
    for name, value in positive:
        if not 0 < value < math.inf:
            raise ForeshardError(f"{origin}: {name}: must be above 0, not {value}")

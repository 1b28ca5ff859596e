"""What the provisioner was asked to do, recorded before it is asked: a repeat after a kill goes on under the same id."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from foreshard.nodes.provisioner import Operation, Verb
from foreshard.routing import database


class OpenOperation:
    """An operation under way; `done` closes it."""

    def __init__(self, operation_id: str) -> None:
        self.operation_id = operation_id
        self.result: Operation | None = None

    def done(self, result: Operation) -> None:
        self.result = result


@contextmanager
def operation(url: str, pool_id: str, node_id: str, verb: Verb) -> Iterator[OpenOperation]:
    """One operation on a node; it stays open, to be repeated, unless the block calls `done` and ends."""
    key = {"operation_id": uuid4().hex, "pool_id": pool_id, "node_id": node_id, "verb": verb.value}
    rows = database.query(url, "open_node_operation", key)
    found = OpenOperation(rows[0]["operation_id"])
    yield found
    if found.result is not None:
        ended = {"operation_id": found.operation_id, "detail": found.result.detail}
        database.query(url, "end_node_operation", ended)


def is_open(url: str, pool_id: str, node_id: str, verb: Verb) -> bool:
    """Whether such an operation was begun and not ended: it may be half-done."""
    return bool(database.query(url, "read_node_operation", {"pool_id": pool_id, "node_id": node_id, "verb": verb.value}))

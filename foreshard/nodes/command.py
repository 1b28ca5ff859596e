"""Nodes provided by a command of the operator's own: one call per verb, one line of JSON as the answer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from foreshard.errors import ForeshardError
from foreshard.nodes.provisioner import Operation, Verb

OPERATION_VARIABLE = "FORESHARD_OPERATION_ID"


class CommandProvisioner:
    """Runs `command` with {verb}, {node_id}, {capacity} and {zone} replaced in each word; no shell reads them.

    Exit status 0 and one JSON object as the last line of standard output, for example {"detail": "started as vm-17"}, say that
    it is done; `observe` answers {"nodes": {"a": "running"}}. The operation's id is in FORESHARD_OPERATION_ID.
    """

    def __init__(self, command: Sequence[str], timeout_seconds: float) -> None:
        self._command, self._timeout = tuple(command), timeout_seconds

    def add_node(self, node_id: str, capacity: float, zone: str, operation_id: str) -> Operation:
        said = self._run(Verb.ADD, node_id, f"{capacity:g}", zone, operation_id)
        return Operation(Verb.ADD, node_id, str(said.get("detail", "")))

    def drain_node(self, node_id: str, operation_id: str) -> Operation:
        return Operation(Verb.DRAIN, node_id, str(self._run(Verb.DRAIN, node_id, "", "", operation_id).get("detail", "")))

    def remove_node(self, node_id: str, operation_id: str) -> Operation:
        return Operation(Verb.REMOVE, node_id, str(self._run(Verb.REMOVE, node_id, "", "", operation_id).get("detail", "")))

    def observe(self) -> Mapping[str, str]:
        return states_in(self._run(Verb.OBSERVE, "", "", "", ""), "the provisioner's command")

    def _run(self, verb: Verb, node_id: str, capacity: str, zone: str, operation_id: str) -> dict[str, Any]:
        values = {"{verb}": verb.value, "{node_id}": node_id, "{capacity}": capacity, "{zone}": zone}
        words = [_filled(word, values) for word in self._command]
        what = f"the provisioner's command {words[0]} {verb} {node_id}".rstrip()
        try:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, OPERATION_VARIABLE: operation_id},
                start_new_session=True,
            )
        except OSError as error:
            raise ForeshardError(f"{what} cannot be run: {error.strerror or error}") from None
        try:
            out, err = process.communicate(timeout=self._timeout)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise ForeshardError(f"{what} was ended after {self._timeout:g} s; it may be repeated") from None
        if process.returncode != 0:
            last = (err.decode("utf-8", "replace").strip().splitlines() or ["it wrote nothing to standard error"])[-1]
            raise ForeshardError(f"{what} failed with status {process.returncode}: {last}")
        return _answer(out, what)


def states_in(said: Mapping[str, Any], who: str) -> dict[str, str]:
    """The states in an answer to `observe`; raises ForeshardError if it has none."""
    nodes = said.get("nodes")
    if not isinstance(nodes, dict):
        raise ForeshardError(f'{who} must answer observe with {{"nodes": {{"a": "running"}}}}')
    return {str(name): str(state) for name, state in nodes.items()}


def _filled(word: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        word = word.replace(name, value)
    return word


def _answer(out: bytes, what: str) -> dict[str, Any]:
    lines = [line for line in out.decode("utf-8", "replace").splitlines() if line.strip()]
    try:
        said = json.loads(lines[-1]) if lines else None
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise ForeshardError(
            f"{what} must end its output with one line of JSON, not {lines[-1][:80] if lines else 'nothing'!r}"
        )
    return said

"""Nodes provided by a service over HTTP: a signed POST for each operation, repeated under one key until it is answered."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from foreshard.errors import ForeshardError, Refused
from foreshard.nodes.command import states_in
from foreshard.nodes.provisioner import Operation, Verb

IDEMPOTENCY_KEY, TIMESTAMP, SIGNATURE = "Idempotency-Key", "X-Foreshard-Timestamp", "X-Foreshard-Signature"
ATTEMPTS = 4
PAUSE_SECONDS = 0.5  # doubled after each attempt
_LATER = {408, 425, 429}


def read_secret(file: str) -> bytes:
    """The secret without white space around it; raises ForeshardError if the file is missing or empty."""
    try:
        secret = Path(file).read_bytes().strip()
    except OSError as error:
        raise ForeshardError(f"the provisioner's secret_file {file} cannot be read: {error.strerror}") from None
    if not secret:
        raise ForeshardError(f"the provisioner's secret_file {file} is empty; write a secret that the webhook knows")
    return secret


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """`sha256=` and the HMAC of timestamp, a dot and body: what the webhook compares, so that no old request comes again."""
    return "sha256=" + hmac.new(secret, timestamp.encode("ascii") + b"." + body, hashlib.sha256).hexdigest()


class WebhookProvisioner:
    """POSTs {"verb", "pool_id", "node_id", "capacity", "zone", "operation_id"}; any 2xx with a JSON object is a yes.

    A lost connection, a timeout and the statuses 408, 425, 429 and 5xx are tried ATTEMPTS times; other statuses are a no.
    """

    def __init__(self, url: str, secret: bytes, pool_id: str, timeout_seconds: float, pause: float = PAUSE_SECONDS) -> None:
        self._url, self._secret, self._pool_id = url, secret, pool_id
        self._timeout, self._pause = timeout_seconds, pause

    def add_node(self, node_id: str, capacity: float, zone: str, operation_id: str) -> Operation:
        return self._done(Verb.ADD, node_id, operation_id, {"capacity": capacity, "zone": zone})

    def drain_node(self, node_id: str, operation_id: str) -> Operation:
        return self._done(Verb.DRAIN, node_id, operation_id, {})

    def remove_node(self, node_id: str, operation_id: str) -> Operation:
        return self._done(Verb.REMOVE, node_id, operation_id, {})

    def observe(self) -> Mapping[str, str]:
        return states_in(self._post({"verb": Verb.OBSERVE.value, "pool_id": self._pool_id}, ""), f"the webhook {self._url}")

    def _done(self, verb: Verb, node_id: str, operation_id: str, more: Mapping[str, Any]) -> Operation:
        asked = {"verb": verb.value, "pool_id": self._pool_id, "node_id": node_id, "operation_id": operation_id, **more}
        return Operation(verb, node_id, str(self._post(asked, operation_id).get("detail", "")))

    def _post(self, asked: Mapping[str, Any], operation_id: str) -> dict[str, Any]:
        body = json.dumps(asked, sort_keys=True).encode("utf-8")
        failure = ""
        # No proxy of the environment: the request changes what runs, and is for that service alone.
        with httpx.Client(timeout=self._timeout, trust_env=False) as client:
            for attempt in range(ATTEMPTS):
                if attempt:
                    time.sleep(self._pause * 2 ** (attempt - 1))
                try:
                    response = client.post(self._url, content=body, headers=self._headers(body, operation_id))
                except httpx.HTTPError as error:
                    failure = str(error) or type(error).__name__
                    continue
                if response.status_code < 500 and response.status_code not in _LATER:
                    return self._answer(response, asked)
                failure = f"status {response.status_code}"
        what = f"the webhook {self._url} did not do {asked['verb']} {asked.get('node_id', '')}".rstrip()
        raise ForeshardError(f"{what} in {ATTEMPTS} attempts ({failure}); it may be repeated")

    def _headers(self, body: bytes, operation_id: str) -> dict[str, str]:
        timestamp = str(int(time.time()))
        signed = {TIMESTAMP: timestamp, SIGNATURE: signature(self._secret, timestamp, body)}
        key = {IDEMPOTENCY_KEY: operation_id} if operation_id else {}
        return {"Content-Type": "application/json", **signed, **key}

    def _answer(self, response: httpx.Response, asked: Mapping[str, Any]) -> dict[str, Any]:
        what = f"{asked['verb']} {asked.get('node_id', '')}".rstrip()
        if not response.is_success:
            said = " ".join(response.text.split())[:200]
            raise Refused(f"the webhook {self._url} refused {what} with status {response.status_code}: {said}")
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise ForeshardError(f"the webhook {self._url} answered {what} with something that is no JSON object")
        return answer

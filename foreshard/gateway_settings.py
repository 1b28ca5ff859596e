"""The HTTP side of gateways and pipelines: classes with their keys and shares, and the limits of a request."""

from __future__ import annotations

import re
from dataclasses import dataclass
from dataclasses import fields as fields_of

from pydantic import ConfigDict

from foreshard.errors import ForeshardError

CLASS_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ClassSettings:
    """A class of queries: the `share` of the capacity (0 to 1) that is reserved for it, and the SHA-256 digests (hexadecimal)
    of the keys whose holders may ask in it and in every class after it."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    share: float = 0.0
    keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class GatewaySettings:
    """`classes`, the most important first: with any, what does not fit into the pool's capacity is refused, the last class
    first. `keys_file`: further keys, one a line, as a class and a digest; read again when it changes. With keys anywhere,
    whoever has none is refused.

    The limits hold for gateways and pipelines: the longest address and headers, the time to send them, the time to send a
    body, the time to take an answer, the most requests in hand. `drain_seconds`: how long a gateway or pipeline that was asked
    to stop answers on while it says on /readyz that it goes. `candidates_one_in`: of so many query records one names the nodes
    that were compared, with their scores.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    classes: tuple[ClassSettings, ...] = ()
    keys_file: str = ""
    batch_queries: int = 100
    url_bytes: int = 32_768
    header_bytes: int = 32_768
    header_seconds: float = 10.0
    body_seconds: float = 60.0
    answer_seconds: float = 30.0
    most_requests: int = 1_000
    drain_seconds: float = 0.0
    candidates_one_in: int = 1


def check_gateway(chosen: GatewaySettings, origin: str) -> None:
    """Raises ForeshardError naming the field that makes no sense; `origin` is the file it stands in."""
    names = [one.name for one in chosen.classes]
    if len(set(names)) != len(names):
        raise ForeshardError(f"{origin}: gateway.classes: two classes have the same name")
    for one in chosen.classes:
        _check_class(one, origin)
    if sum(one.share for one in chosen.classes) > 1 + 1e-9:
        raise ForeshardError(f"{origin}: gateway.classes: the shares add up to more than 1")
    digests = [digest for one in chosen.classes for digest in one.keys]
    if len(set(digests)) != len(digests):
        raise ForeshardError(f"{origin}: gateway.classes: one key stands in two places")
    if chosen.keys_file and not chosen.classes:
        raise ForeshardError(f"{origin}: gateway.keys_file: name the classes of its keys in gateway.classes")
    _check_numbers(chosen, origin)


def _check_class(one: ClassSettings, origin: str) -> None:
    if not CLASS_NAME.fullmatch(one.name):
        raise ForeshardError(f"{origin}: gateway.classes: {one.name!r} must be 1 to 64 of A-Z, a-z, 0-9, dot, dash, underscore")
    if not 0 <= one.share <= 1:
        raise ForeshardError(f"{origin}: gateway.classes: {one.name}: share must be between 0 and 1, not {one.share}")
    for digest in one.keys:
        if not DIGEST.fullmatch(digest):
            # Not repeated: it may be the key itself.
            raise ForeshardError(f"{origin}: gateway.classes: {one.name}: keys must be SHA-256 digests, 64 digits of 0-9a-f")


def _check_numbers(chosen: GatewaySettings, origin: str) -> None:
    for field in fields_of(chosen):
        value = getattr(chosen, field.name)
        least = 0.0 if field.name == "drain_seconds" else 1.0
        if isinstance(value, (int, float)) and not least <= value <= 1e9:
            raise ForeshardError(f"{origin}: gateway.{field.name}: must be at least {least:g}, not {value}")

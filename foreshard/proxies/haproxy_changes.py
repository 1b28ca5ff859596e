"""From what HAProxy holds to what it should hold, in an order in which no query goes where it cannot be answered. Pure.

1. maps get only what is true before and after; 2. servers are added and weighed, then the old ones put into maintenance;
3. maps get the rest, the epoch last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from foreshard.proxies.proxy_state import Address, Key, ProxyState, Server, check_of

Maps = Mapping[str, Mapping[str, str]]  # name of a map → its entries


@dataclass(frozen=True)
class Changes:
    """To be done in the order of the fields. `leaving`: servers to be deleted once no request is on them."""

    maps_first: Maps
    commands: tuple[str, ...]
    maps_last: Maps
    leaving: tuple[Key, ...]


def maps_of(state: ProxyState) -> dict[str, dict[str, str]]:
    """The maps as files and HAProxy hold them, in the order in which they may be set."""
    return {
        "recent": dict(state.recent_from),
        "own": dict(state.own_shards),
        "isolated": dict(state.isolated),
        "epoch": {"epoch": str(state.epoch)} if state.epoch else {},
    }


def changes(held: ProxyState, wanted: ProxyState) -> Changes:
    """What to do; nothing where both are the same."""
    first = {
        "isolated": {code: own for code, own in held.isolated.items() if wanted.isolated.get(code) == own},
        "recent": {b: max(day, wanted.recent_from[b]) for b, day in held.recent_from.items() if b in wanted.recent_from},
        "own": dict(wanted.own_shards),
    }
    now = maps_of(held)
    then = {**now, **first}
    leaving = [key for key, server in held.servers.items() if key not in wanted.servers and server.address is not None]
    return Changes(
        {name: entries for name, entries in first.items() if entries != now[name]},
        (
            *_checks(held, wanted),
            *(command for key, server in wanted.servers.items() for command in _server(key, held.servers.get(key), server)),
            *(_set(key, "state maint") for key in leaving if not held.servers[key].in_maintenance),
        ),
        {name: entries for name, entries in maps_of(wanted).items() if entries != then[name]},
        tuple(leaving),
    )


def _checks(held: ProxyState, wanted: ProxyState) -> list[str]:
    found = []
    for number, address in wanted.checks.items():
        key = ("nodes", f"n{number}")
        if address == held.checks.get(number):
            continue
        if address is None:
            found.append(_set(key, "state maint"))
        else:
            found += [_set(key, f"addr {address[0]} port {address[1]}"), _set(key, "state ready")]
    return found


def _server(key: Key, held: Server | None, wanted: Server) -> list[str]:
    if held is None:
        if wanted.address is None:
            return []  # ways back are in the configuration, or nowhere
        check = check_of(key[1])
        track = f" track nodes/n{check}" if check else ""
        added = f"add server {key[0]}/{key[1]} {written(wanted.address)} weight {wanted.weight}{track}"
        return [added, _set(key, "state ready")]
    found = []
    if wanted.address is not None and wanted.address != held.address:
        found.append(_set(key, f"addr {wanted.address[0]} port {wanted.address[1]}"))
    if wanted.weight != held.weight:
        found.append(_set(key, f"weight {wanted.weight}"))
    if held.in_maintenance:
        found.append(_set(key, "state ready"))
    return found


def written(address: Address) -> str:
    """An address as configuration and commands have it."""
    return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"


def _set(key: Key, what: str) -> str:
    return f"set server {key[0]}/{key[1]} {what}"

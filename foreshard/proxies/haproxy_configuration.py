r"""HAProxy's configuration: one file that people may edit, one that follows the epochs. Pure.

The shard is computed in it: xxh64, seed 42, of the entity's UTF-8 and the low bits of that. Where HAProxy and a pipeline could
read a query differently, so that a pipeline would be asked for the wrong shard, the query is refused with status 400.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit

from foreshard.errors import ForeshardError
from foreshard.hashing import SEED
from foreshard.proxies.haproxy_changes import maps_of, written
from foreshard.proxies.proxy_state import RECENT, Key, ProxyState, Server, check_of

FRONTENDS, BACKENDS = "frontends.cfg", "backends.cfg"
ADMIN_SOCKET, SLOTS_SOCKET = "admin.sock", "slots.sock"
# Four bytes for each of the 512 characters that a pipeline takes.
LONGEST_ENTITY_BYTES = 2048
_LONGEST_SOCKET = 90  # of the 107 that Linux allows, since HAProxy adds to it while it starts
_UTF8 = (
    r"\A(?:[\x01-\x7f]|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]"
    r"|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2})++\z"
)

_NO_GATEWAY = (
    "  http-request return status 501 content-type application/json string"
    ' \'{"error":"only GET /v1/usage without a token is answered here: no reference gateway is configured"}\' if !keyed'
)


@dataclass(frozen=True, slots=True)
class Options:
    """`folder`: where configuration, maps and sockets are. `gateways`: URLs of reference gateways, which answer what HAProxy
    cannot: tokens, writes, batches. `check`: what nodes are asked whether they are ready; empty: only for a connection."""

    folder: Path
    slot_bits: int
    bind: str = "127.0.0.1:8090"
    gateways: tuple[str, ...] = ()
    balance: str = "roundrobin"
    check: str = "/readyz"


def frontends(options: Options) -> str:
    """The file that people may edit; raises ForeshardError for what cannot be written into a configuration."""
    _check(options)
    values = {
        "folder": str(options.folder),
        "balance": options.balance,
        "bind": options.bind,
        "check": f"option httpchk GET {options.check}" if options.check else "# nodes are asked whether they take connections",
        "seed": str(SEED),
        "mask": str((1 << options.slot_bits) - 1),
        "utf8": _UTF8,
        "longest": str(LONGEST_ENTITY_BYTES),
        "others": "  use_backend gateways if !keyed" if options.gateways else _NO_GATEWAY,
        "gateways": _gateways(options.gateways),
    }
    values["rules"] = _filled("rules.cfg", values).rstrip()
    return _filled("frontends.cfg", values)


def backends(state: ProxyState, slot_bits: int, folder: Path) -> str:
    """The file that follows the epochs: with it HAProxy starts with what it held last."""
    by_backend: dict[str, list[tuple[str, Server]]] = defaultdict(list)
    for (backend, name), server in state.servers.items():
        by_backend[backend].append((name, server))
    own = sorted({backend for backend, _ in state.servers if backend.startswith("own")})
    slots = [f"s{slot}{ending}" for slot in range(1 << slot_bits) for ending in ("", RECENT)]
    lines = ["# Written by `foreshard haproxy`, after each epoch anew.", "backend nodes"]
    for number, address in state.checks.items():
        lines.append(
            f"  server n{number} {written(address)} check" if address else f"  server n{number} 127.0.0.1:1 check disabled"
        )
    for backend in [*slots, *own]:
        lines.append(f"backend {backend}")
        lines += [_server((backend, name), server, folder) for name, server in by_backend[backend]]
    return "\n".join(lines) + "\n"


def map_files(state: ProxyState) -> dict[str, str]:
    """File name → content of each map."""
    return {
        f"{name}.map": "".join(f"{key} {value}\n" for key, value in entries.items()) for name, entries in maps_of(state).items()
    }


def _filled(template: str, values: Mapping[str, str]) -> str:
    text = files("foreshard.proxies").joinpath(template).read_text("utf-8")
    return re.sub("<<([a-z0-9]+)>>", lambda match: values[match[1]], text)


def _server(key: Key, server: Server, folder: Path) -> str:
    if server.address is None:
        return f"  server {key[1]} unix@{folder}/{SLOTS_SOCKET} weight {server.weight}"
    check = check_of(key[1])
    track = f" track nodes/n{check}" if check else ""
    return f"  server {key[1]} {written(server.address)} weight {server.weight}{track}"


def _gateways(urls: Sequence[str]) -> str:
    if not urls:
        return ""
    servers = [f"  server gateway-{number} {_host_and_port(url)} check" for number, url in enumerate(urls, 1)]
    # Writes must not be sent twice: only what was not sent at all is tried again.
    options = ["  balance leastconn", "  retry-on conn-failure", "  timeout server 40s"]
    return "\nbackend gateways\n" + "\n".join([*options, *servers]) + "\n"


def _host_and_port(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port or 80
    except ValueError:
        parts, port = urlsplit(""), 0
    if parts.scheme != "http" or not re.fullmatch(r"[A-Za-z0-9_.:-]+", parts.hostname or "") or parts.path.strip("/"):
        raise ForeshardError(f"the gateway's address {url[:80]!r} must be of the form http://host:port")
    return written((str(parts.hostname), port))


def _check(options: Options) -> None:
    if not re.fullmatch(r"/[A-Za-z0-9_./-]*", str(options.folder)) or len(str(options.folder)) > _LONGEST_SOCKET:
        raise ForeshardError(
            f"HAProxy's folder {options.folder} must be an absolute path of letters, digits, '_', '-' and '.', with at most "
            f"{_LONGEST_SOCKET} characters; name another with --folder"
        )
    if not re.fullmatch(r"[A-Za-z0-9_.:*\[\]-]+", options.bind):
        raise ForeshardError(f"--bind {options.bind!r} must be host:port; further options of `bind` go into {FRONTENDS}")
    if options.balance not in ("roundrobin", "leastconn"):
        raise ForeshardError(f"--balance must be roundrobin or leastconn, not {options.balance!r}")
    if options.check and not re.fullmatch(r"/[A-Za-z0-9_./-]*", options.check):
        raise ForeshardError(f"--check {options.check!r} must be a path such as /readyz")

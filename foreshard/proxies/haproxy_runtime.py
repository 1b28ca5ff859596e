"""HAProxy's runtime API over its admin socket: what it holds, and commands that change it without a reload."""

from __future__ import annotations

import csv
import re
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from foreshard.errors import ForeshardError
from foreshard.proxies.haproxy_changes import Changes, Maps
from foreshard.proxies.proxy_state import TO_SLOT, Address, Key, ProxyState, Server

# HAProxy takes a line, and a payload, of at most its buffer (16 KiB) less what it reserves.
_LONGEST_LINE = 8_000
_DONE = re.compile(
    r"New server registered\.|Server deleted\.|New version created: \d+|"
    r"(no need to change the addr|IP changed from).*|(no need to change the port|port changed from).*"
)
_HAS_REQUESTS = "Server still has connections attached to it, cannot remove it."
_FORCED_MAINTENANCE = 1


class RuntimeApi:
    """One connection per exchange, so that a restarted HAProxy is simply the next one asked. Errors are ForeshardError."""

    def __init__(self, admin_socket: Path, maps_folder: Path, timeout: float = 5.0) -> None:
        self._socket, self._maps_folder, self._timeout = admin_socket, maps_folder, timeout

    def ask(self, line: str) -> str:
        """The answer to one line of commands; raises ForeshardError if HAProxy does not answer."""
        answer = bytearray()
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(self._timeout)
                connection.connect(str(self._socket))
                connection.sendall(line.encode("ascii") + b"\n")
                connection.shutdown(socket.SHUT_WR)
                while part := connection.recv(1 << 16):
                    answer += part
        except OSError as error:
            raise ForeshardError(
                f"HAProxy does not answer at {self._socket}: {error.strerror or error}; start it with the written configuration"
            ) from None
        return answer.decode("utf-8", "replace")

    def carry_out(self, steps: Changes) -> None:
        """All but the deletion of what leaves."""
        self.replace_maps(steps.maps_first)
        self.run(steps.commands)
        self.replace_maps(steps.maps_last)

    def run(self, commands: Sequence[str]) -> None:
        """Carries commands out, many a line; raises ForeshardError at the first line that HAProxy says no to."""
        for line in _lines(commands):
            for said in filter(None, map(str.strip, self.ask(line).split("\n"))):
                if not _DONE.fullmatch(said):
                    raise ForeshardError(f"HAProxy refused one of {line[:200]!r}: {said[:200]}")

    def delete(self, servers: Sequence[Key]) -> None:
        """Deletes servers in maintenance; those that still have connections stay."""
        for line in _lines([f"del server {backend}/{name}" for backend, name in servers]):
            for said in filter(None, map(str.strip, self.ask(line).split("\n"))):
                if said != _HAS_REQUESTS and not _DONE.fullmatch(said):
                    raise ForeshardError(f"HAProxy refused one of {line[:200]!r}: {said[:200]}")

    def replace_maps(self, maps: Maps) -> None:
        """Each map as a whole: a query sees all of the old one or all of the new one."""
        for name, entries in maps.items():
            file = self._maps_folder / f"{name}.map"
            said = self.ask(f"prepare map {file}")
            version = re.search(r"New version created: (\d+)", said)
            if version is None:
                raise ForeshardError(f"HAProxy did not prepare map {file}: {said.strip()[:200]}")
            for payload in _payloads(entries):
                said = self.ask(f"add map @{version[1]} {file} <<\n{payload}").strip()
                if said:
                    raise ForeshardError(f"HAProxy did not take entries of map {file}: {said[:200]}")
            self.run([f"commit map @{version[1]} {file}"])

    def held(self) -> ProxyState:
        """What HAProxy holds now."""
        servers: dict[Key, Server] = {}
        checks: dict[int, Address | None] = {}
        for row in self._servers():
            backend, name = row["be_name"], row["srv_name"]
            in_maintenance = bool(int(row["srv_admin_state"]) & _FORCED_MAINTENANCE)
            if backend == "nodes":
                checks[int(name.removeprefix("n"))] = None if in_maintenance else _address(row)
            elif re.fullmatch(r"(s|own)\d+(-recent)?", backend):
                address = None if name == TO_SLOT else _address(row)
                servers[backend, name] = Server(address, int(row["srv_uweight"]), in_maintenance)
        maps = {name: self._map(name) for name in ("epoch", "isolated", "own", "recent")}
        epoch = int(maps["epoch"].get("epoch", "0"))
        return ProxyState(epoch, servers, checks, maps["isolated"], maps["own"], maps["recent"])

    def busy(self) -> set[Key]:
        """The servers that requests are on or queued for."""
        lines = self.ask("show stat -1 4 -1").removeprefix("# ").splitlines()
        rows = csv.DictReader(line for line in lines if line)
        return {(row["pxname"], row["svname"]) for row in rows if int(row["scur"] or 0) or int(row["qcur"] or 0)}

    def _servers(self) -> Iterator[dict[str, str]]:
        lines = [line for line in self.ask("show servers state").splitlines() if line]
        if len(lines) < 2 or lines[0] != "1" or not lines[1].startswith("# "):
            raise ForeshardError(f"HAProxy's answer to `show servers state` is not known here: {lines[:1]}")
        columns = lines[1].removeprefix("# ").split(" ")
        for line in lines[2:]:
            yield dict(zip(columns, line.split(" "), strict=False))

    def _map(self, name: str) -> dict[str, str]:
        file = self._maps_folder / f"{name}.map"
        found = {}
        for line in self.ask(f"show map {file}").splitlines():
            words = line.split(" ", 2)
            if words[0].startswith("0x") and len(words) == 3:
                found[words[1]] = words[2]
            elif line.strip():
                raise ForeshardError(f"HAProxy does not have map {file}: {line[:200]}")
        return found


def _address(row: Mapping[str, str]) -> Address:
    return row["srv_addr"], int(row["srv_port"])


def _lines(commands: Iterable[str]) -> Iterator[str]:
    line = ""
    for command in commands:
        if line and len(line) + len(command) + 1 > _LONGEST_LINE:
            yield line
            line = ""
        line = f"{line};{command}" if line else command
    if line:
        yield line


def _payloads(entries: Mapping[str, str]) -> Iterator[str]:
    """Lines `key value`, each payload ended by the empty line that HAProxy waits for."""
    payload = ""
    for key, value in entries.items():
        if payload and len(payload) + len(key) + len(value) > _LONGEST_LINE:
            yield payload
            payload = ""
        payload += f"{key} {value}\n"
    if payload:
        yield payload

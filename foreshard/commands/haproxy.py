"""`foreshard haproxy`: the configuration of an HAProxy that follows the published epochs, and the process that drives it."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer

from foreshard import settings as configuration
from foreshard.commands.options import SettingsFile
from foreshard.errors import ForeshardError

app = typer.Typer(no_args_is_help=True)

Folder = Annotated[
    Path | None, typer.Option(help="Folder of the configuration, maps and sockets. Default: haproxy in the home folder.")
]


@app.command("config")
def config(
    folder: Folder = None,
    bind: Annotated[str, typer.Option(help="Where HAProxy listens, host:port.")] = "127.0.0.1:8090",
    gateway: Annotated[
        list[str] | None, typer.Option(help="URL of a reference gateway for tokens, writes and batches; may be repeated.")
    ] = None,
    balance: Annotated[
        str, typer.Option(help="roundrobin (by weight) or leastconn (requests in flight by weight).")
    ] = "roundrobin",
    check: Annotated[str, typer.Option(help="Path that a ready node answers with 200; empty: connections only.")] = "/readyz",
    force: Annotated[bool, typer.Option("--force", help="Overwrite a configuration that is there.")] = False,
    settings: SettingsFile = None,
) -> None:
    """Write HAProxy's configuration. It routes nothing before `foreshard haproxy follow` has put the epoch in."""
    from foreshard.proxies.haproxy_configuration import BACKENDS, FRONTENDS, Options, backends, frontends, map_files
    from foreshard.proxies.haproxy_driver import write_files
    from foreshard.proxies.proxy_state import MOST_SLOT_BITS, nothing_held

    chosen = configuration.load(settings)
    place = _place(folder, chosen)
    if (place / FRONTENDS).exists() and not force:
        raise ForeshardError(f"{place / FRONTENDS} is there already; edit it, or overwrite it with --force")
    if chosen.slot_bits > MOST_SLOT_BITS:
        raise ForeshardError(
            f"{chosen.slots} slots are too many for HAProxy, which has a backend for each: at most {1 << MOST_SLOT_BITS}; "
            "put the reference gateway in front"
        )
    options = Options(place, chosen.slot_bits, bind, tuple(gateway or ()), balance, check)
    state = nothing_held()
    text = frontends(options)
    write_files(place, {**map_files(state), BACKENDS: backends(state, chosen.slot_bits, place), FRONTENDS: text})
    print(f"haproxy -W -f {place / FRONTENDS} -f {place / BACKENDS}")


@app.command("follow")
def follow(
    gateway_id: Annotated[str, typer.Option("--id", help="Name of this HAProxy among the gateways.")] = "haproxy-1",
    folder: Folder = None,
    settings: SettingsFile = None,
) -> None:
    """Keep a running HAProxy at the published epoch, until TERM."""
    from foreshard.local.postgres import resolve_url
    from foreshard.proxies.haproxy_driver import Driver

    chosen = configuration.load(settings)
    configuration.check_name("--id", gateway_id)
    driver = Driver(_place(folder, chosen), lambda: resolve_url(chosen), chosen.pool_id, gateway_id)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: driver.stop())
    driver.run()


def _place(folder: Path | None, settings: configuration.Settings) -> Path:
    return (folder or settings.home / "haproxy").resolve()

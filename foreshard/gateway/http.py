"""What the gateway and the pipeline share over HTTP: header names, listening, refusals and metrics text."""

from __future__ import annotations

import gc
import math
import re
import signal
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from types import FrameType

import uvicorn
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp

from foreshard.errors import ForeshardError
from foreshard.gateway.limits import Guard, protocol_for
from foreshard.gateway_settings import GatewaySettings

SHARD = "X-Foreshard-Shard"
MINIMUM_VERSION = "X-Foreshard-Minimum-Version"
APPLIED_VERSION = "X-Foreshard-Applied-Version"
NODE = "X-Foreshard-Node"
LOAD = "X-Foreshard-Load"
EPOCH = "X-Foreshard-Epoch"
REASON = "X-Foreshard-Reason"
TOKEN = "X-Foreshard-Token"
CLASS = "X-Foreshard-Class"
WAIT = "X-Foreshard-Wait"

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NOT_MINE = re.compile(r"not-mine; epoch=(\d{1,18})(?!\d)")


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises ForeshardError if the port is in use or not ours to open."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(1024)
    except (OSError, OverflowError) as error:
        bound.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise ForeshardError(f"cannot listen on {host} port {port}: {reason}; choose another with --port") from None
    return bound


def address(bound: socket.socket) -> str:
    """The URL under which others reach the socket; a wildcard address becomes this machine's name."""
    host, port = bound.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = socket.gethostname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    """Says so when it is asked to stop, answers on for `drain_seconds`, then finishes the requests in hand."""

    def __init__(self, config: uvicorn.Config, asked_to_stop: Callable[[], None], drain_seconds: float) -> None:
        super().__init__(config)
        self._asked_to_stop, self._drain_seconds = asked_to_stop, drain_seconds
        self._stop_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._asked_to_stop()
        if self._stop_at is None and self._drain_seconds:
            self._stop_at = time.monotonic() + self._drain_seconds
            return
        super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        if self._stop_at is not None and time.monotonic() >= self._stop_at:
            self.should_exit = True
        return await super().on_tick(counter)


def serve(
    app: ASGIApp,
    bound: socket.socket,
    asked_to_stop: Callable[[], None] = lambda: None,
    limits: GatewaySettings | None = None,
) -> None:
    """Answers until TERM or INT, goes on for the limits' `drain_seconds`, finishes the requests in hand and returns.

    For the main thread. A second signal ends the draining. `asked_to_stop` is called inside the signal's handler: it must
    not take a lock.
    """
    # uvicorn raises the signal again when it is done: without these the process would then die of it.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    limits = limits or GatewaySettings()
    guard = Guard(app, limits.most_requests)

    def going() -> None:
        guard.is_draining = True
        asked_to_stop()

    config = uvicorn.Config(
        guard,
        http=protocol_for(limits),
        ws="none",
        proxy_headers=False,  # nothing here asks who a caller is by address
        # Below: a line for each request that cannot be understood, as many as somebody cares to send.
        log_level="error",
        access_log=False,
        lifespan="on",
        timeout_graceful_shutdown=10,
        server_header=False,
    )
    # Whoever adopts an epoch or reads a commit makes objects enough for a full collection, in which all queries wait while it
    # looks at every object of every module: 80 ms on an idle core. These never go, so they are left out from now on.
    gc.collect()
    gc.freeze()
    _Server(config, going, limits.drain_seconds).run(sockets=[bound])


def error(status: int, sentence: str, retry_after: float | None = None, headers: Mapping[str, str] | None = None) -> Response:
    """An error that a caller reads: one sentence, and in how many whole seconds to come again."""
    found = dict(headers or {})
    if retry_after is not None:
        found["Retry-After"] = str(max(1, math.ceil(retry_after)))
    return JSONResponse({"error": sentence}, status, found)


def not_mine(epoch: int, headers: Mapping[str, str]) -> Response:
    return PlainTextResponse(f"not-mine; epoch={epoch}", 503, {**headers, "Retry-After": "1"})


def behind(version: int, headers: Mapping[str, str]) -> Response:
    return PlainTextResponse(f"behind; version={version}", 425, {**headers, "Retry-After": "1"})


def not_mine_epoch(body: str) -> int | None:
    """The epoch in a refusal, None if the text is none."""
    match = _NOT_MINE.match(body)
    return int(match[1]) if match else None


def number(text: str | None) -> float | None:
    """A header's finite number of at least 0; None for all else, as a pipeline of another make may send anything."""
    try:
        value = float(text) if text else -1.0
    except ValueError:
        return None
    return value if 0 <= value < math.inf else None


def applied_version(headers: Mapping[str, str]) -> int | None:
    """The source version that an answer is at, None if it does not say."""
    version = number(headers.get(APPLIED_VERSION))
    return None if version is None else int(version)


def header_text(text: str) -> str:
    """The text as a header's value: on one line, of characters that every reader understands."""
    return _CONTROL.sub(" ", text.encode("ascii", "replace").decode())[:1000]


def metrics(values: Mapping[str, float], more: Iterable[str] = ()) -> Response:
    """Prometheus text; a name may carry labels, for example `foreshard_in_flight{node="a"}`. `more`: whole lines."""
    lines: list[str] = []
    for name, value in values.items():
        family = name.partition("{")[0]
        declared = f"# TYPE {family} {'counter' if family.endswith('_total') else 'gauge'}"
        lines += [*([] if declared in lines else [declared]), f"{name} {value:g}"]
    return PlainTextResponse("\n".join((*lines, *more)) + "\n", media_type="text/plain; version=0.0.4")

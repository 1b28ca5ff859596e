"""What the gateway and the pipeline share over HTTP: header names, listening, refusals and metrics text."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Mapping

import uvicorn
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp

from foreshard.errors import ForeshardError

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

_NOT_MINE = re.compile(r"not-mine; epoch=(\d{1,18})")


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


def serve(app: ASGIApp, bound: socket.socket) -> None:
    """Answers until TERM or INT, then finishes the requests in hand and returns. For the main thread."""
    # uvicorn raises the signal again when it is done: without these the process would then die of it.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, lifespan="on", timeout_graceful_shutdown=10, server_header=False
    )
    uvicorn.Server(config).run(sockets=[bound])


def error(status: int, sentence: str, retry_after: float | None = None, headers: Mapping[str, str] | None = None) -> Response:
    """An error that a caller reads: one sentence, and in how many whole seconds to come again."""
    found = dict(headers or {})
    if retry_after is not None:
        found["Retry-After"] = str(max(1, round(retry_after)))
    return JSONResponse({"error": sentence}, status, found)


def not_mine(epoch: int, headers: Mapping[str, str]) -> Response:
    return PlainTextResponse(f"not-mine; epoch={epoch}", 503, {**headers, "Retry-After": "1"})


def behind(version: int, headers: Mapping[str, str]) -> Response:
    return PlainTextResponse(f"behind; version={version}", 425, {**headers, "Retry-After": "1"})


def not_mine_epoch(body: str) -> int | None:
    """The epoch in a refusal, None if the text is none."""
    match = _NOT_MINE.match(body)
    return int(match[1]) if match else None


def metrics(values: Mapping[str, float]) -> Response:
    """Prometheus text; a name may carry labels, for example `foreshard_in_flight{node="a"}`."""
    lines: list[str] = []
    for name, value in values.items():
        family = name.partition("{")[0]
        declared = f"# TYPE {family} {'counter' if family.endswith('_total') else 'gauge'}"
        lines += [*([] if declared in lines else [declared]), f"{name} {value:g}"]
    return PlainTextResponse("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4")

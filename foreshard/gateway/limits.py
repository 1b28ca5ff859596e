"""What a caller may take of a server: bytes of address and headers, time to send and to take, requests in hand.

uvicorn's parser bounds none of the first four. Whatever is over a limit is told so in one sentence, and cut off.
"""

from __future__ import annotations

import asyncio
import json
from asyncio.events import TimerHandle
from http import HTTPStatus
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from foreshard.errors import ForeshardError
from foreshard.gateway_settings import GatewaySettings

_CLOSE = {"Connection": "close"}
# For which a caller that was refused may go on sending. Closed at once, its connection is reset by what comes after, and the
# reset takes the refusal with it before the caller has read it (RFC 9112, 9.6).
_LINGER_SECONDS = 1.0


class BodyRefused(ForeshardError):
    """The body is too large (413), came too slowly (408) or not to its end (400)."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class _OverLimit(Exception):
    """Ends the parsing."""


async def read_body(request: Request, largest: int, seconds: float) -> bytes:
    """The whole body; raises BodyRefused. After that the connection must be closed: the rest of the body is still coming."""
    body = bytearray()
    try:
        if int(request.headers.get("content-length", "0")) > largest:
            raise _too_large(largest)
        async with asyncio.timeout(seconds):
            async for piece in request.stream():
                body += piece
                if len(body) > largest:
                    raise _too_large(largest)
    except TimeoutError:
        raise BodyRefused(408, f"the body did not come within {seconds:g} seconds; send it faster or in several") from None
    except ClientDisconnect:
        raise BodyRefused(400, "the connection broke off before the end of the body") from None
    except ValueError:
        raise BodyRefused(400, "Content-Length must be a whole number") from None
    return bytes(body)


def _too_large(largest: int) -> BodyRefused:
    size = f"{largest >> 20} MiB" if largest >= 1 << 20 else f"{largest >> 10} KiB"
    return BodyRefused(413, f"a body may have {size}; send it in several")


class Guard:
    """Refuses queries beyond the most in hand, and, once `is_draining`, closes connections with their answers."""

    def __init__(self, app: ASGIApp, most_requests: int) -> None:
        self._app, self._most = app, most_requests
        self._in_hand = 0
        self.is_draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/v1/"):
            await self._app(scope, receive, send)
            return
        if self._in_hand >= self._most:
            sentence = f"{self._most} requests are in hand already: come again in a second"
            await JSONResponse({"error": sentence}, 503, {"Retry-After": "1", **_CLOSE})(scope, receive, send)
            return
        self._in_hand += 1
        try:
            await self._app(scope, receive, _closing(send) if self.is_draining else send)
        finally:
            self._in_hand -= 1


def _closing(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
        await send(message)

    return sent


class LimitedProtocol(HttpToolsProtocol):
    """One connection. Made for given limits by `protocol_for`."""

    limits = GatewaySettings()

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._in_headers = False
        self._received = 0  # bytes of the headers that are coming
        self._counted = 0  # bytes of those that came
        self._over: tuple[int, str] | None = None
        self._is_refused = False
        self._late: TimerHandle | None = None
        self._stuck: TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        super().data_received(data)
        if self._in_headers:
            self._received += len(data)
            # A header is only told of when it is complete: one without an end is seen here.
            if self._received > self.limits.url_bytes + self.limits.header_bytes and not self._is_over():
                self._refuse(431, f"address and headers may have {self.limits.url_bytes + self.limits.header_bytes} bytes")
        elif self.cycle is None or self.cycle.response_complete:
            self._arm()  # bytes between requests have ended uvicorn's own timer

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_headers, self._received, self._counted = True, 0, 0
        self._arm()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > self.limits.url_bytes:
            self._give_up(414, f"an address may have {self.limits.url_bytes} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._counted += len(name) + len(value) + 4
        if self._counted > self.limits.header_bytes:
            self._give_up(431, f"headers may have {self.limits.header_bytes} bytes")

    def on_headers_complete(self) -> None:
        self._in_headers = False
        self._disarm()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        status, sentence = self._over or (400, "this is not an HTTP request that can be understood")
        self._refuse(status, sentence)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stuck is None:
            self._stuck = self.loop.call_later(self.limits.answer_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

    def _give_up(self, status: int, sentence: str) -> None:
        self._over = status, sentence
        raise _OverLimit

    def _arm(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(self.limits.header_seconds, self._is_late)

    def _disarm(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _is_late(self) -> None:
        self._late = None
        if self._is_over():
            return
        if self._in_headers:
            self._refuse(408, f"the headers did not come within {self.limits.header_seconds:g} seconds")
        else:
            self.transport.close()

    def _is_over(self) -> bool:
        return self._is_refused or self.transport.is_closing()

    def _refuse(self, status: int, sentence: str) -> None:
        self._is_refused = True
        body = json.dumps({"error": sentence}).encode()
        self.transport.write(
            b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
            % (status, HTTPStatus(status).phrase.encode(), len(body), body)
        )
        self.transport.write_eof()
        self.loop.call_later(_LINGER_SECONDS, self.transport.close)


def protocol_for(limits: GatewaySettings) -> type[LimitedProtocol]:
    """A protocol for uvicorn with these limits."""
    return type("LimitedProtocol", (LimitedProtocol,), {"limits": limits})

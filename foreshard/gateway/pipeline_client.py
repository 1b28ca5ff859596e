"""The gateway's connections to its pipelines: kept open, bounded in number, time and bytes, and nobody else's word taken.

Redirects, cookies, compression and proxies of the environment have no place between a gateway and its pipelines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
from yarl import URL

from foreshard.errors import ForeshardError

LARGEST_ANSWER = 64 << 20
_ENCODING = {"Accept-Encoding": "identity"}


class Unreachable(ForeshardError):
    """The pipeline gave no answer that can be read; the text is the reason in a few words."""


@dataclass(frozen=True, slots=True)
class Reply:
    """`headers` is a mapping that takes names in any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class PipelineClient:
    """For one event loop: made outside it, opened inside by the first `get`."""

    def __init__(self, timeout_seconds: float = 10.0, connect_seconds: float = 1.0, connections: int = 400) -> None:
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=connect_seconds)
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    async def get(self, url: str, query_string: str, headers: Mapping[str, str]) -> Reply:
        """`query_string` is percent-encoded already. Raises Unreachable, never anything else."""
        session = self._session or self._open()
        try:
            address = URL(f"{url}?{query_string}", encoded=True)
            async with session.get(address, headers=headers, allow_redirects=False) as response:
                return Reply(response.status, response.headers, await _body(response))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise Unreachable(type(error).__name__) from None

    async def close(self) -> None:
        """Closes all connections."""
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        # Pipelines close a connection that was idle for 5 seconds: one that is given up before is never closed in use.
        connector = aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=4.0)
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=self._timeout,
            headers=_ENCODING,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )
        return self._session


async def _body(response: aiohttp.ClientResponse) -> bytes:
    length = response.content_length
    if length is not None and length <= LARGEST_ANSWER:
        return await response.read()
    body = bytearray()
    async for piece in response.content.iter_chunked(1 << 16):
        body += piece
        if len(body) > LARGEST_ANSWER:
            response.close()
            raise Unreachable(f"answered with more than {LARGEST_ANSWER >> 20} MiB")
    return bytes(body)

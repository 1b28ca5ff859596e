"""Pipelines of a few lines that speak the contract of docs/gateways.md, over real sockets, and note what they were asked."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from starlette.datastructures import QueryParams


@dataclass(frozen=True)
class Asked:
    """One query as a pipeline understood it."""

    shard_id: int
    entity_id: str
    start: str
    headers: dict[str, str]


@dataclass
class SmallPipeline:
    """Answers every shard until told otherwise. `answer` is (status, body); `gate`, cleared, holds queries in flight."""

    node_id: str
    answer: tuple[int, str] = (200, "[]")
    asked: list[Asked] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    held: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __post_init__(self) -> None:
        self.gate.set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Nobody listens at the address from now on."""
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()

    def shards(self) -> Counter[int]:
        return Counter(query.shard_id for query in self.asked)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        pipeline = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path, _, query = self.path.partition("?")
                if path == "/readyz":
                    return self._say(200, "ready")
                asked = QueryParams(query)
                headers = {name.lower(): value for name, value in self.headers.items()}
                shard = int(headers["x-foreshard-shard"])
                pipeline.asked.append(Asked(shard, asked.get("entity_id", ""), asked.get("start", ""), headers))
                if not pipeline.gate.is_set():
                    pipeline.held.release()
                    pipeline.gate.wait()
                return self._say(*pipeline.answer)

            def _say(self, status: int, body: str) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("X-Foreshard-Node", pipeline.node_id)
                self.end_headers()
                self.wfile.write(body.encode())

            def handle(self) -> None:
                with suppress(ConnectionError):  # a check that is ended by the proxy's own end
                    super().handle()

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        return Handler

"""A full collection in a serving process does not look at what was loaded before it served."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import httpx

from foreshard.local.processes import free_port, start, wait_until

_SERVER = """
import gc, sys
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from foreshard.gateway import http

async def counted(request):
    gc.collect()
    return JSONResponse({"frozen": gc.get_freeze_count(), "looked_at": len(gc.get_objects())})

http.serve(Starlette(routes=[Route("/", counted)]), http.listen("127.0.0.1", int(sys.argv[1])))
"""


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def test_full_collections_look_at_a_small_part_of_a_serving_process(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    child = start([sys.executable, "-c", _SERVER, str(port)], tmp_path / "server.log")
    try:
        wait_until(partial(_answers, url), 60, "the server to answer", child=child)
        counts = httpx.get(url, trust_env=False).json()
    finally:
        child.stop()

    assert counts["looked_at"] < counts["frozen"] / 5

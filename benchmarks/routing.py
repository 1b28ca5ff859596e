"""Routing beside rivals and bounds in one run: how fast gateways choose and follow, and how long the slowest queries take.

`python -m benchmarks.routing [--only decisions,tail,…] [--out figures.json]`. To add a part, write `routing_<part>.py` with a
function `figures() -> list[Figure]` and put its name into PARTS.
"""

from __future__ import annotations

import sys

from benchmarks import figure_tables

PARTS = ("decisions", "tail", "publish", "gateway")
PACKAGES = ("numpy", "numba", "xxhash", "aiohttp", "uvicorn")

if __name__ == "__main__":
    sys.exit(figure_tables.main("routing", PARTS, PACKAGES, __doc__))

"""The planner and the ranking beside rivals and bounds in one run: the table of how fast and how good they are.

`python -m benchmarks.placement [--only keys,zipf,…] [--out figures.json]`. Each benchmark is a process of its own, so that its
peak of memory is its own; compilation happens before what is timed. Rivals are installed into var/ when first needed.
"""

from __future__ import annotations

import sys

from benchmarks import figure_tables

# In order of how long they take: seconds for the first, minutes for the last.
PARTS = ("flow", "zipf", "keys", "small", "million", "chaos")
PACKAGES = ("numpy", "numba", "scipy", "ortools", "pyarrow")

if __name__ == "__main__":
    sys.exit(figure_tables.main("placement", PARTS, PACKAGES, __doc__))

"""uhashring in an environment of its own: reads {"nodes", "prefix", "count"} as JSON, writes {"seconds"} for so many keys."""

from __future__ import annotations

import json
import sys
import time

from uhashring import HashRing


def main() -> None:
    asked = json.load(sys.stdin)
    ring = HashRing(nodes=[f"node-{i:05d}" for i in range(asked["nodes"])])
    keys = [f"{asked['prefix']}{i}" for i in range(asked["count"])]
    node_of = ring.get_node
    for key in keys[:1000]:
        node_of(key)
    began = time.process_time()
    for key in keys:
        node_of(key)
    print(json.dumps({"seconds": time.process_time() - began}))


if __name__ == "__main__":
    main()

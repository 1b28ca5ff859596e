"""A platform of its own for measuring reads: drawn usage, Postgres, four pipelines and a gateway as processes, and plans."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import duckdb
import httpx
import numpy as np
import pyarrow as pa

from benchmarks.open_loop import Question
from foreshard import settings as configuration
from foreshard.hashing import entity_slot
from foreshard.local.postgres import URL_VARIABLE, EmbeddedPostgres
from foreshard.local.processes import ChildProcess, free_port, start, wait_until
from foreshard.model import Layout, Move, MoveKind, Plan, PlanMetrics, Replica
from foreshard.settings import Settings

NODES = ("a", "b", "c", "d")
SLOT_BITS = 6
SHARDS_MOVED = 16
DAYS = 30
FIRST_DAY = datetime(2024, 3, 1, tzinfo=UTC)
ENTITIES, SERVICES, OPERATIONS = 2000, 4, 8
QUESTIONS = 2000
NICE = 10
# How old the data is that queries ask for, in days back from the end, and how often (per cent).
_AGES = ((1, 60), (7, 30), (DAYS, 10))
_SETTINGS = """
home = "."
slot_bits = {slot_bits}

[policy]
min_full_replicas = 2

[transition]
shadow_queries = 20
shadow_seconds = 10
step_seconds = 3
reverse_seconds = 5

[spark]
master = "{master}"
driver_java_options = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""
_NODE = """
[[nodes]]
node_id = "{node_id}"
capacity = 100
url = "http://127.0.0.1:{port}"
"""


class ReadPlatform:
    """Everything in `folder`; `gateway_port` and `questions` are there once it is started."""

    def __init__(self, folder: Path, rows: int) -> None:
        self.folder, self._rows = folder, rows
        self.one_core, self.all_cores = folder / "one_core.toml", folder / "all_cores.toml"
        self.postgres = EmbeddedPostgres(folder / "postgres")
        self.questions: list[Question] = []
        self._children: list[ChildProcess] = []
        self._environment = {name: value for name, value in os.environ.items() if name != URL_VARIABLE}

    def start(self) -> None:
        from foreshard.local.submit import submit
        from foreshard.routing import database, pool

        ports = {node_id: free_port() for node_id in NODES}
        nodes = "".join(_NODE.format(node_id=node_id, port=port) for node_id, port in ports.items())
        for file, master in ((self.one_core, "local[1]"), (self.all_cores, "local[*]")):
            file.write_text(_SETTINGS.format(slot_bits=SLOT_BITS, master=master) + nodes, "utf-8")
        self.settings = configuration.load(self.all_cores)
        self.url = self.postgres.start()
        database.migrate(self.url)
        pool.register(self.url, self.settings)
        submit(self.settings, "follow_source", [])  # makes an empty source
        self.bytes_stored = self._draw()
        self.finished(self.command("init", log="init"), "init")
        for node_id, port in ports.items():
            self._serve(port, "pipeline", "--node", node_id)
        self.gateway_port = free_port()
        self._serve(self.gateway_port, "gateway", "--clock-starts-at", (FIRST_DAY + timedelta(days=DAYS)).isoformat())

    def stop(self) -> None:
        for child in reversed(self._children):
            child.stop()
        self.postgres.stop()

    def carry_out(self, plan_id: str, is_modest: bool) -> ChildProcess:
        """Starts carrying a plan out: with Spark on one core and niced, or with all that the machine has."""
        file, words = (self.one_core, ["--nice", str(NICE)]) if is_modest else (self.all_cores, [])
        return self.command("transition", "run", plan_id, *words, log=plan_id, file=file)

    def finished(self, child: ChildProcess, what: str) -> None:
        wait_until(lambda: not child.is_running(), 900, what, log_path=child.log_path)
        if child.process.returncode:
            raise SystemExit(f"{what} failed:\n{child.log_path.read_text('utf-8')[-3000:]}")

    def command(self, *words: str, log: str, file: Path | None = None) -> ChildProcess:
        """`foreshard` with these words, as a child in a session of its own."""
        command = [sys.executable, "-m", "foreshard.cli", *words, "--settings", str(file or self.all_cores)]
        child = start(command, self.folder / "logs" / f"{log}.log", self._environment)
        self._children.append(child)
        return child

    def propose(self) -> Plan:
        """Stores an approved plan that moves a quarter of the shards to the node with the fewest."""
        from foreshard.placement import codec
        from foreshard.routing import store as epochs
        from foreshard.transition import store

        now = epochs.current(self.url, self.settings.pool_id)
        assert now is not None
        plan = plan_of(self.settings, now.layout, self.bytes_stored // self.settings.slots)
        store.save_plan(self.url, plan, codec.plan_to_document(plan))
        store.record_approval(self.url, self.settings.pool_id, plan.plan_id, "approved", "benchmark")
        return plan

    def _serve(self, port: int, *words: str) -> None:
        child = self.command(*words, "--port", str(port), log="-".join(words[:3]))
        wait_until(partial(_is_ready, port), 60, f"{words[0]} to be ready", child=child)

    def _draw(self) -> int:
        """Writes the source and draws the questions with their answers; returns the bytes of the source."""
        from deltalake import CommitProperties, DeltaTable, write_deltalake

        from foreshard.lake import log

        usage = drawn(self._rows)
        path = self.settings.table("usage_hourly")
        saying = CommitProperties(custom_metadata={"userMetadata": log.packed({"benchmark": self._rows})})
        write_deltalake(path, usage, mode="append", commit_properties=saying)
        self.questions = questions_about(usage)
        return sum(pa.table(DeltaTable(path).get_add_actions(flatten=True))["size_bytes"].to_pylist())


def drawn(rows: int) -> pa.Table:
    """About so many rows of usage_hourly, packed as aggregation packs them; some entities have many, most few."""
    numbers = np.arange(ENTITIES)
    slots = pa.table({"entity": numbers, "slot": [entity_slot(f"e{n}", SLOT_BITS) for n in numbers]})
    with duckdb.connect(":memory:") as database:
        database.execute("SET TimeZone = 'UTC'")
        database.register("slots", slots)
        return database.sql(
            """
            WITH drawn AS (
                SELECT
                    floor($entities * pow((hash(i) % 1000000) / 1e6, 2))::BIGINT AS entity,
                    's' || hash(i + 1000000000) % $services AS service_id,
                    'o' || hash(i + 2000000000) % $operations AS operation_id,
                    $first::TIMESTAMPTZ + to_hours((hash(i + 3000000000) % $hours)::INTEGER) AS hour,
                    hash(i + 4000000000) % 1000 AS quantity
                FROM range($rows) AS numbers(i)
            )
            SELECT 'e' || entity AS entity_id, service_id, operation_id, hour, first(slot)::INTEGER AS slot,
                sum(quantity)::DECIMAL(28, 6) AS quantity, count(*)::BIGINT AS events, hour::DATE AS day
            FROM drawn JOIN slots USING (entity)
            GROUP BY entity, service_id, operation_id, hour
            ORDER BY day, slot, entity_id
            """,
            params={
                **{"entities": ENTITIES, "services": SERVICES, "operations": OPERATIONS, "rows": rows},
                **{"first": FIRST_DAY, "hours": DAYS * 24},
            },
        ).to_arrow_table()


def questions_about(usage: pa.Table) -> list[Question]:
    """What is asked and what is right, always the same ones."""
    chosen = np.random.default_rng(7)
    end = FIRST_DAY + timedelta(days=DAYS)
    keys = [
        {
            "entity_id": f"e{int(ENTITIES * chosen.random() ** 2)}",
            "service_id": f"s{chosen.integers(SERVICES)}",
            "operation_id": f"o{chosen.integers(OPERATIONS)}",
            "start": end - timedelta(days=int(chosen.choice([a for a, _ in _AGES], p=[share / 100 for _, share in _AGES]))),
        }
        for _ in range(QUESTIONS)
    ]
    with duckdb.connect(":memory:") as database:
        database.execute("SET TimeZone = 'UTC'")
        database.register("usage", usage)
        database.register("asked", pa.Table.from_pylist([{"number": n, **key} for n, key in enumerate(keys)]))
        right = database.execute(
            """
            SELECT coalesce(sum(usage.quantity), 0)::BIGINT, coalesce(sum(events), 0)::BIGINT
            FROM asked LEFT JOIN usage ON asked.entity_id = usage.entity_id AND asked.service_id = usage.service_id
                AND asked.operation_id = usage.operation_id AND usage.hour >= asked.start
            GROUP BY number ORDER BY number
            """
        ).fetchall()
    texts = [{**key, "start": key["start"].isoformat(), "end": end.isoformat()} for key in keys]
    grains = chosen.choice(["hour", "day", "total"], len(keys)).tolist()
    return [Question({**t, "granularity": g}, *sums) for t, g, sums in zip(texts, grains, right, strict=True)]


def plan_of(settings: Settings, now: Layout, bytes_a_shard: int) -> Plan:
    """Moves `SHARDS_MOVED` shards that it lacks to the node with the fewest, each from the holder that then has the most."""
    counts = Counter({node_id: 0 for node_id in NODES} | Counter(r.node_id for r in now.replicas))
    target = min(NODES, key=lambda node_id: counts[node_id])
    lacking = [shard for shard in range(settings.slots) if target not in {r.node_id for r in now.of_shard(shard)}]
    held = {(r.shard_id, r.node_id) for r in now.replicas}
    moves = []
    for shard in lacking[:SHARDS_MOVED]:
        source = max((node_id for s, node_id in held if s == shard), key=lambda node_id: (counts[node_id], node_id))
        moves.append(Move(MoveKind.MOVE, shard, source, target, None, bytes_a_shard, "a benchmark"))
        counts[source] -= 1
        held = held - {(shard, source)} | {(shard, target)}
    layout = Layout(now.epoch + 1, tuple(Replica(shard, node_id, 0.5) for shard, node_id in sorted(held)))
    metrics = PlanMetrics(1, 1, 1, len(moves) * bytes_a_shard, 0, len(moves), "benchmark")
    name = f"benchmark-{time.time_ns()}"
    return Plan(name, settings.pool_id, now.epoch, "", tuple(moves), layout, metrics)


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False

"""One plan carried out while its processes are killed, under ingest and queries; what must hold afterwards is checked.

    python tests/live/crash_drill.py SEED [HOW_MANY]

runs the drills of these seeds, one after another, on a platform of its own. What a seed names is the plan, the blows and their
instants; where a process is at that instant is the machine's.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psutil
from crash_blows import Blow, Drill, Victim, drill_of
from crash_checks import check_all
from crash_plans import Drawing, plan_of
from crash_platform import CATCH_UP_VERSIONS, Platform
from crash_traffic import Ingest

from foreshard.errors import ForeshardError, Refused
from foreshard.local.processes import ChildProcess, wait_until
from foreshard.model import Plan
from foreshard.placement import codec
from foreshard.routing import database
from foreshard.routing.database import Row
from foreshard.transition import progress, store, throttle
from foreshard.transition.machine import MoveState
from foreshard.transition.progress import PlanKey

S = MoveState
ENDED = ("done", "rolled_back")
RUNS = 8
SECONDS = 600
COMMITS = 8
# Copies are brought up to the source after every so many drills; in the next one old and new ones can be compared.
FOLLOW_EVERY = 3
POLL_SECONDS = 0.02
_AFTER_CATCHING_UP = frozenset(s.value for s in (S.VERIFIED, S.SHADOWING, S.CUTTING_OVER))


@dataclass(frozen=True)
class Outcome:
    """`struck`: the blows that met somebody; the others came after the plan's end. `compared`: answers of new replicas."""

    plan_id: str
    state: str
    struck: tuple[Blow, ...]
    runs: int
    queries: int
    compared: int
    seconds: float
    moves: str

    def __str__(self) -> str:
        hit = "; ".join(map(str, self.struck)) or "nobody"
        counts = f"{self.queries} queries answered, {self.compared} compared, {self.runs} runs, {self.seconds:.0f} s"
        return f"  {self.moves}: {self.state}; {counts}; hit: {hit}"


def run(platform: Platform, drill: Drill) -> Outcome:
    """Makes a plan, carries it out under the drill's blows, and checks what is left; AssertionError names what is wrong."""
    print(drill, flush=True)
    outcome = _Run(platform, drill).run()
    if drill.seed % FOLLOW_EVERY == FOLLOW_EVERY - 1:
        platform.follow()
    return outcome


class _Run:
    def __init__(self, platform: Platform, drill: Drill) -> None:
        self.platform, self.drill, self.random = platform, drill, random.Random(drill.seed)
        self.settings = platform.settings
        self.plan_id = f"drill-{drill.seed}-{int(time.time() * 1000)}"
        self.key = PlanKey(self.settings.pool_id, self.plan_id, "drill")
        self.blows, self.struck = list(drill.blows), []
        self.moves: list[Row] = []
        self.first_version = platform.source.newest
        self.seen: dict[tuple[str, int], float] = {}

    def run(self) -> Outcome:
        begin, asked = time.monotonic(), self.platform.questions.answered
        plan = self.plan()
        ingest = Ingest(self.platform.source, self.may_write, self.drill.seed)
        try:
            runs = self.carry_out()
        finally:
            ingest.stop()
        assert not ingest.error, ingest.error
        state = self.plan_state()
        asked_back = store.read_plan(self.platform.url, self.settings.pool_id, self.plan_id).rollback_reason
        assert state == "done" or asked_back, f"the plan was taken back though nobody asked: {self.events()}"
        check_all(self.platform, self.plan_id, self.events())
        described = ", ".join(f"{m.kind} {m.shard_id} {m.source}>{m.target}" for m in plan.moves)
        queries = self.platform.questions.answered - asked
        compared = self.platform.compared_since(plan.base_epoch)
        return Outcome(self.plan_id, state, tuple(self.struck), runs, queries, compared, time.monotonic() - begin, described)

    def plan(self) -> Plan:
        needs_old = any(blow.state is S.RETIRING for blow in self.drill.blows)
        newest = self.platform.source.hours[-1].date()
        drawing = Drawing(self.random, self.settings.slots, newest - timedelta(days=1), self.drill.copies, needs_old)
        plan = plan_of(self.settings.pool_id, self.plan_id, self.platform.snapshot().layout, drawing)
        store.save_plan(self.platform.url, plan, codec.plan_to_document(plan))
        store.record_approval(self.platform.url, self.settings.pool_id, self.plan_id, "approved", "drill")
        return plan

    def carry_out(self) -> int:
        """Runs the controller again until the plan has ended; returns how many runs it took."""
        if self.drill.is_throttled:
            throttle.set_rate(self.platform.url, self.settings.pool_id, 500.0)
        until = time.monotonic() + SECONDS
        children = []
        for number in range(1, RUNS + 1):
            child = self.platform.command("transition", "run", self.plan_id, "--wait", "120", log=self.plan_id)
            children.append(child)
            self.watch(child, until)
            if self.plan_state() in ENDED:
                # What a killed controller left working ends by itself.
                wait_until(lambda: not _members(children), 60, "orphans to end", log_path=child.log_path)
                return number
            if not self.drill.waits_for_leases:
                self.expire_dead_leases()
        raise AssertionError(f"not ended after {RUNS} runs: {self.platform_log(child)}")

    def watch(self, child: ChildProcess, until: float) -> None:
        """Strikes when it is time, until the run has ended or was killed."""
        begun = time.monotonic()
        while child.is_running():
            now = time.monotonic()
            assert now < until, f"not ended within {SECONDS} s: {self.platform_log(child)}"
            self.look(now)
            if self.blows and self.is_due(self.blows[0], begun, now) and self.strike(self.blows[0], child):
                self.struck.append(self.blows.pop(0))
                self.after_blow()
            time.sleep(POLL_SECONDS)

    def look(self, now: float) -> None:
        """Notes where the moves are; Postgres may be away."""
        self.moves = self.platform.moves_of(self.plan_id) or self.moves
        for move in self.moves:
            self.seen.setdefault((move["state"], move["step"]), now)
        if self.drill.is_throttled and any(m["bytes_copied"] for m in self.moves):
            with suppress(ForeshardError, AssertionError):
                throttle.set_rate(self.platform.url, self.settings.pool_id, None)

    def is_due(self, blow: Blow, begun: float, now: float) -> bool:
        if blow.state is None:
            return now >= begun + blow.seconds
        steps = [at for (state, step), at in self.seen.items() if state == blow.state and step >= blow.step]
        return bool(steps) and now >= min(steps) + blow.seconds

    def strike(self, blow: Blow, child: ChildProcess) -> bool:
        """Kills; False if there is nobody to kill yet."""
        if blow.victim is Victim.POSTGRES:
            self.platform.kill_postgres(self.random.uniform(0, 2))
            return True
        with suppress(psutil.NoSuchProcess):
            jobs = psutil.Process(child.pid).children(recursive=True)
            if blow.victim is Victim.SPARK and not jobs:
                return False
            victims = [job.pid for job in jobs] if blow.victim is not Victim.CONTROLLER else []
            for pid in victims if blow.victim is Victim.SPARK else [child.pid, *victims]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        return True

    def after_blow(self) -> None:
        if self.drill.is_asked_back and len(self.struck) == 1:
            with suppress(Refused):  # too late for it
                progress.request_rollback(self.platform.url, self.key, "a drill")

    def may_write(self) -> bool:
        """Whether the source may go on: it does not run away from copies that are about to be routed to.

        After the copies were brought up to it, it waits for the new ones: made at the same version, they can be compared.
        """
        source = self.platform.source
        if not self.moves or source.newest - self.first_version >= COMMITS:
            return False
        copies = [m for m in self.moves if m["target"]]
        is_compared = self.drill.seed % FOLLOW_EVERY == 0
        if not is_compared and not any(m["state"] in _AFTER_CATCHING_UP for m in copies):
            return True
        versions = {(r.shard_id, r.node_id): r.applied_version for r in self.replicas()}
        reached = [versions.get((m["shard_id"], m["target"])) for m in copies]
        return all(v is not None and source.newest - v < CATCH_UP_VERSIONS for v in reached)

    def replicas(self) -> list[store.ReplicaRecord]:
        with suppress(ForeshardError, AssertionError):
            return store.read_replicas(self.platform.url, self.settings.pool_id)
        return []

    def expire_dead_leases(self) -> None:
        """Puts the clock forward for the leases of processes that are no more: to wait for it shows nothing new."""
        with database.transaction(self.platform.url) as cursor:
            cursor.execute("SELECT name, holder FROM lease WHERE expires_at > clock_timestamp() FOR UPDATE")
            for row in cursor.fetchall():
                pid = re.search(r"process (\d+)\.", row["holder"])
                if pid and not psutil.pid_exists(int(pid[1])):
                    cursor.execute("UPDATE lease SET expires_at = clock_timestamp() WHERE name = %s", [row["name"]])

    def plan_state(self) -> str:
        return store.read_plan(self.platform.url, self.settings.pool_id, self.plan_id).state

    def events(self) -> str:
        found = store.read_events(self.platform.url, self.settings.pool_id, self.plan_id)
        return "; ".join(f"{e.position} {e.stage} by {e.actor} at epoch {e.epoch}: {e.detail}" for e in found)

    def platform_log(self, child: ChildProcess) -> str:
        return f"{self.events()}\n{child.log_path.read_text('utf-8')[-3000:]}"


def _members(children: Sequence[ChildProcess]) -> list[int]:
    """The processes of the children's groups that still run."""
    groups, found = {child.group for child in children}, []
    for process in psutil.process_iter():
        with suppress(OSError, psutil.Error):
            if os.getpgid(process.pid) in groups and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def main() -> None:
    first, count = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1
    folder = Path(tempfile.mkdtemp(prefix="drill-"))
    print(f"logs and tables stay in {folder} if a drill fails", flush=True)
    platform = Platform(folder)
    try:
        platform.start()
        for seed in range(first, first + count):
            print(run(platform, drill_of(seed)), flush=True)
    finally:
        platform.stop()
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()

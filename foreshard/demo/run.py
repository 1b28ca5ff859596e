"""`make demo`: the whole loop on a real event log, from landing files to routed queries, with a summary for a person.

The first run loads the history by one aggregation, then Airflow carries the last hours to published epochs. A later run
goes on from what is there by one more hour.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console

from foreshard.commands import operate
from foreshard.demo import flights, platform
from foreshard.demo.evidence import busiest, forecast_evidence, intake
from foreshard.demo.measures import load_by_node
from foreshard.demo.memory import PeakMemory
from foreshard.demo.outcome import dag_runs, plan_of, plan_outcome, stages_of
from foreshard.demo.pictures import PipelineLoad, forecast_against_actual, load_per_pipeline
from foreshard.demo.report import DagRun, DemoReport, Routing, Stage, as_json, show
from foreshard.demo.traffic import TrafficResult, asking, replay, sample_queries
from foreshard.demo.weeks import draw_weeks, replayed_weeks
from foreshard.errors import ForeshardError
from foreshard.local.airflow import METADATA_DATABASE, LocalAirflow
from foreshard.local.airflow_api import FINISHED
from foreshard.local.postgres import EmbeddedPostgres
from foreshard.local.spark import driver_java_options
from foreshard.local.submit import submit
from foreshard.model import Layout, Node
from foreshard.placement import initial_layout
from foreshard.replay.playing import Replay
from foreshard.replay.summary import worth
from foreshard.routing import database, pool, store
from foreshard.routing.snapshot import Snapshot
from foreshard.settings import Settings
from foreshard.transition.store import PlanRecord
from foreshard.usage.watermark import watermark

LIVE_FROM = datetime(2013, 12, 1, 10, tzinfo=UTC)
FIRST_LIVE_HOURS = 2
QUERIES_ASKED = 400
ASKED_PER_SECOND = 5.0  # while the plan is carried out
QUIET_POLLS = 6
TURN_SECONDS = 900
# A million rows are worth the second compiler, which the short jobs go without.
LONG_JOB_JAVA_OPTIONS = "-XX:+UseParallelGC"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Turn:
    """What one turn of the live loop left behind; `upto` is the hour that the forecasts begin at."""

    before: Snapshot
    after: Snapshot
    asked_before: TrafficResult
    asked_meanwhile: TrafficResult
    asked_after: TrafficResult
    runs: tuple[DagRun, ...]
    plan: PlanRecord
    stages: tuple[Stage, ...]
    upto: datetime


def main() -> int:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "var/demo")
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - began:4.0f} s] {line}", flush=True)

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    # TERM is met like Ctrl-C, so that what was started is stopped.
    signal.signal(signal.SIGTERM, stop)
    try:
        with PeakMemory() as memory:
            report = run(folder, say, began, memory)
    except ForeshardError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: stopped; the next `make demo` carries on", file=sys.stderr)
        return 1
    show(report, Console())
    (folder / "report.json").write_text(as_json(report), "utf-8")
    return 0


def run(folder: Path, say: Say, began: float, memory: PeakMemory) -> DemoReport:
    """Carries out the demo under `folder` and returns its report; every server it starts is stopped at the end."""
    settings, nodes = platform.settings_of(folder.resolve())
    with ExitStack() as servers:
        postgres = EmbeddedPostgres(settings.home / "postgres")
        say("Postgres: starting the embedded server")
        url = postgres.start()
        servers.callback(postgres.stop)
        database.migrate(url)
        pool.register(url, settings)
        _load_history(settings, nodes, say)
        metadata_url = postgres.create_database(METADATA_DATABASE)
        airflow = LocalAirflow(settings, metadata_url=metadata_url, postgres_url=url, hourly=False)
        servers.callback(airflow.stop)
        # Airflow needs no epoch before the first hour is triggered, so both are made ready side by side.
        with ThreadPoolExecutor(1) as beside:
            up = beside.submit(airflow.start)
            _publish_first_epoch(settings, url, say)
            up.result()
        first, upto = _next_hours(settings)
        flights.write_landing(Path(settings.landing), first, upto, _hash_layout(settings, nodes), nodes, settings.slot_bits)
        say("pipelines and gateway: starting")
        # The gateway's clock starts where the landed hours end, which is what the forecasts will be for.
        parts = servers.enter_context(platform.running(settings, url, upto))
        turn = _turn(settings, airflow, url, parts.gateway_url, first, upto, say)
        airflow.stop()
        say("replay: playing the same weeks under other policies, to say what forecasts are worth on them")
        replayed = replayed_weeks(settings)
        say("pictures: drawing")
        return _report(settings, nodes, url, turn, replayed, began, memory)


def _hash_layout(settings: Settings, nodes: tuple[Node, ...]) -> Layout:
    return initial_layout(range(settings.slots), nodes, settings.policy)


def _load_history(settings: Settings, nodes: tuple[Node, ...], say: Say) -> None:
    if watermark(settings, "query_pattern_observed").hour:
        say("history: already aggregated")
        return
    say("history: five weeks of departures and look-ups land, a file an hour each")
    layout = _hash_layout(settings, nodes)
    flights.write_landing(Path(settings.landing), flights.START, LIVE_FROM, layout, nodes, settings.slot_bits)
    say("history: one aggregation over the range (Spark)")
    hours = ["--from", flights.START.isoformat(), "--to", LIVE_FROM.isoformat()]
    submit(settings, "aggregate", hours, conf={"spark.driver.extraJavaOptions": driver_java_options(LONG_JOB_JAVA_OPTIONS)})


def _publish_first_epoch(settings: Settings, url: str, say: Say) -> None:
    if pool.read_pool(url, settings.pool_id).current_epoch:
        return
    say("init: the plain hash layout is copied to the pipelines, verified and published as epoch 1 (Spark)")
    operate.publish_first_epoch(settings)


def _next_hours(settings: Settings) -> tuple[datetime, datetime]:
    """The hours to go live with: from what is aggregated on, two on the first run and one on a later one."""
    reached = watermark(settings, "query_load").hour
    assert reached is not None
    return reached, reached + timedelta(hours=FIRST_LIVE_HOURS if reached == LIVE_FROM else 1)


def _turn(
    settings: Settings, airflow: LocalAirflow, url: str, gateway_url: str, first: datetime, upto: datetime, say: Say
) -> Turn:
    before = _current(url, settings)
    landed = Path(settings.landing_folder("query_record")) / f"{upto - timedelta(hours=1):%Y-%m-%dT%H}"
    queries = sample_queries(sorted(landed.glob("*.jsonl")), QUERIES_ASKED)
    say(f"gateway: {len(queries)} look-ups of the last hour are asked over HTTP, routed by epoch {before.epoch}")
    asked_before = replay(gateway_url, queries)
    known = frozenset(run.run_id for run in airflow.api.runs())
    hours = [first + timedelta(hours=h) for h in range(int((upto - first) / timedelta(hours=1)))]
    say(f"Airflow: is up; the landed hours {', '.join(f'{h:%d %B %H:00}' for h in hours)} are triggered by partition key")
    for hour in hours:
        airflow.api.trigger("aggregate", partition_key=f"{hour:%Y-%m-%dT%H:%M:%S}")
    progress = Progress(airflow, settings, url, known, upto, say)
    with asking(gateway_url, queries, ASKED_PER_SECOND) as so_far:
        airflow.api.wait_until(progress.is_over, TURN_SECONDS, "Airflow to carry the hours to a published epoch")
        meanwhile = so_far()
    runs = dag_runs(airflow.api, known)
    after = _current(url, settings)
    say(f"gateway: the same look-ups, routed by epoch {after.epoch}")
    plan = plan_of(settings, url, before.epoch)
    asked_after = replay(gateway_url, queries)
    return Turn(before, after, asked_before, meanwhile, asked_after, runs, plan, stages_of(settings, url, plan), upto)


def _current(url: str, settings: Settings) -> Snapshot:
    snapshot = store.current(url, settings.pool_id)
    assert snapshot is not None
    return snapshot


@dataclass
class Progress:
    """Says which DAG runs begin and end, until an epoch with the forecast from `upto` is published and every run has ended."""

    airflow: LocalAirflow
    settings: Settings
    url: str
    known: frozenset[str]
    upto: datetime
    say: Say
    said: dict[str, str] = field(default_factory=dict)
    quiet_polls: int = 0

    def is_over(self) -> bool:
        runs = [run for run in self.airflow.api.runs() if run.run_id not in self.known]
        for run in reversed(runs):
            if run.state != "queued" and self.said.get(run.run_id) != run.state:
                self.said[run.run_id] = run.state
                self.say(f"Airflow: {run.dag_id} {run.partition_key} {run.state}")
        predicted = _current(self.url, self.settings).predicted
        published = bool(predicted) and min(p.interval_start for p in predicted) == self.upto
        # A run that an asset event is about to start is not in the list yet: look again a few times.
        self.quiet_polls = self.quiet_polls + 1 if published and all(run.state in FINISHED for run in runs) else 0
        return self.quiet_polls > QUIET_POLLS


def _report(
    settings: Settings, nodes: tuple[Node, ...], url: str, turn: Turn, replayed: Replay, began: float, memory: PeakMemory
) -> DemoReport:
    seen = forecast_evidence(settings, turn.upto, _hash_layout(settings, nodes), nodes)
    capacity = {node.node_id: node.capacity for node in nodes}
    hourly = seen.actual.T
    before, after = load_by_node(turn.before.layout, hourly), load_by_node(turn.after.layout, hourly)
    folder = settings.home / "pictures"
    folder.mkdir(exist_ok=True)
    loads = [
        PipelineLoad(name, capacity[name], before.get(name, hourly[:, 0] * 0), after.get(name, hourly[:, 0] * 0))
        for name in sorted(capacity)
    ]
    drawn = {
        "forecast against actual": forecast_against_actual(folder / "forecast.png", busiest(settings, seen)),
        "load per pipeline": load_per_pipeline(folder / "load.png", seen.times, loads, settings.policy.target_utilisation),
        **draw_weeks(replayed, folder, settings.home / "replay"),
    }
    target = settings.policy.target_utilisation
    published = next(e for e in store.history(url, settings.pool_id) if e.epoch == turn.after.epoch)
    return DemoReport(
        intake=intake(settings),
        forecast=seen.quality(),
        plan=plan_outcome(settings, url, turn.plan, max(own.peak(own.after) for own in loads), target),
        stages=turn.stages,
        runs=turn.runs,
        routing=Routing(
            *(turn.before.epoch, turn.after.epoch, published.published_at),
            *(turn.asked_before, turn.asked_meanwhile, turn.asked_after),
        ),
        worth=worth(replayed.outcomes),
        pictures=drawn,
        elapsed_seconds=time.monotonic() - began,
        peak_memory_bytes=memory.peak_bytes,
    )


if __name__ == "__main__":
    sys.exit(main())

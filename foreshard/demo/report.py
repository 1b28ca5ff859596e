"""The demo's closing summary: one frozen report, as text for a person at a terminal and as JSON for a program."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from foreshard.demo.traffic import Latency, TrafficResult

WIDTH = 100


@dataclass(frozen=True)
class Intake:
    """What the landing files held and what became of it."""

    files: int
    usage_rows: int  # accepted, each counted once
    query_rows: int
    repeated_rows: int  # seen again and not counted again
    quarantined: dict[str, int]  # reason → rows


@dataclass(frozen=True)
class ForecastQuality:
    """Errors over all shards and steps of the horizon, in weighted requests per second, beside the seasonal naive forecast's.

    `coverage95` is the share of actual values at or below the 0.95 quantile: 0.95 is right.
    """

    origin: datetime
    horizon_hours: int
    shards: int
    models: dict[str, int]  # heaviest member of the model → shards
    mae: float
    naive_mae: float
    pinball95: float
    naive_pinball95: float
    coverage95: float


@dataclass(frozen=True)
class PlanOutcome:
    """What the plan moved and what it was for. Peaks are utilisations (load / capacity) of the busiest pipeline at any step."""

    plan_id: str
    reason: str
    moves: dict[str, int]  # kind → moves
    rows_moved: int
    bytes_moved: int
    bytes_lower_bound: int
    peak_before: float
    peak_predicted: float
    peak_after: float | None  # as it turned out; None where the hours have not come yet
    peak_lower_bound: float
    target_utilisation: float


@dataclass(frozen=True)
class Stage:
    """One stage of the transition, in order."""

    name: str
    seconds: float
    detail: str


@dataclass(frozen=True)
class DagRun:
    """One run that Airflow's scheduler made."""

    dag_id: str
    partition_key: str
    state: str
    seconds: float


@dataclass(frozen=True)
class Routing:
    """The epoch published last, and the same queries asked before it, meanwhile (over and over) and after it."""

    epoch_before: int
    epoch: int
    published_at: datetime
    before: TrafficResult
    meanwhile: TrafficResult
    after: TrafficResult


@dataclass(frozen=True)
class DemoReport:
    """All that the demo shows at its end."""

    intake: Intake
    forecast: ForecastQuality
    plan: PlanOutcome
    stages: tuple[Stage, ...]
    runs: tuple[DagRun, ...]
    routing: Routing
    worth: str  # what forecasts would have been worth on the demo's own weeks, in one sentence
    pictures: dict[str, Path]  # what is seen → file
    elapsed_seconds: float
    peak_memory_bytes: int


def as_json(report: DemoReport) -> str:
    """The report as one JSON object with the dataclasses' field names; times in ISO 8601."""

    def plain(value: object) -> str:
        return value.isoformat() if isinstance(value, datetime) else str(value)

    return json.dumps(asdict(report), indent=2, default=plain, allow_nan=False)


def as_text(report: DemoReport) -> str:
    """The report without colours, at most WIDTH columns wide; only pictures' paths may be longer."""
    console = Console(file=io.StringIO(), width=WIDTH, force_terminal=False)
    show(report, console)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def show(report: DemoReport, console: Console) -> None:
    """Prints the report section by section, in the order of the control loop."""
    _show_intake(report.intake, console)
    _show_forecast(report.forecast, console)
    _show_plan(report.plan, console)
    _show_stages(report, console)
    _show_routing(report.routing, console)
    _heading(console, "7  Replayed: the second half of these weeks")
    console.print(f"  {escape(report.worth)}", highlight=False)
    _heading(console, "Pictures")
    for title, path in report.pictures.items():
        console.print(f"  {escape(title)}\n    {escape(str(path))}", soft_wrap=True, highlight=False)
    memory = report.peak_memory_bytes / (1 << 30)
    console.print(f"\n[bold]Done in {_duration(report.elapsed_seconds)}, at most {memory:.1f} GiB of memory.[/bold]")


def _show_intake(intake: Intake, console: Console) -> None:
    _heading(console, "1  Aggregated")
    refused = sum(intake.quarantined.values())
    rows = [
        ("usage records", f"{intake.usage_rows:,}"),
        ("query records", f"{intake.query_rows:,}"),
        ("landing files", f"{intake.files:,}"),
        ("seen again, counted once", f"{intake.repeated_rows:,}"),
        ("quarantined", f"{refused:,}"),
        *((f"  {reason}", f"{count:,}") for reason, count in sorted(intake.quarantined.items(), key=lambda i: (-i[1], i[0]))),
    ]
    _print(console, ("", "rows"), rows)


def _show_forecast(forecast: ForecastQuality, console: Console) -> None:
    _heading(
        console, f"2  Forecast: {forecast.shards} shards, {forecast.horizon_hours} hours from {_minute(forecast.origin)} UTC"
    )
    rows = [
        ("mean absolute error", *_compared(forecast.mae, forecast.naive_mae)),
        ("pinball loss at 0.95", *_compared(forecast.pinball95, forecast.naive_pinball95)),
    ]
    _print(console, ("requests per second", "forecast", "seasonal naive", "against naive"), rows)
    models = ", ".join(f"{escape(name)} on {count}" for name, count in forecast.models.items())
    console.print(
        f"  {forecast.coverage95:.1%} of the hours stayed within the 0.95 quantile. Mostly: {models}.", highlight=False
    )


def _show_plan(plan: PlanOutcome, console: Console) -> None:
    _heading(console, f"3  Plan {plan.plan_id[:12]}")
    console.print(f"  {escape(plan.reason)}", highlight=False)
    moves = ", ".join(f"{count} {kind}" for kind, count in plan.moves.items()) or "none"
    after = "not known yet" if plan.peak_after is None else f"{plan.peak_after:.1%}"
    rows = [
        ("moves", f"{sum(plan.moves.values())} ({moves})", ""),
        ("rows copied", f"{plan.rows_moved:,}", ""),
        ("bytes copied", _bytes(plan.bytes_moved), _bytes(plan.bytes_lower_bound)),
        ("busiest pipeline before", f"{plan.peak_before:.1%}", ""),
        ("busiest pipeline, predicted", f"{plan.peak_predicted:.1%}", f"{plan.peak_lower_bound:.1%}"),
        ("busiest pipeline, as it came", after, ""),
        ("target utilisation", f"{plan.target_utilisation:.1%}", ""),
    ]
    _print(console, ("", "attained", "lower bound"), rows)


def _show_stages(report: DemoReport, console: Console) -> None:
    _heading(console, "4  Transition")
    _print(console, ("stage", "seconds", "what"), [(s.name, f"{s.seconds:.1f}", s.detail) for s in report.stages], left=(0, 2))
    _heading(console, "   Airflow's runs")
    rows = [(r.dag_id, r.partition_key, r.state, f"{r.seconds:.1f}") for r in report.runs]
    _print(console, ("DAG", "partition", "state", "seconds"), rows, left=(0, 1, 2))


def _show_routing(routing: Routing, console: Console) -> None:
    when = _minute(routing.published_at)
    _heading(console, f"5  Published epoch {routing.epoch} after epoch {routing.epoch_before}, at {when} UTC")
    before, after = routing.before, routing.after
    rows = []
    for node in sorted({*before.by_node, *after.by_node}):
        rows.append((node, *_answered(before.latency_by_node.get(node)), *_answered(after.latency_by_node.get(node))))
    rows.append(("all pipelines", *_answered(before.latency), *_answered(after.latency)))
    _heading(console, "6  Routed: the same queries before and after")
    _print(console, ("pipeline", "before", "p50 ms", "p99 ms", "after", "p50 ms", "p99 ms"), rows)
    for name, result in (("before", before), ("while the plan was carried out", routing.meanwhile), ("after", after)):
        console.print(
            f"  {name}: {result.answered:,} of {result.sent:,} answered ({_counts(result.statuses)})", highlight=False
        )


def _heading(console: Console, text: str) -> None:
    console.print(f"\n[bold]{escape(text)}[/bold]", highlight=False)


def _print(console: Console, header: Iterable[str], rows: Iterable[tuple[str, ...]], left: tuple[int, ...] = (0,)) -> None:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    for index, name in enumerate(header):
        table.add_column(escape(name), justify="left" if index in left else "right", overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console.print(table)


def _compared(own: float, naive: float) -> tuple[str, str, str]:
    change = f"{own / naive - 1:+.1%}" if naive else "-"
    return f"{own:.5f}", f"{naive:.5f}", change


def _answered(latency: Latency | None) -> tuple[str, str, str]:
    if latency is None or latency.p50_ms is None or latency.p99_ms is None:
        return "0", "-", "-"
    return f"{latency.answered:,}", f"{latency.p50_ms:.1f}", f"{latency.p99_ms:.1f}"


def _counts(counts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {count:,}" for name, count in counts.items())


def _minute(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M")


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} TiB"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"

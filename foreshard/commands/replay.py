"""`foreshard replay`: what policies of capacity would have cost on a recorded load, and what they would have missed."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foreshard.commands.options import print_table
from foreshard.errors import ForeshardError

if TYPE_CHECKING:
    from foreshard.replay.outcome import Outcome
    from foreshard.replay.playing import Point, Replay
    from foreshard.replay.trace import Trace

# Two lines each, so that the table fits 80 columns.
_COLUMNS = ["policy", "requests\nover", "time\nover", "p99\n(ms)", "node-\nhours", "moved\n(GB)", "moves", "imba-\nlance"]


def add_to(app: typer.Typer) -> None:
    app.command("replay")(replay_trace)


def replay_trace(
    trace: Annotated[
        Path, typer.Option(help="A folder with trace.parquet and trace.json, or a pool's folder of Delta tables (own data).")
    ],
    out: Annotated[Path, typer.Option(help="Where the figures are written (JSON).")],
    policies: Annotated[str, typer.Option(help="Policies to play, comma-separated; default: all.")] = "",
    train_days: Annotated[float | None, typer.Option(help="Days before the test; default: half of the trace.", min=0.0)] = None,
    report: Annotated[Path | None, typer.Option(help="Folder for a page (HTML) with pictures (PNG).")] = None,
    frontier: Annotated[
        bool, typer.Option("--frontier", help="Play each policy at several settings: overload against node-hours.")
    ] = False,
) -> None:
    """Replay a recorded load under several policies: overload, node-hours, bytes moved. Changes nothing anywhere."""
    from foreshard.replay.own_data import read_own_or_trace
    from foreshard.replay.playing import POLICIES, replay
    from foreshard.replay.playing import frontier as frontier_of
    from foreshard.replay.summary import worth

    chosen = tuple(dict.fromkeys(name.strip() for name in policies.split(",") if name.strip()))
    if policies and not chosen:
        raise ForeshardError("--policies names none; leave it away for all of them")
    if train_days is not None and not math.isfinite(train_days):
        raise ForeshardError(f"--train-days is {train_days}; give a number of days")
    _refuse_unwritable(out, report)
    read = read_own_or_trace(trace)
    typer.echo(_begins(read, read.test_start(train_days)), err=True)
    replayed = replay(read, chosen or POLICIES, train_days)
    points = frontier_of(replayed) if frontier else None
    _write(out, document(replayed, points))
    print_table(f"{read.name}: the test period under each policy", _COLUMNS, [_row(n, o) for n, o in replayed.outcomes.items()])
    for note in replayed.notes:
        typer.echo(f"Note: {note}.")
    if sentence := worth(replayed.outcomes):
        typer.echo(sentence)
    if report is not None:
        from foreshard.replay.report import write_report

        typer.echo(f"The report is in {write_report(replayed, report, points)}.")


def document(replayed: Replay, points: Mapping[str, tuple[Point, ...]] | None = None) -> dict[str, Any]:
    """What is written to `--out`."""
    found: dict[str, Any] = {
        "trace": replayed.trace.name,
        "interval_seconds": replayed.trace.interval_seconds,
        "policies": {name: outcome.as_document() for name, outcome in replayed.outcomes.items()},
        "notes": list(replayed.notes),
    }
    if points is not None:
        found["frontier"] = {name: [vars(point) for point in curve] for name, curve in points.items()}
    return found


def _begins(trace: Trace, test_start: int) -> str:
    length = len(trace.requests)
    days = (length - test_start) * trace.interval_seconds / 86_400
    return (
        f"{trace.name}: {trace.entities:,} entities on {len(trace.shard_ids)} shards, {length:,} intervals of "
        f"{trace.interval_seconds // 60} min; the test is the last {days:.3g} days …"
    )


def _refuse_unwritable(out: Path, report: Path | None) -> None:
    """Before the work, not after it."""
    if out.is_dir():
        raise ForeshardError(f"--out {out} is a folder; give a file")
    if report is not None and report.exists() and not report.is_dir():
        raise ForeshardError(f"--report {report} is a file; give a folder")
    for folder in filter(None, (out.parent, report)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ForeshardError(f"{folder} cannot be made: {error.strerror}; give a folder that can be written to") from error


def _write(out: Path, found: dict[str, Any]) -> None:
    """The whole file, or none."""
    unfinished = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        unfinished.write_text(json.dumps(found, indent=2, allow_nan=False) + "\n", "utf-8")
        os.replace(unfinished, out)
    except OSError as error:
        raise ForeshardError(f"{out} cannot be written: {error.strerror}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def _row(name: str, outcome: Outcome) -> list[str]:
    from foreshard.replay.summary import part

    return [
        name,
        part(outcome.overload_request_share),
        part(outcome.overload_interval_share),
        f"{outcome.p99_latency_ms:,.4g}" if outcome.p99_latency_ms < 1_000 else f"{outcome.p99_latency_ms:,.0f}",
        f"{outcome.node_hours:,.1f}",
        f"{outcome.bytes_moved / 1e9:,.4g}" if outcome.bytes_moved < 1e12 else f"{outcome.bytes_moved / 1e9:,.0f}",
        f"{outcome.moves:,}",
        f"{outcome.imbalance_p95:.2f}",
    ]

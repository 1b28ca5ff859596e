"""A replay as one HTML page that loads nothing: pictures are within it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from datetime import timedelta
from html import escape
from pathlib import Path

from foreshard.checks.stylesheet import STYLE
from foreshard.placement.explanation.wording import size
from foreshard.replay.defaults import Defaults
from foreshard.replay.playing import Point, Replay
from foreshard.replay.reconfigurations import Reconfiguration
from foreshard.replay.summary import part, worth

# As the other pages' policy, with pictures of its own allowed.
_HEAD = (
    '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">"
    f"<style>{STYLE} img {{ background: #fff; max-width: 100% }}"
    " .figures.left td, .figures.left th, .figures td:first-child, .figures th:first-child"
    " { text-align: left; white-space: normal }</style>"
)
_FIGURES = (
    "policy",
    "requests above capacity",
    "time with a node in overload",
    "p99 latency, estimated",
    "node-hours",
    "moved",
    "copies",
    "imbalance, p95",
    "reconfigurations",
)
_CHANGES = ("policy", "when (UTC)", "nodes", "shards changed", "copies", "to copy")


def page(
    replayed: Replay,
    pictures: Sequence[tuple[str, Path]],
    largest: Sequence[Reconfiguration],
    points: Mapping[str, Sequence[Point]],
) -> str:
    """The page. `pictures`: what each says, and its PNG file; `largest`: the reconfigurations to list; `points`: frontiers."""
    name = escape(replayed.trace.name)
    notes = "".join(f"<li>{escape(note)}</li>" for note in replayed.notes)
    shown = "".join(f"<h2>{escape(title)}</h2>{_image(file, title)}" for title, file in pictures)
    return (
        f'<!doctype html><html lang="en"><head>{_HEAD}<title>{name}: replay</title></head><body><h1>{name}: replay</h1>'
        f"<p>{escape(worth(replayed.outcomes))}</p><p class='dim'>{escape(_period(replayed))}</p>"
        + (f"<h2>What limits this</h2><ul>{notes}</ul>" if notes else "")
        + f"<h2>Figures</h2>{_figures(replayed)}{shown}{_changes(largest)}{_frontier(points)}"
        + f"<h2>What was assumed</h2>{_assumed(replayed.pool.defaults, replayed.pool.capacity)}</body></html>\n"
    )


def _period(replayed: Replay) -> str:
    trace, load = replayed.trace, replayed.load
    begin = trace.start + timedelta(seconds=load.test_start * trace.interval_seconds)
    end = trace.start + timedelta(seconds=len(load.rates) * trace.interval_seconds)
    return (
        f"{trace.entities:,} entities on {len(trace.shard_ids):,} shards, intervals of {trace.interval_seconds // 60} min; "
        f"known before the test: {trace.start:%F %H:%M} to {begin:%F %H:%M}; test: to {end:%F %H:%M} UTC"
    )


def _figures(replayed: Replay) -> str:
    rows = [
        (
            name,
            part(o.overload_request_share),
            part(o.overload_interval_share),
            f"{o.p99_latency_ms:,.0f} ms",
            f"{o.node_hours:,.1f}",
            size(o.bytes_moved),
            f"{o.moves:,}",
            f"{o.imbalance_p95:.2f}",
            f"{o.reconfigurations:,}",
        )
        for name, o in replayed.outcomes.items()
    ]
    patience = replayed.pool.defaults.patience_ms
    return _table(_FIGURES, rows) + (
        f"<p class='dim'>A p99 of {patience:,.0f} ms is the caller's patience: more than 1 % of the requests came to a node "
        "that was at its capacity or above. The oracle's moves are the least that spreading evenly over its nodes takes.</p>"
    )


def _changes(largest: Sequence[Reconfiguration]) -> str:
    if not largest:
        return ""
    rows = [
        (
            r.policy,
            f"{r.at:%F %H:%M}",
            f"{r.nodes_before} → {r.nodes_after}",
            f"{r.shards:,}",
            f"{r.copies:,}",
            size(r.bytes_asked),
        )
        for r in largest
    ]
    return (
        f"<h2>Largest reconfigurations of each policy</h2>{_table(_CHANGES, rows)}"
        "<p class='dim'>Against the layout asked for before; what was under way by then is copied in part.</p>"
    )


def _frontier(points: Mapping[str, Sequence[Point]]) -> str:
    rows = [
        (name, point.knob, f"{point.node_hours:,.1f}", part(point.overload_request_share))
        for name, curve in points.items()
        for point in curve
        if len(curve) > 1
    ]
    head = ("policy", "setting", "node-hours", "requests above capacity")
    return f"<h2>The frontier in figures</h2>{_table(head, rows)}" if rows else ""


def _assumed(defaults: Defaults, capacity: float) -> str:
    rows = [
        ("a node carries", f"{part(defaults.node_peak_share)} of the trace's highest load: {capacity:,.4g} requests a second"),
        ("it is meant to carry at most", part(defaults.target)),
        ("it boots in", f"{defaults.boot_seconds} s"),
        ("it sends and receives", f"{size(defaults.copy_bytes_per_second)} per second each; a copy is verified in "
         f"{defaults.verify_seconds} s"),
        ("while it does so it carries", part(defaults.capacity_while_copying)),
        ("replicas of a shard", f"{defaults.replicas} to {defaults.max_replicas}"),
        ("bytes", f"{size(defaults.bytes_per_request)} a request, kept for {defaults.kept_days:g} days; a hot replica has "
         f"{defaults.hot_days:g} of them, which answer {part(defaults.recent_share)} of the requests"),
        ("decisions", f"every {defaults.decision_seconds} s; played in steps of {defaults.step_seconds} s"),
        ("latency", f"{defaults.servers} servers a node, {defaults.service_ms:g} ms a request"),
    ]  # fmt: skip
    return _table(("", "the same for every trace and policy"), rows, "left")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], look: str = "") -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div class='scroll'><table class='figures {look}'><tr>{top}</tr>{body}</table></div>"


def _image(file: Path, title: str) -> str:
    data = base64.b64encode(file.read_bytes()).decode("ascii")
    return f'<img alt="{escape(title)}" src="data:image/png;base64,{data}">'
